"""Module -> verified ONNX file: trace, translate, optimise, compare with eager, and only then install."""

import logging
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from fastvid_export.exportable import Exportable
from fastvid_export.runtime import OnnxEngine, import_onnxruntime
from fastvid_export.verify import FP32_TOLERANCE, ParityError, ParityReport, verify

logger = logging.getLogger(__name__)

OPSETS = (20, 21, 22, 23)
"""20 runs everywhere; from 21 on group norm, from 23 on attention and RMS norm are single operators."""


def export_onnx(
    exportable: Exportable,
    path: str | os.PathLike[str],
    *,
    opset: int = 20,
    cases: Sequence[Mapping[str, int]] | None = None,
    tolerance: float = FP32_TOLERANCE,
    external_weights: bool | None = None,
) -> ParityReport:
    """Write an ONNX file that was seen to compute what the module computes.

    Beside `name.onnx` stands `name.json`, the parity report, and for large models `name.<digest>.weights`. All are
    written under another name first; a file that was there stays whole until the new one is verified and complete.

    Args:
        exportable: from `decoder_exportable` or `transformer_exportable`, or your own.
        path: where to write; ends in .onnx, in a folder that exists.
        opset: one of `OPSETS`.
        cases: sizes at which to compare with eager, beside any that the trace could not promise; None:
            `exportable.corner_sizes()`.
        tolerance: largest relative error that passes.
        external_weights: whether weights go into a file of their own; None: only where they have to.
    Raises:
        ValueError: an argument is not legal.
        ImportError: onnxruntime, which runs the comparison, is not installed.
        ExportError: no graph holds for all the sizes of `exportable.axes`.
        ParityError: the graph computes something else. Nothing is written.
    """
    target = Path(path)
    _check_arguments(target, opset)
    import_onnxruntime()
    from fastvid_export.translation import save, translate

    translation = translate(exportable, opset=opset)
    chosen = list(exportable.corner_sizes() if cases is None else cases)
    chosen += [sizes for sizes in translation.untraced if sizes not in chosen]
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.stem}-") as folder:
        written = save(translation.model, Path(folder) / target.name, external_weights)
        report = verify(exportable, OnnxEngine(Path(folder) / target.name), cases=chosen, tolerance=tolerance)
        if not report.passed:
            raise ParityError(report)
        sidecar = Path(folder) / f"{target.stem}.json"
        sidecar.write_text(report.to_json())
        _install(target, [*written, sidecar])
    logger.info("%s: %d comparisons, worst relative error %.1e", target.name, len(report.cases), report.worst or 0)
    return report


def _check_arguments(target: Path, opset: int) -> None:
    if opset not in OPSETS:
        nearest = sorted(OPSETS, key=lambda legal: abs(legal - opset))[:2]
        raise ValueError(f"`opset` must be one of {OPSETS}, got {opset}; the nearest legal values are {nearest}")
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
