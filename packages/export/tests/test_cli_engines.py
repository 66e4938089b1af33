"""`export verify` and `export bench`: an engine beside its model."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from fastvid_export import (
    AxisRange,
    Exportable,
    OnnxRuntime,
    Profile,
    build_engine,
    decoder_exportable,
    discovery,
    upsampler_exportable,
)
from fastvid_export.commands import verify as verifying
from fastvid_export.commands.device import on_device
from fastvid_export.errors import EngineError
from fastvid_export.expected import expected_of
from fastvid_export.load import read_record

from .fakes import FakeDecoder
from .serving.served import loaded
from .serving.test_autoencoder import Upsampler
from .test_cli import CLASSES, FakeEntryPoint, StoredDecoder, model_folder, run

AXES = {axis: AxisRange(minimum=1, example=2, maximum=3) for axis in "bthw"}


@pytest.fixture(autouse=True)
def _offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        discovery, "entry_points", lambda *, group: [FakeEntryPoint(name, group) for name in CLASSES[group]]
    )


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an engine of the stored decoder, for one size and for several."""
    folder = tmp_path_factory.mktemp("engines") / "decoder"
    exportable = decoder_exportable(FakeDecoder().eval(), reference=True, axes=AXES)
    tight = {axis: AxisRange(minimum=1, example=1, maximum=1) for axis in "bthw"}
    profiles = [Profile(name="dense", axes=AXES), Profile(name="one", axes=tight)]
    build_engine(exportable, folder, backend=OnnxRuntime(), profiles=profiles)
    return folder


def test_an_engine_is_compared_with_its_model(engine: Path, tmp_path: Path) -> None:
    folder, output = model_folder(tmp_path / "model"), tmp_path / "report.json"
    result = run("verify", engine, folder, "--output", output)
    assert result.exit_code == 0, result.output
    assert "passed, " in result.stdout
    report = json.loads(output.read_text())
    assert report["passed"] is True
    assert {tuple(case["sizes"].values()) for case in report["cases"]} >= {(1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3)}
    assert json.loads(run("verify", engine, folder, "--json").stdout) == report


def test_an_engine_that_differs_is_seen(engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_both = verifying.open_both

    def spoiled(*arguments: Any) -> object:
        opened = open_both(*arguments)
        with torch.no_grad():
            opened.exportable.module.decoder.conv.weight.mul_(1.01)  # type: ignore[union-attr, operator]
        return opened

    monkeypatch.setattr(verifying, "open_both", spoiled)
    result = run("verify", engine, model_folder(tmp_path / "model"))
    assert result.exit_code == 1
    assert "FAILED" in result.stdout


@pytest.mark.parametrize("verb", ["verify", "bench"])
def test_another_models_engine_is_refused(
    verb: str, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(folder: Path, **settings: object) -> FakeDecoder:
        decoder = FakeDecoder()
        with torch.no_grad():
            decoder.conv.bias.add_(1)  # type: ignore[union-attr]
        return decoder

    monkeypatch.setattr(StoredDecoder, "from_pretrained", other)
    result = run(verb, engine, model_folder(tmp_path / "model"), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"].startswith("the engine was built from other weights than the model has")


@pytest.mark.parametrize("verb", ["verify", "bench"])
def test_a_gpu_that_is_not_here(verb: str, engine: Path, tmp_path: Path) -> None:
    result = run(verb, engine, model_folder(tmp_path / "model"), "--device", "cuda:7")
    with pytest.raises(ValueError, match=r"`device` is 'cuda:7', and torch .* finds no such GPU here; legal: cpu"):
        raise result.exception  # type: ignore[misc]


def test_the_model_goes_to_the_device_and_the_gpu_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[int] = []

    @contextmanager
    def current(number: int) -> Iterator[None]:
        entered.append(number)
        yield

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device", current)
    for text, number in (("cuda", 0), ("cuda:1", 1)):
        with on_device(text) as place:
            assert place == torch.device("cuda", number)
    assert entered == [0, 1]
    with pytest.raises(ValueError, match="legal: cpu, cuda:0, cuda:1"), on_device("cuda:2"):
        pass


def test_cuda_graphs_are_refused_where_there_are_none(engine: Path, tmp_path: Path) -> None:
    result = run("bench", engine, model_folder(tmp_path / "model"), "--cuda-graphs")
    with pytest.raises(ValueError, match="`cuda_graphs` has no effect on an engine of onnxruntime"):
        raise result.exception  # type: ignore[misc]


def test_both_are_timed_at_what_each_profile_is_tuned_for(engine: Path, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    rows = json.loads(run("bench", engine, folder, "--repeats", "2", "--json").stdout)["profiles"]
    assert [(row["profile"], row["sizes"]["t"]) for row in rows] == [("dense", 2), ("one", 1)]
    assert all(row["engine_ms"] > 0 and row["eager_ms"] > 0 for row in rows)
    assert "times as fast" in run("bench", engine, folder, "--repeats", "1").stdout


@pytest.mark.parametrize(
    "exportable",
    [
        decoder_exportable(FakeDecoder().eval(), reference=False),
        upsampler_exportable(Upsampler().eval()),
    ],
    ids=lambda exportable: exportable.name,
)
def test_a_record_says_what_it_is_of(exportable: Exportable) -> None:
    model = next(module for name, module in exportable.module.named_children())
    found = expected_of(loaded(exportable).record, model)
    assert (found.name, found.inputs.keys(), found.outputs) == (
        exportable.name,
        exportable.inputs.keys(),
        exportable.outputs,
    )


def test_a_record_of_no_known_graph_is_refused(engine: Path) -> None:
    record = read_record(engine)
    object.__setattr__(record, "name", "toaster")
    with pytest.raises(EngineError, match="the engine is of a toaster"):
        expected_of(record, FakeDecoder().eval())
