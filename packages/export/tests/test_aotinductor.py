from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fastvid_export import (
    AOTInductor,
    BuildError,
    EngineError,
    Exportable,
    TorchTensorRT,
    build_engine,
    load_engine,
)
from fastvid_export.backends import aotinductor_child, torch_tensorrt, torch_tensorrt_child
from fastvid_export.backends.torch_program import prepare_program

from .engines import PROFILES, profile, small


def test_native_code_that_computes_what_the_module_computes(tmp_path: Path) -> None:
    record = build_engine(small(), tmp_path / "aoti", backend=AOTInductor(), profiles=PROFILES)
    assert (record.parity_of, record.parity["passed"], record.flavour) == ("engine", True, "torch")
    assert record.target[0] == "cpu"
    engine = load_engine(tmp_path / "aoti", expect=small()).engine
    for shape in ((1, 1, 4), (3, 5, 4), (4, 32, 4), (1, 64, 4)):
        x = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(engine({"x": x})[0], small().module(x))
    with pytest.raises(EngineError, match="t = 65"):  # native code itself checks no range
        engine({"x": torch.zeros(1, 65, 4)})


def test_the_key_needs_no_build_and_stays_the_same(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = (prepare_program(small(), tmp_path / name) for name in "ab")
    assert one.graph == other.graph
    assert prepare_program(wider(), tmp_path / "a").graph != one.graph


def test_a_graph_whose_indices_torch_cannot_fold_is_built_without(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def compile_once(request: dict[str, object], options: dict[str, object]) -> None:
        asked.append(options)
        if "constant_and_index_propagation" not in options:
            raise AssertionError("vr must not be None for symbol q2")

    monkeypatch.setattr(aotinductor_child, "_compile", compile_once)
    aotinductor_child.build({"options": {"max_autotune": True}, "gpu": None})
    assert asked == [{"max_autotune": True}, {"max_autotune": True, "constant_and_index_propagation": False}]


def test_any_other_failure_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    def fail(*request: object) -> None:
        calls.append(request)
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(aotinductor_child, "_compile", fail)
    with pytest.raises(BuildError, match="aotinductor built no engine: RuntimeError: no C"):
        aotinductor_child.build({"options": {}, "gpu": None})
    assert len(calls) == 1


def wider() -> Exportable:
    return replace(small(), axes={**small().axes, "t": replace(small().axes["t"], maximum=65)})


def test_devices_that_are_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BuildError, match="`device` is 'cuda', and there is no GPU here; 'cpu' would run"):
        build_engine(small(), tmp_path / "e", backend=AOTInductor(device="cuda"), profiles=PROFILES)
    with pytest.raises(ValueError, match="`device` must be 'cpu' or 'cuda', got 'tpu'"):
        AOTInductor(device="tpu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`device` is 'cuda', the fake lies on 'cpu'; move it there"):
        AOTInductor(device="cuda").prepare(small(), tmp_path, None)
    assert list(tmp_path.iterdir()) == []


def test_torch_tensorrt_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str) -> str:
        raise torch_tensorrt.PackageNotFoundError(package)

    monkeypatch.setattr(torch_tensorrt, "version", absent)
    with pytest.raises(ImportError, match=r'pip install "fastvid-export\[tensorrt\]"'):
        build_engine(small(), tmp_path / "e", backend=TorchTensorRT(), profiles=PROFILES)
    monkeypatch.setattr(torch_tensorrt, "version", lambda package: "2.13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BuildError, match="builds on the GPU it builds for, and there is none here"):
        build_engine(small(), tmp_path / "e", backend=TorchTensorRT(), profiles=PROFILES)

    def broken(name: str) -> None:
        raise OSError("Could not find libnvinfer.so.11")

    monkeypatch.setattr(torch_tensorrt, "import_module", broken)
    with pytest.raises(ImportError, match=r"cannot be imported here: Could not find libnvinfer.so.11"):
        torch_tensorrt.import_torch_tensorrt()


def test_what_torch_tensorrt_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a stand-in: no causal mask is assumed, and every input has its range."""
    told: dict[str, object] = {}
    stand_in = SimpleNamespace(
        __version__="2.13.0",
        Input=lambda **settings: settings,
        dynamo=SimpleNamespace(compile=lambda program, **settings: told.update(settings) or "compiled"),
        save=lambda module, path, **settings: Path(path).write_text(module),
    )
    monkeypatch.setattr(torch_tensorrt_child, "import_torch_tensorrt", lambda: stand_in)
    monkeypatch.setattr(
        torch_tensorrt,
        "run_child",
        lambda module, request, folder: torch_tensorrt_child.build(request),
    )
    prepared = prepare_program(small(), tmp_path)
    inputs = [SimpleNamespace(name="x", dtype="float32", concrete=lambda sizes: (sizes["b"], sizes["t"], 4))]
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: told.update(gpu=number))
    backend = TorchTensorRT(require_full_compilation=True)
    (path,) = backend.compile(prepared, inputs, [profile()], tmp_path)  # type: ignore[arg-type]
    assert path.read_text() == "compiled"
    assert told == {
        "arg_inputs": (),
        "kwarg_inputs": {
            "x": {
                "min_shape": (1, 1, 4),
                "opt_shape": (2, 6, 4),
                "max_shape": (4, 32, 4),
                "dtype": torch.float32,
                "name": "x",
            }
        },
        "attn_bias_is_causal": False,
        "require_full_compilation": True,
        "gpu": 3,  # where the caller is
    }
    with pytest.raises(ValueError, match="`profiles` must be one for torch-tensorrt"):
        backend.compile(prepared, inputs, PROFILES, tmp_path)  # type: ignore[arg-type]
