"""Module -> ONNX model -> files. Imported only where it is used, because onnxscript takes a while to load."""

import hashlib
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import onnxscript.optimizer
import torch
from onnxscript import ir
from torch.export import ExportedProgram

from fastvid_export.errors import ExportError
from fastvid_export.exportable import Exportable
from fastvid_export.graph_rules import check_graph
from fastvid_export.rewriting import (
    drop_splits_into_one,
    forget_paths,
    name_axes,
    norms_in_float32,
    protect_near_identities,
    spread_masks,
)

SMALL_TENSOR = 1024
"""Bytes below which a tensor stays in the graph: onnxruntime infers shapes from small ones, and only from there."""

EMBEDDED_WEIGHTS_LIMIT = 3 * 2**29
"""Bytes of weights above which they go into a file of their own: an ONNX file cannot exceed 2 GiB."""

SUGGESTED_MINIMUM = re.compile(r"^ +(\w+) = Dim\('\w+', min=(\d+)(?:, max=\d+)?\)$", re.MULTILINE)

TERMINAL_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A graph that nothing was compared with yet.

    Attributes:
        model: names, symbolic sizes and operators checked.
        untraced: sizes below what the trace can promise; the graph counts for them only once it is compared there.
    """

    model: ir.Model
    untraced: tuple[dict[str, int], ...]


def translate(exportable: Exportable, *, opset: int) -> Translation:
    """Trace with symbolic sizes and translate to ONNX, in memory.

    Raises:
        ExportError: the trace needs other sizes than `exportable.axes` allows, or an operator cannot be translated.
    """
    traced, program = trace(exportable)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside torch, and axis names that are shared on purpose
        try:
            translated = torch.onnx.export(
                program,
                opset_version=opset,
                input_names=list(exportable.inputs),
                output_names=list(exportable.outputs),
                dynamic_shapes=traced.dynamic_shapes(),
                dynamo=True,
                optimize=False,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ExportError(f"cannot translate {exportable.name} to ONNX: {_reason(error)}") from error
    assert translated is not None  # None is what the older exporter returns
    onnxscript.optimizer.inline(translated.model)
    protect_near_identities(translated.model)
    spread_masks(translated.model)
    if exportable.precision != torch.float32:
        norms_in_float32(translated.model)
    translated.optimize()
    name_axes(translated.model, program, traced)
    forget_paths(translated.model)
    check_graph(exportable, translated.model)
    untraced = [
        exportable.example_sizes | {axis: size}
        for axis, bounds in traced.axes.items()
        for size in range(exportable.axes[axis].minimum, bounds.minimum)
    ]
    return Translation(model=translated.model, untraced=tuple(untraced))


def save(model: ir.Model, path: Path, external_weights: bool | None) -> list[Path]:
    """Write the model, weights in a file of their own or not (None: where they have to be), but for small tensors.

    Returns:
        The files, in the order in which they have to be installed.
    """
    tensors = [value.const_value for value in model.graph.initializers.values() if value.const_value is not None]
    if external_weights is None:
        external_weights = sum(tensor.nbytes for tensor in tensors) > EMBEDDED_WEIGHTS_LIMIT
    if not external_weights:
        ir.save(model, path)
        return [path]
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.tobytes())
    weights = path.with_name(f"{path.stem}.{digest.hexdigest()[:16]}.weights")
    ir.save(model, path, external_data=weights.name, size_threshold_bytes=SMALL_TENSOR)
    return [weights, path] if weights.exists() else [path]


def trace(exportable: Exportable) -> tuple[Exportable, ExportedProgram]:
    """The program, and the exportable with the ranges that it was traced for.

    Sizes 0 and 1 are special to torch: an axis of t - 1 entries makes it ask for t of at least 3, although no value
    depends on it. Where it names such a minimum, the trace starts there.
    """
    try:
        return exportable, _program(exportable)
    except RuntimeError as error:  # torch's own kinds for broken constraints and guards on values are these
        narrowed = _with_minima(exportable, str(error))
        if narrowed is None:
            raise _untraceable(exportable, error) from error
    try:
        return narrowed, _program(narrowed)
    except RuntimeError as error:
        raise _untraceable(exportable, error) from error


def _program(exportable: Exportable) -> ExportedProgram:
    inputs = exportable.draw_inputs(exportable.example_sizes)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside torch
        program = torch.export.export(
            exportable.module, (), kwargs=inputs, dynamic_shapes=exportable.dynamic_shapes(), strict=False
        )
    drop_splits_into_one(program)
    return program


def _with_minima(exportable: Exportable, message: str) -> Exportable | None:
    """The exportable with the minima that torch suggests, if they are all it complains of."""
    minima = {axis: int(minimum) for axis, minimum in SUGGESTED_MINIMUM.findall(message)}
    suggestions = message.partition("Suggested fixes:")[2].split("\n\n")[0].strip().splitlines()
    if not minima or len(minima) < len(suggestions) or not minima.keys() <= exportable.axes.keys():
        return None
    axes = dict(exportable.axes)
    for axis, minimum in minima.items():
        bounds = axes[axis]
        if minimum > bounds.maximum:
            return None
        axes[axis] = replace(bounds, minimum=minimum, example=max(bounds.example, minimum))
    return replace(exportable, axes=axes)


def _untraceable(exportable: Exportable, error: Exception) -> ExportError:
    return ExportError(f"cannot trace {exportable.name} for all the sizes that `axes` allow: {_reason(error)}")


def _reason(error: Exception) -> str:
    """The part of torch's message that says what is wrong; the rest explains how to debug torch."""
    text = TERMINAL_COLOURS.sub("", str(error)).replace(
        "(Refer to the full stack trace above for more information.)", ""
    )
    text = text.replace('For more information, run with TORCH_LOGS="+dynamic".', "").split("## Exception summary")[-1]
    lines = [line.strip() for line in text.splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("The error above"))[:600]
