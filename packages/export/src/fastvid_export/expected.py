"""What an engine says that it is, as a graph of the model at hand: to compare them, or refuse another model's."""

from collections.abc import Iterable
from typing import Any

from fastvid_export.errors import EngineError
from fastvid_export.exportable import Exportable
from fastvid_export.graphs.content_transformer import content_transformer_exportable
from fastvid_export.graphs.decoder import decoder_exportable
from fastvid_export.graphs.encoder import encoder_exportable
from fastvid_export.graphs.kinds import is_content_transformer
from fastvid_export.graphs.transformer import matching_exportable, transformer_exportable
from fastvid_export.graphs.upsampler import upsampler_exportable
from fastvid_export.record import EngineRecord

SHARED_AXES = 4
"""Of positions (3, t, h, w) and tables (t, h, w, pairs) that all blocks share; with one more, each has its own."""


def expected_of(record: EngineRecord, model: Any) -> Exportable:
    """The graph of this model that has the inputs and outputs of the record.

    Raises:
        EngineError: a record of no graph that is known here, or that the model does not have.
    """
    try:
        return _expected(record, model)
    except ValueError as error:  # no such block, say
        raise EngineError(f"the engine is of another {record.name} than this: {error}") from error


def _expected(record: EngineRecord, model: Any) -> Exportable:
    match record.name:
        case "encoder":
            return encoder_exportable(model)
        case "decoder" | "decoder with reference":
            return decoder_exportable(model, reference=_takes(record, "reference"))
        case "upsampler":
            return upsampler_exportable(model)
        case "transformer with content frame":
            return content_transformer_exportable(model, text_mask=_takes(record, "text_mask"))
        case "transformer" | "transformer of fewer tokens" | "transformer that matches":
            return _transformer(record, model)
        case other:
            raise EngineError(f"the engine is of a {other}, which is built and called by other programs than this one")


def _transformer(record: EngineRecord, model: Any) -> Exportable:
    text_mask = _takes(record, "text_mask")
    block_tables = any(tensor.name == "cos" and len(tensor.shape) > SHARED_AXES for tensor in record.inputs)
    if is_content_transformer(model):
        return content_transformer_exportable(model, text_mask=text_mask)
    if record.name == "transformer that matches":
        queries, values = (_blocks(record.outputs, name) for name in ("query", "value"))
        return matching_exportable(
            model, text_mask=text_mask, q_blocks=queries, kv_blocks=values, block_tables=block_tables
        )
    inputs = [tensor.name for tensor in record.inputs]
    queries, values = (_blocks(inputs, name) for name in ("keep_q", "keep_kv"))
    return transformer_exportable(
        model, text_mask=text_mask, block_tables=block_tables, q_blocks=queries, kv_blocks=values
    )


def _takes(record: EngineRecord, name: str) -> bool:
    return any(tensor.name == name for tensor in record.inputs)


def _blocks(names: Iterable[str], kind: str) -> tuple[int, ...]:
    """Of names such as keep_q_3 the blocks."""
    parts = (name.rpartition("_") for name in names)
    return tuple(int(block) for found, _, block in parts if found == kind and block.isdigit())
