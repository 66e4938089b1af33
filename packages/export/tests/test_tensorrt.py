"""Real builds by TensorRT-RTX, which needs no GPU for it; what it cannot show is said in the README."""

import logging
from pathlib import Path
from typing import Any

import onnx
import pytest
from fastvid_export import BuildError, EngineError, TensorRT, build_engine, load_engine
from fastvid_export.backends import trt_api
from fastvid_export.backends.tensorrt import RTX_CAPABILITIES
from fastvid_export.backends.tensorrt_child import build
from fastvid_export.backends.trt_api import BuilderOptions, load_api
from fastvid_export.load import read_record
from onnx import TensorProto, helper

from .engines import PROFILES, small

pytest.importorskip("tensorrt_rtx", reason="builds of TensorRT-RTX need its package, which is there for Linux only")

RTX = TensorRT(kind="tensorrt_rtx", flavour="portable", compute_capabilities=RTX_CAPABILITIES)


def test_an_engine_of_three_profiles(tmp_path: Path) -> None:
    record = build_engine(small(), tmp_path / "rtx", backend=RTX, profiles=PROFILES)
    assert read_record(tmp_path / "rtx") == record
    assert record.target == ("sm80", "sm89", "sm120")
    assert (record.backend, record.parity_of, record.parity["passed"]) == ("tensorrt_rtx", "graph", True)
    assert record.files[0].size > 1000
    assert build_engine(small(), tmp_path / "rtx", backend=RTX, profiles=PROFILES) == record
    with pytest.raises(EngineError, match="was built for sm80 sm89 sm120, and there is no GPU here"):
        load_engine(tmp_path / "rtx", expect=small())


Shape = tuple[int, ...]
Ranges = dict[str, tuple[Shape, Shape, Shape]]


