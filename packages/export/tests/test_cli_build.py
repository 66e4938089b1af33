"""The verbs `export build` and `export inspect`."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fastvid_export import discovery
from fastvid_export.cli import export
from fastvid_export.commands.build import BackendFlags, BackendName, geometry
from fastvid_export.commands.parts import Graph
from typer.testing import CliRunner, Result

from .serving.served import Transformer
from .test_cli import CLASSES, FakeEntryPoint, model_folder


@pytest.fixture(autouse=True)
def _offered(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(*, group: str) -> list[FakeEntryPoint]:
        return [FakeEntryPoint(name, group) for name in CLASSES[group]]

    monkeypatch.setattr(discovery, "entry_points", entry_points)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(export, [str(argument) for argument in arguments])


def build(folder: Path, output: Path, *flags: str | Path) -> Result:
    given = ("--part", "decoder", "--backend", "onnxruntime", "--workload", "5x16x16")
    return run("build", folder, "--output", output, *given, *flags)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine of the fake decoder, made by the verb."""
    folder = tmp_path_factory.mktemp("engine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discovery, "entry_points", lambda *, group: [FakeEntryPoint(n, group) for n in CLASSES[group]])
        result = build(model_folder(folder / "model"), folder / "decoder", "--workload", "9x16x32:merged=0.5", "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record == json.loads((folder / "decoder" / "engine.json").read_text())
    assert [profile["name"] for profile in record["profiles"]] == ["dense", "merged"]
    assert record["profiles"][0]["axes"] == {"b": [1, 1, 1], "t": [3, 3, 5], "h": [4, 4, 4], "w": [4, 4, 8]}
    return folder / "decoder"


def test_inspect_says_what_is_there(engine: Path) -> None:
    result = run("inspect", engine)
    assert result.exit_code == 0
    for part in (
        "onnxruntime",
        "takes latents float32 (b, 4, t, h, w)",
        "gives frames",
        "profile merged: b=1:1:1 t=3:4:5",
    ):
        assert part in result.stdout
    assert "compared with eager: the engine; " in result.stdout
    assert json.loads(run("inspect", engine, "--json").stdout)["key"] in result.stdout


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_inspect_of_a_damaged_engine_is_exit_code_1(engine: Path, tmp_path: Path, json_flag: list[str]) -> None:
    for file in engine.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes() + b" ")
    result = run("inspect", tmp_path, *json_flag)
    assert result.exit_code == 1
    assert "error: " in result.stderr
    assert "bytes" in result.stderr
    if json_flag:
        assert json.loads(result.stdout)["exit_code"] == 1


def test_a_graph_that_is_wrong_is_exit_code_1_and_no_folder(tmp_path: Path) -> None:
    """Wrong for a single frame, so only an engine that is to take one is refused."""
    result = build(model_folder(tmp_path / "model", "Baking"), tmp_path / "engine", "--workload", "1x16x16")
    assert result.exit_code == 1
    assert "comparisons with eager failed" in result.stderr
    assert not (tmp_path / "engine").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workload", "5x17x16"], "`height` of a workload must be a multiple of 4 here, got 17"),
        (["--workload", "five"], "`workload` is 'five'; expected FRAMESxHEIGHTxWIDTH"),
        (["--compute-capability", "89"], "`compute_capabilities` has no effect on onnxruntime"),
        (["--stride", "2x4x4"], "`stride` has no effect where there is an autoencoder, which says it"),
        (["--no-causal"], "`causal` has no effect where there is an autoencoder"),
        (["--cell", "1x2x2"], "`cell` has no effect on a graph that keeps all tokens"),
        (["--tf32"], "`tf32` has no effect on onnxruntime"),
        (["--max-autotune"], "`max_autotune` has no effect on onnxruntime"),
        (["--require-full-compilation"], "`require_full_compilation` has no effect on onnxruntime"),
        (["--device", "cuda"], "`device` is 'cuda', and torch .* finds no such GPU here; legal: cpu"),
        (["--device", "tpu"], "`device` is 'tpu'; expected cpu, cuda or the number of a GPU"),
        (["--provider", "npu"], "`provider` must be one of cpu, cuda, tensorrt"),
        (["--text-mask"], "`text_mask` has no effect on the decoder"),
    ],
)
def test_mistakes_are_value_errors(tmp_path: Path, flags: list[str], message: str) -> None:
    result = build(model_folder(tmp_path / "model"), tmp_path / "engine", *flags)
    assert isinstance(result.exception, ValueError)
    with pytest.raises(ValueError, match=message):
        raise result.exception
    assert not (tmp_path / "engine").exists()


