"""A folder of engines -> parts of a pipeline. What `fastvid.engine` names, for `fastvid-cli generate --engine`."""

from functools import partial
from pathlib import Path

from fastvid_export.exportable import Exportable
from fastvid_export.graphs.decoder import decoder_exportable
from fastvid_export.graphs.transformer import matching_exportable, transformer_exportable
from fastvid_export.graphs.upsampler import upsampler_exportable
from fastvid_export.interfaces import LatentUpsampler, ServedAutoencoder, ServedTransformer
from fastvid_export.load import LoadedEngine, load_engine, read_record
from fastvid_export.record import EngineRecord
from fastvid_export.serving.autoencoder import EngineAutoencoder
from fastvid_export.serving.engine_module import Fallback
from fastvid_export.serving.transformer import SHARED_AXES, EngineTransformer
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
        _of_transformer(folder / part, eager),
        reduced=_of_transformer(reduced, eager) if reduced.is_dir() else None,
        matching=_of_transformer(matching, eager) if matching.is_dir() else None,
        fallback=fallback,
    )


open_refiner = partial(open_transformer, part="refiner")
"""The same for the second transformer of a pipeline."""


def open_autoencoder(folder: Path, eager: ServedAutoencoder, *, fallback: Fallback = "error") -> EngineAutoencoder:
    """The engine `decoder` of an autoencoder. Arguments and errors as of `open_transformer`."""
    place = folder / "decoder"
    record = read_record(place)
    expected = decoder_exportable(eager, reference=_takes(record, "reference"))
    return EngineAutoencoder(eager, load_engine(place, expect=expected), fallback=fallback)


def open_upsampler(folder: Path, eager: LatentUpsampler, *, fallback: Fallback = "error") -> EngineUpsampler:
    """The engine `upsampler`. Arguments and errors as of `open_transformer`."""
    engine = load_engine(folder / "upsampler", expect=upsampler_exportable(eager))
    return EngineUpsampler(eager, engine, fallback=fallback)


def _of_transformer(place: Path, eager: ServedTransformer) -> LoadedEngine:
    return load_engine(place, expect=_expected(read_record(place), eager))


def _expected(record: EngineRecord, eager: ServedTransformer) -> Exportable:
    """What the record says the engine is, for the model at hand."""
    text_mask = _takes(record, "text_mask")
    block_tables = any(tensor.name == "cos" and len(tensor.shape) > SHARED_AXES for tensor in record.inputs)
    queries, values = (_blocks(record.outputs, name) for name in ("query", "value"))
    if queries or values:
        return matching_exportable(
            eager, text_mask=text_mask, q_blocks=queries, kv_blocks=values, block_tables=block_tables
        )
    names = [tensor.name for tensor in record.inputs]
    return transformer_exportable(
        eager,
        text_mask=text_mask,
        block_tables=block_tables,
        q_blocks=_blocks(names, "keep_q"),
        kv_blocks=_blocks(names, "keep_kv"),
    )


def _takes(record: EngineRecord, name: str) -> bool:
    return any(tensor.name == name for tensor in record.inputs)


def _blocks(names: list[str] | tuple[str, ...], kind: str) -> tuple[int, ...]:
    """Of names such as keep_q_3 the blocks."""
    parts = (name.rpartition("_") for name in names)
    return tuple(int(block) for found, _, block in parts if found == kind and block.isdigit())