def save(path: Path, nodes: list[Any], shape: list[Any], kind: int = TensorProto.FLOAT, **constants: Any) -> Path:
    """A graph of x -> y."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [helper.make_tensor(name, TensorProto.INT64, [len(value)], value) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10), path)
    return path


def request(graph: Path, ranges: Ranges, **options: Any) -> dict[str, Any]:
    chosen = {"compute_capabilities": (89,), "workspace": None, "optimization_level": None} | options
    return {
        "kind": "tensorrt_rtx",
        "graph": str(graph),
        "plan": str(graph.with_suffix(".plan")),
        "options": {"tf32": False} | chosen,
        "profiles": [ranges],
        "timing_cache": None,
        "gpu": None,
    }


def pairs(folder: Path) -> Path:
    """Rows in pairs, which only an even number of them allows."""
    return save(folder / "g.onnx", [helper.make_node("Reshape", ["x", "s"], ["y"])], ["h", 4], s=[-1, 2, 4])


def attention(folder: Path, kind: int, heads: int = 2, width: int = 16) -> Path:
    node = helper.make_node("Attention", ["x", "x1", "x2"], ["y"])
    copies = [helper.make_node("Mul", ["x", "x"], ["x1"]), helper.make_node("Add", ["x", "x"], ["x2"])]
    return save(folder / "a.onnx", [*copies, node], [1, heads, "n", width], kind)


def span(low: int, middle: int, high: int, *rest: int) -> Ranges:
    return {"x": ((low, *rest), (middle, *rest), (high, *rest))}


def test_a_profile_that_breaks_a_shape_is_an_error_and_not_a_warning(tmp_path: Path) -> None:
    graph = pairs(tmp_path)
    build(request(graph, span(2, 4, 8, 4)))
    graph.with_suffix(".plan").unlink()
    with pytest.raises(BuildError, match=r"would fail when it runs: .*kMAX values are not self-consistent"):
        build(request(graph, span(2, 4, 7, 4)))
    assert not graph.with_suffix(".plan").exists()


@pytest.mark.parametrize(
    ("ranges", "options", "message"),
    [
        (span(4, 2, 8, 4), {}, "profile 0 is not legal"),
        (
            span(2, 4, 8, 4) | {"z": ((1,), (1,), (1,))},
            {},
            r"has shapes for \['x', 'z'\], the graph has inputs \['x'\]",
        ),
        (span(2, 4, 8, 4), {"compute_capabilities": (90,)}, "builds for no GPU of compute capability 90"),
    ],
)
def test_profiles_and_targets_that_are_refused(
    tmp_path: Path, ranges: Ranges, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BuildError, match=message):
        build(request(pairs(tmp_path), ranges, **options))


def test_top_k_of_more_than_3840_is_refused(tmp_path: Path) -> None:
    """What a matching inside the graph would need; so indices are inputs."""
    nodes = [helper.make_node("TopK", ["x", "k"], ["y", "i"])]
    graph = save(tmp_path / "k.onnx", nodes, [1, "n"], k=[3841])
    with pytest.raises(BuildError, match="3840"):
        build(request(graph, {"x": ((1, 4000), (1, 4000), (1, 4000))}))


def test_attention_in_float32_says_what_to_do(tmp_path: Path) -> None:
    ranges: Ranges = {"x": ((1, 2, 8, 16), (1, 2, 64, 16), (1, 2, 128, 16))}
    build(request(attention(tmp_path, TensorProto.FLOAT16), ranges))
    with pytest.raises(BuildError, match=r"has no kernel for this type, or .* in float16 or bfloat16, or .* portable"):
        build(request(attention(tmp_path, TensorProto.FLOAT), ranges))


@pytest.mark.parametrize(("heads", "width"), [(2, 8), (2, 512), (1, 16)])
def test_attention_of_heads_that_no_kernel_has_says_so(tmp_path: Path, heads: int, width: int) -> None:
    """512 is what the one head in the middle of OD-VAE has, which is for the portable flavour therefore."""
    ranges: Ranges = {"x": ((1, heads, 8, width), (1, heads, 64, width), (1, heads, 128, width))}
    with pytest.raises(BuildError, match="has no kernel for this type, or for heads of this width or number"):
        build(request(attention(tmp_path, TensorProto.FLOAT16, heads, width), ranges))


def test_a_graph_that_cannot_be_read(tmp_path: Path) -> None:
    graph = tmp_path / "g.onnx"
    graph.write_bytes(b"no graph at all")
    with pytest.raises(BuildError, match="cannot read the graph"):
        build(request(graph, span(2, 4, 8, 4)))


def test_options_reach_the_builder(tmp_path: Path) -> None:
    options = {"workspace": 2**28, "optimization_level": 1, "tf32": True}
    assert build(request(pairs(tmp_path), span(2, 4, 8, 4), **options))["version"] == load_api("tensorrt_rtx").version


@pytest.mark.parametrize("plan", [b"", b"short", b"\0" * 1000])
def test_a_plan_that_is_none_is_refused_with_the_reason(plan: bytes) -> None:
    with pytest.raises(EngineError, match="refuses the engine"):
        load_api("tensorrt_rtx").load(plan)


@pytest.mark.parametrize("kind", ["tensorrt", "tensorrt_rtx"])
def test_without_its_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: Any) -> None:
    def absent(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(trt_api, "import_module", absent)
    load_api.cache_clear()
    extra = "tensorrt" if kind == "tensorrt" else "rtx"
    capabilities = () if kind == "tensorrt" else (89,)
    try:
        with pytest.raises(ImportError, match=rf'{kind} cannot be imported .*pip install "fastvid-export\[{extra}\]"'):
            build_engine(
                small(),
                tmp_path / "e",
                backend=TensorRT(kind=kind, compute_capabilities=capabilities),
                profiles=PROFILES,
            )
    finally:
        load_api.cache_clear()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "tensorrt", "compute_capabilities": (89,)}, "`compute_capabilities` has no effect with 'tensorrt'"),
        ({"kind": "tensorrt_rtx"}, "`compute_capabilities` must name the GPUs"),
        ({"kind": "tensorrt", "optimization_level": 7}, "must be 0 to 5, got 7; the nearest legal value is 5"),
        ({"kind": "tensorrt", "workspace": 0}, "`workspace` must be a number of bytes above 0"),
        (
            {"kind": "tensorrt_rtx", "compute_capabilities": (89,), "timing_cache": Path("x")},
            "`timing_cache` has no effect",
        ),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TensorRT(**settings)


def test_its_messages_are_log_records(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    build(request(pairs(tmp_path), span(2, 4, 8, 4)))
    assert any("steps" in message for message in caplog.messages)
    assert BuilderOptions() == BuilderOptions(tf32=False)
