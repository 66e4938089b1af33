"""What is changed in a graph, so that optimisers and engines compute what the module computes."""

import math
import re

import torch
from onnxscript import ir
from torch.export import ExportedProgram

from fastvid_export.exportable import Exportable, parts_of

MASK = 3
"""Which input of ONNX's Attention it is."""


def drop_splits_into_one(program: ExportedProgram) -> None:
    """Replace a split that leaves one piece by that piece: ONNX would make a sequence of it, which builders refuse."""
    graph = program.graph
    for node in list(graph.nodes):
        if node.target is not torch.ops.aten.split.Tensor or len(node.meta["val"]) != 1:
            continue
        if any(user.op == "output" for piece in node.users for user in piece.users):
            continue  # outputs have names of their own
        for piece in list(node.users):
            piece.replace_all_uses_with(node.args[0])
            graph.erase_node(piece)
        graph.erase_node(node)
    program.graph_module.recompile()


def name_axes(model: ir.Model, program: ExportedProgram, exportable: Exportable) -> None:
    """Write the sizes of the outputs in the names of the axes.

    Torch knows an axis by its name only where an input has it as it is; one that inputs hold multiples of has a symbol.
    """
    placeholders = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    names: dict[str, str] = {}
    for placeholder, spec in zip(program.graph_signature.user_inputs, exportable.inputs.values(), strict=True):
        for found, (_, axis, _) in zip(placeholders[str(placeholder)].shape, map(parts_of, spec.shape), strict=True):
            if axis is not None and isinstance(found, torch.SymInt):
                names |= {str(symbol): axis for symbol in found.node.expr.free_symbols}
    for value in model.graph.outputs:
        sizes = [size.value if isinstance(size, ir.SymbolicDim) else size for size in value.shape or ()]
        value.shape = ir.Shape(
            [re.sub(r"\w+", lambda m: names.get(m[0], m[0]), size) if isinstance(size, str) else size for size in sizes]
        )


def forget_paths(model: ir.Model) -> None:
    """Drop torch's notes on which lines of which files made a node: the same model is the same bytes anywhere."""
    for node in model.graph.all_nodes():
        node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)


def protect_near_identities(model: ir.Model) -> int:
    """Keep x + 1e-15 from being optimised to x; returns how many such constants were found.

    The optimiser of onnxscript takes a scalar for 0 within 1e-8, and for 1 within a relative 1e-5, and drops the
    addition or multiplication. That turns the small number that guards a division into 0/0. Its patterns match
    scalars of rank 0 only, so the constant is given rank 1, which broadcasts the same.
    """
    protected = 0
    for node in list(model.graph):
        identity = {"Add": 0.0, "Sub": 0.0, "Mul": 1.0, "Div": 1.0}.get(node.op_type)
        if identity is None:
            continue
        for index, value in enumerate(node.inputs):
            scalar, other = _float_scalar(value), node.inputs[1 - index]
            if scalar is None or other is None or not other.shape:
                continue  # a result of rank 0 would change its rank; the comparison with eager still watches it
            number, dtype = scalar
            if number == identity or not math.isclose(number, identity, rel_tol=1e-5, abs_tol=1e-8):
                continue
            constant = ir.node("Constant", [], attributes={"value": ir.tensor([number], dtype=dtype)})
            model.graph.insert_before(node, constant)
            node.replace_input_with(index, constant.outputs[0])
            protected += 1
    return protected


def spread_masks(model: ir.Model) -> int:
    """Give the masks of attention as many rows as there are queries; returns how many masks that were.

    A mask of one row for all queries is legal, and onnxruntime refuses it. All blocks share the one that is spread.
    """
    spread: dict[tuple[ir.Value, str], ir.Value] = {}
    for node in list(model.graph):
        if node.op_type != "Attention" or len(node.inputs) <= MASK:
            continue
        queries, mask = node.inputs[0], node.inputs[MASK]
        if mask is None or queries is None or mask.shape is None or queries.shape is None or mask.shape[-2] != 1:
            continue
        key = (mask, str(queries.shape[2]))
        if key not in spread:
            rows = ir.node("Shape", [queries], attributes={"start": 2, "end": 3})
            one = ir.node("Constant", [], attributes={"value": ir.tensor([1])})
            size = ir.node("Concat", [one.outputs[0], one.outputs[0], rows.outputs[0], one.outputs[0]], {"axis": 0})
            grown = ir.node("Expand", [mask, size.outputs[0]])
            model.graph.insert_before(node, [rows, one, size, grown])
            grown.outputs[0].type = mask.type
            grown.outputs[0].shape = ir.Shape([*mask.shape[:2], queries.shape[2], mask.shape[-1]])
            spread[key] = grown.outputs[0]
        node.replace_input_with(MASK, spread[key])
    return len(spread)


def norms_in_float32(model: ir.Model) -> int:
    """Let group norms, which are InstanceNormalization in portable graphs, sum in float32; returns how many there were.

    Torch sums in float32 whatever comes in, and in this operator set the operator does not even have bfloat16.
    """
    norms = [node for node in model.graph if node.op_type == "InstanceNormalization"]
    for node in norms:
        given = node.inputs[0]
        for index, value in enumerate(node.inputs):
            cast = ir.node("Cast", [value], attributes={"to": ir.DataType.FLOAT})
            model.graph.insert_before(node, cast)
            node.replace_input_with(index, cast.outputs[0])
        back = ir.node("CastLike", [node.outputs[0], given])
        ir.convenience.replace_all_uses_with(node.outputs[0], back.outputs[0])
        back.replace_input_with(0, node.outputs[0])
        model.graph.insert_after(node, back)
    return len(norms)


def _float_scalar(value: ir.Value | None) -> tuple[float, ir.DataType] | None:
    """A constant of rank 0 and the type that it is used in; in 16-bit graphs it is cast to that."""
    producer = None if value is None else value.producer()
    is_cast = producer is not None and producer.op_type == "Cast"
    source = producer.inputs[0] if producer is not None and is_cast else value
    constant = None if source is None else ir.convenience.get_const_tensor(source)
    if constant is None or len(constant.shape) or not constant.dtype.is_floating_point():
        return None
    dtype = ir.DataType(producer.attributes.get_int("to")) if producer is not None and is_cast else constant.dtype
    return (float(constant.numpy()), dtype) if dtype.is_floating_point() else None
