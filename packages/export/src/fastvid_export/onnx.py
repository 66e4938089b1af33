"""Module -> verified ONNX file: trace, translate, optimise, compare with eager, and only then install."""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import torch

from fastvid_export.exportable import Exportable
from fastvid_export.runtime import OnnxEngine, ReferenceEngine, import_onnxruntime
from fastvid_export.verify import ParityError, ParityReport, verify
from fastvid_export.workshop import locked, workshop

logger = logging.getLogger(__name__)

Flavour = Literal["portable", "fused"]
OPSETS: Mapping[Flavour, int] = MappingProxyType({"portable": 20, "fused": 23})
"""ONNX operator sets. `portable` runs everywhere. In `fused` graphs group norm, RMS norm and attention are single
operators, for which engines have kernels of their own: TensorRT takes it in float16 and bfloat16 only, since it has no
kernel for attention in float32, and neither do all ONNX runtimes have the operators."""


def export_onnx(
    exportable: Exportable,
    path: str | os.PathLike[str],
    *,
    flavour: Flavour = "portable",
    cases: Sequence[Mapping[str, int]] | None = None,
    tolerance: float | None = None,
    external_weights: bool | None = None,
) -> ParityReport:
    """Write an ONNX file that was seen to compute what the module computes.

    Beside `name.onnx` stands `name.json`, the parity report, and for large models `name.<digest>.weights`. All are
    written under another name first; a file that was there stays whole until the new one is verified and complete. A
    second process that exports to the same path waits for the first; what a killed one left goes.

    Args:
        exportable: from `decoder_exportable` or `transformer_exportable`, or your own. float32 and float16 are compared
            by onnxruntime, bfloat16, for which it has no kernels on the CPU, by onnx's own evaluator, which is slow.
        path: where to write; ends in .onnx, in a folder that exists.
        flavour: which of `OPSETS`.
        cases: sizes at which to compare with eager, beside any that the trace could not promise; None:
            `exportable.corner_sizes()`.
        tolerance: largest relative error that passes; None: that of the module's precision in `TOLERANCES`.
        external_weights: whether weights go into a file of their own; None: only where they have to.
    Raises:
        ValueError: an argument is not legal.
        ImportError: onnxruntime, which runs the comparison, is not installed.
        ExportError: no graph holds for all the sizes of `exportable.axes`.
        ParityError: the graph computes something else. Nothing is written.
    """
    target = Path(path)
    _check_arguments(target, flavour)
    make_engine = ReferenceEngine if exportable.precision == torch.bfloat16 else OnnxEngine
    if make_engine is OnnxEngine:
        import_onnxruntime()  # before the minutes that the translation may take
    from fastvid_export.translation import save, translate

    translation = translate(exportable, opset=OPSETS[flavour])
    chosen = list(exportable.corner_sizes() if cases is None else cases)
    chosen += [sizes for sizes in translation.untraced if sizes not in chosen]
    with locked(target, wait=-1), workshop(target) as shop:
        written = save(translation.model, shop / target.name, external_weights)
        report = verify(exportable, make_engine(shop / target.name), cases=chosen, tolerance=tolerance)
        if not report.passed:
            raise ParityError(report)
        sidecar = shop / f"{target.stem}.json"
        sidecar.write_text(report.to_json())
        _install(target, [*written, sidecar])
    logger.info("%s: %d comparisons, worst relative error %.1e", target.name, len(report.cases), report.worst or 0)
    return report


def _check_arguments(target: Path, flavour: str) -> None:
    if flavour not in OPSETS:
        raise ValueError(f"`flavour` must be one of {', '.join(map(repr, OPSETS))}, got {flavour!r}")
    if target.suffix != ".onnx":
        raise ValueError(f"`path` must end in .onnx, got {str(target)!r}")
    if not target.parent.is_dir():
        raise ValueError(f"`path` must lie in a folder that exists, got {str(target)!r}")


def _install(target: Path, files: Sequence[Path]) -> None:
    """Move finished files into place: weights under a name of their own, then the graph, which switches to them."""
    for file in files:
        with file.open("r+b") as handle:  # Windows syncs only what is open for writing
            os.fsync(handle.fileno())
        file.replace(target.with_name(file.name))
    kept = {file.name for file in files}
    pattern = re.compile(re.escape(target.stem) + r"\.[0-9a-f]{16}\.weights")
    for stale in target.parent.iterdir():
        if pattern.fullmatch(stale.name) and stale.name not in kept:
            stale.unlink()
