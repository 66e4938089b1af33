"""A folder of engines -> parts of a pipeline. What `fastvid.engine` names, for `fastvid-cli generate --engine`."""

from functools import partial
from pathlib import Path
from typing import Any

from fastvid_export.errors import EngineError
from fastvid_export.expected import expected_of
from fastvid_export.interfaces import LatentUpsampler, ServedAutoencoder, ServedTransformer
from fastvid_export.load import LoadedEngine, load_engine, read_record
from fastvid_export.serving.autoencoder import EngineAutoencoder
from fastvid_export.serving.engine_module import Fallback
from fastvid_export.serving.transformer import EngineTransformer
from fastvid_export.serving.upsampler import EngineUpsampler


def open_transformer(
    folder: Path, eager: ServedTransformer, *, part: str = "transformer", fallback: Fallback = "error"
) -> EngineTransformer:
    """The engines of a transformer: `part`, and where they are there `part`_reduced and `part`_match.

    Args:
        folder: that holds the folders of engines.
        eager: what they have to be built from.
        fallback: see `EngineModule`.
    Raises:
        EngineError: an engine is damaged, of another model, precision, GPU or version.
        ImportError: the package that runs it is not installed.
    """
    reduced, matching = folder / f"{part}_reduced", folder / f"{part}_match"
    return EngineTransformer(
        eager,
        _open(folder / part, eager, "transformer"),
        reduced=_open(reduced, eager, "transformer of fewer tokens") if reduced.is_dir() else None,
        matching=_open(matching, eager, "transformer that matches") if matching.is_dir() else None,
        fallback=fallback,
    )


open_refiner = partial(open_transformer, part="refiner")
"""The same for the second transformer of a pipeline."""


def open_autoencoder(folder: Path, eager: ServedAutoencoder, *, fallback: Fallback = "error") -> EngineAutoencoder:
    """The engine `decoder` of an autoencoder. Arguments and errors as of `open_transformer`."""
    return EngineAutoencoder(
        eager, _open(folder / "decoder", eager, "decoder", "decoder with reference"), fallback=fallback
    )


def open_upsampler(folder: Path, eager: LatentUpsampler, *, fallback: Fallback = "error") -> EngineUpsampler:
    """The engine `upsampler`. Arguments and errors as of `open_transformer`."""
    return EngineUpsampler(eager, _open(folder / "upsampler", eager, "upsampler"), fallback=fallback)


def _open(place: Path, eager: Any, *kinds: str) -> LoadedEngine:
    record = read_record(place)
    if record.name not in kinds:
        raise EngineError(f"the engine in {place} is of a {record.name}; expected one of a {' or a '.join(kinds)}")
    return load_engine(place, expect=expected_of(record, eager))
