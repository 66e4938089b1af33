"""What every graph keeps to: the inputs and outputs asked for, and no operator that engine builders refuse."""

from onnxscript import ir

from fastvid_export.errors import ExportError
from fastvid_export.exportable import Exportable, IndexSpec, InputSpec, Size, parts_of

FORBIDDEN_OPERATORS = {
    "Loop": "a loop that depends on values",
    "NonZero": "shapes that depend on values, as of a boolean index",
    "Scan": "a loop that depends on values",
    "SequenceAt": "`chunk`; take slices or `unbind`",
    "SplitToSequence": "`chunk`; take slices or `unbind`",
    "TopK": "matching or sorting inside the graph; TensorRT takes 3840 at most. Make the indices an input",
}
"""Operators that engine builders refuse, and what they come from."""

TYPES = {
    "torch.float32": ir.DataType.FLOAT,
    "torch.float16": ir.DataType.FLOAT16,
    "torch.bfloat16": ir.DataType.BFLOAT16,
    "torch.bool": ir.DataType.BOOL,
    "torch.int32": ir.DataType.INT32,
    "torch.int64": ir.DataType.INT64,
}


def check_graph(exportable: Exportable, model: ir.Model) -> None:
    """Refuse a graph that does not keep to it.

    Raises:
        ExportError: which rule, and where.
    """
    graph, name = model.graph, exportable.name
    names = [value.name for value in graph.inputs], [value.name for value in graph.outputs]
    if names != (list(exportable.inputs), list(exportable.outputs)):
        raise ExportError(f"the graph of {name} has other inputs and outputs than asked for: {names}")
    for value, spec in zip(graph.inputs, exportable.inputs.values(), strict=True):
        _check_input(name, value, spec)
    for node in graph:
        reason = FORBIDDEN_OPERATORS.get(node.op_type) or _reason(node)
        if reason is not None:
            raise ExportError(
                f"the graph of {name} holds {node.op_type}, which engine builders refuse; it comes from {reason}"
            )


def _check_input(name: str, value: ir.Value, spec: InputSpec | IndexSpec) -> None:
    shape = [_written(size) for size in spec.shape]
    found = (
        []
        if value.shape is None
        else [str(size.value) if isinstance(size, ir.SymbolicDim) else size for size in value.shape]
    )
    if found != shape or value.dtype != TYPES[str(spec.dtype)]:
        raise ExportError(
            f"the graph of {name} takes `{value.name}` as {value.dtype} {found}; asked for was {spec.dtype} {shape}"
        )


def _written(size: Size) -> int | str:
    factor, axis, remainder = parts_of(size)
    if axis is None:
        return remainder
    multiple = axis if factor == 1 else f"{factor}*{axis}"
    return multiple if remainder == 0 else f"{multiple} {'+' if remainder > 0 else '-'} {abs(remainder)}"


def _reason(node: ir.Node) -> str | None:
    """What is wrong with operators that are refused in some uses only."""
    if node.op_type == "ConvTranspose" and any(v is not None and v.dtype == ir.DataType.BFLOAT16 for v in node.inputs):
        return "a transposed convolution in bfloat16; shuffle channels into space instead"
    if node.op_type == "GatherElements":
        places = node.inputs[1]
        producer = None if places is None else places.producer()
        if producer is not None and producer.op_type == "Expand":
            return "an index that is repeated for every channel, as large as what it picks from; gather rows instead"
    return None