def test_a_model_outside_a_pipeline_has_no_stride_of_its_own(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", "StoredTransformer")
    given = ("--part", "transformer", "--backend", "onnxruntime", "--workload", "5x16x16")
    result = run("build", folder, "--output", tmp_path / "engine", *given)
    with pytest.raises(ValueError, match="`stride` must be given for a model that lies outside a pipeline"):
        raise result.exception  # type: ignore[misc]


def test_a_missing_package_is_an_import_error_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the command turns into exit code 3."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = build(model_folder(tmp_path / "model"), tmp_path / "engine")
    with pytest.raises(ImportError, match=r"fastvid-export\[ort\]"):
        raise result.exception  # type: ignore[misc]


def backend_flags(**given: Any) -> BackendFlags:
    return BackendFlags(**{name: given.get(name) for name in BackendFlags.__slots__} | given)


@pytest.mark.parametrize("name", BackendName)
def test_flags_become_the_settings_of_the_backend(name: BackendName) -> None:
    rtx = name is BackendName.TENSORRT_RTX
    made: Any = backend_flags(compute_capabilities=(89,) if rtx else ()).backend(name, torch.device("cpu"))
    assert made.name == name.value
    assert getattr(made, "compute_capabilities", (89,)) == ((89,) if name is not BackendName.TENSORRT else ())


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        (BackendName.TENSORRT, "tf32"),
        (BackendName.AOTINDUCTOR, "max_autotune"),
        (BackendName.TORCH_TENSORRT, "require_full_compilation"),
    ],
)
def test_a_flag_of_one_backend(name: BackendName, flag: str) -> None:
    for given in (None, True):
        flags = backend_flags(compute_capabilities=(), **{flag: given})
        made: Any = flags.backend(name, torch.device("cuda", 1))
        assert made.options()[flag] is bool(given)
        assert made.options().get("device", "cuda") == "cuda"  # where the model lies


def test_where_no_autoencoder_is_the_flags_say_how_videos_become_tokens(tmp_path: Path) -> None:
    model = Transformer(num_blocks=1)
    whole = geometry(tmp_path, Graph.TRANSFORMER, model, "4x8x8", None)
    assert (whole.stride, whole.causal) == ((4, 8, 8), True)
    assert not geometry(tmp_path, Graph.TRANSFORMER, model, "4x8x8", False).causal
    for text in ("4x4", "0x4x4"):
        with pytest.raises(ValueError, match=f"`stride` is '{text}'; expected FRAMESxHEIGHTxWIDTH"):
            geometry(tmp_path, Graph.TRANSFORMER, model, text, None)


def test_the_cell_of_token_reduction_reaches_the_profile(tmp_path: Path) -> None:
    """Ever fewer destinations, down to which tokens can be dropped; seen in the sizes that are too small for a CPU."""
    folder = model_folder(tmp_path / "model", "StoredTransformer")
    given = ("--part", "transformer", "--kv-blocks", "1", "--workload", "9x16x16:keep_kv=0.1", "--stride", "2x4x4")
    kept = []
    for cell in ("1x2x2", "1x4x4"):
        flags = ("--backend", "onnxruntime", "--cell", cell, "--json", "--axis", "l=1:3:4")
        result = run("build", folder, "--output", tmp_path / cell, *given, *flags)
        assert result.exit_code == 0, result.output
        kept.append(json.loads(result.stdout)["profiles"][0]["axes"]["k1"][0])
    assert kept == [20, 8]  # 5 frames of 4 x 4 tokens: 4 cells each, and 1, but a tenth of 80 in any case
