"""A folder of engines: what is opened with what, and what becomes of engines that cannot be."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fastvid_export import (
    EngineError,
    EngineFolder,
    EngineTransformer,
    LoadedEngine,
    decoder_exportable,
    matching_exportable,
    transformer_exportable,
    upsampler_exportable,
)
from fastvid_export.digest import TensorDigests, weights_digest
from fastvid_export.load import Running
from fastvid_export.serving import opening
from torch import nn

from .served import Autoencoder, Transformer, loaded
from .test_autoencoder import Upsampler

BLOCKS: dict[str, Any] = {"q_blocks": (1,), "kv_blocks": (1,)}


class Shelf:
    """Engines by the names of their folders, and how each was loaded."""

    def __init__(self, root: Path, backend: str = "tensorrt", **engines: LoadedEngine) -> None:
        self.engines = engines
        self.backend = backend
        self.running: dict[str, tuple[Running, bool]] = {}
        self.known: list[TensorDigests] = []
        for name in engines:
            (root / name).mkdir()

    def read_record(self, place: Path) -> Any:
        return replace(self.engines[place.name].record, backend=self.backend)

    def load_record(self, record: Any, place: Path, *, running: Running, probe: bool) -> LoadedEngine:
        running.check(record)
        self.running[place.name] = running, probe
        return self.engines[place.name]

    def check_expected(self, record: Any, expect: Any, known: TensorDigests) -> None:
        self.known.append(known)
        check_expected(record, expect, known)


check_expected = opening.check_expected


@pytest.fixture
def eager() -> Transformer:
    return Transformer()


@pytest.fixture
def shelf(tmp_path: Path, eager: Transformer, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    masked: dict[str, Any] = {"text_mask": False}
    made = Shelf(
        tmp_path,
        transformer=loaded(transformer_exportable(eager, **masked)),
        transformer_reduced=loaded(transformer_exportable(eager, **masked, **BLOCKS)),
        transformer_match=loaded(matching_exportable(eager, **masked, **BLOCKS)),
        refiner=loaded(transformer_exportable(eager, **masked)),
        decoder=loaded(decoder_exportable(Autoencoder(), reference=True)),
        upsampler=loaded(upsampler_exportable(Upsampler().eval())),
    )
    for name in ("read_record", "load_record", "check_expected"):
        monkeypatch.setattr(opening, name, getattr(made, name))
    return made


def open_all(engines: EngineFolder, eager: Transformer) -> None:
    engines.transformer(eager)
    engines.refiner(eager)
    engines.autoencoder(Autoencoder())
    engines.upsampler(Upsampler().eval())


def test_engines_of_tensorrt_share_their_scratch_memory(shelf: Shelf, tmp_path: Path, eager: Transformer) -> None:
    engines = EngineFolder(tmp_path, cuda_graphs=True, probe=True)
    open_all(engines, eager)
    assert len(shelf.running) == 6
    memories = {id(running.memory) for running, _ in shelf.running.values()}
    assert len(memories) == 1
    assert all(running.memory is not None for running, _ in shelf.running.values())
    assert all(running.cuda_graphs and probe for running, probe in shelf.running.values())
    assert set(engines.records) == {"transformer", "refiner", "decoder", "upsampler"}
    assert set(engines.records["transformer"]) == {"dense", "reduced", "matching"}


def test_others_take_their_own(shelf: Shelf, tmp_path: Path, eager: Transformer) -> None:
    shelf.backend = "onnxruntime"
    open_all(EngineFolder(tmp_path), eager)
    assert all(running == Running() for running, _ in shelf.running.values())
    for fallback in ("error", "eager"):  # a mistake of the caller's, which no fallback hides
        with pytest.raises(ValueError, match="`cuda_graphs` has no effect on an engine of onnxruntime, which launches"):
            EngineFolder(tmp_path, cuda_graphs=True, fallback=fallback).transformer(eager)  # type: ignore[arg-type]


def test_the_weights_of_a_model_are_read_once(shelf: Shelf, tmp_path: Path, eager: Transformer) -> None:
    EngineFolder(tmp_path).transformer(eager)
    assert len(shelf.known) == 3
    assert len({id(known) for known in shelf.known}) == 1
    EngineFolder(tmp_path).transformer(eager)
    assert len({id(known) for known in shelf.known}) == 2  # and nothing stays behind


def test_what_was_read_once_is_not_read_again() -> None:
    model = nn.Linear(2, 2)
    known = TensorDigests()
    digest = weights_digest(nn.Sequential(model), known)
    with torch.no_grad():
        model.weight.add_(1)
    assert weights_digest(nn.Sequential(model), known) == digest
    assert weights_digest(nn.Sequential(model)) != digest


def other_weights(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.no_grad():
        shelf.engines["transformer"] = loaded(transformer_exportable(Transformer(), text_mask=False))
        record = replace(shelf.engines["transformer"].record, weights="0" * 64)
        shelf.engines["transformer"] = replace(shelf.engines["transformer"], record=record)


def damaged(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(place: Path) -> Any:
        raise EngineError("engine.json is damaged")

    monkeypatch.setattr(opening, "read_record", read)


def not_installed(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*record: Any, **options: Any) -> Any:
        raise ImportError('tensorrt cannot be imported; run: pip install "fastvid-export[tensorrt]"')

    monkeypatch.setattr(opening, "load_record", load)


def of_more_blocks(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: dict[str, Any] = {"q_blocks": (4,), "kv_blocks": (4,)}
    large = loaded(transformer_exportable(Transformer(5), text_mask=False, **blocks))
    shelf.engines["transformer_reduced"] = large


REASONS = {
    other_weights: "was built from other weights",
    damaged: "engine.json is damaged",
    not_installed: "pip install",
    of_more_blocks: "is of another transformer of fewer tokens than this: `q_blocks` names block 4",
}


@pytest.mark.parametrize("spoil", REASONS)
def test_an_engine_that_cannot_be_loaded(
    spoil: Any,
    shelf: Shelf,
    tmp_path: Path,
    eager: Transformer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spoil(shelf, monkeypatch)
    with pytest.raises((EngineError, ImportError), match=REASONS[spoil]):
        EngineFolder(tmp_path).transformer(eager)
    assert caplog.records == []
    engines = EngineFolder(tmp_path, fallback="eager")
    with caplog.at_level(logging.WARNING):
        assert engines.transformer(eager) is eager
    (told,) = caplog.messages
    assert told.startswith("the transformer runs eagerly, as its engine cannot be loaded: ")
    assert REASONS[spoil] in told
    assert REASONS[spoil] in engines.records["transformer"]["eager"]


def test_only_a_word_that_is_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`fallback` is 'maybe'; expected one of error, eager"):
        EngineFolder(tmp_path, fallback="maybe")  # type: ignore[arg-type]


def test_without_token_reduction_one_engine_will_do(shelf: Shelf, tmp_path: Path, eager: Transformer) -> None:
    for name in ("transformer_reduced", "transformer_match"):
        (tmp_path / name).rmdir()
    assert isinstance(EngineFolder(tmp_path).transformer(eager), EngineTransformer)
    assert set(shelf.running) == {"transformer"}
