"""The ONNX graph that several backends start from."""

from pathlib import Path

from fastvid_export.backend import Cases, Prepared
from fastvid_export.digest import graph_digest
from fastvid_export.exportable import Exportable
from fastvid_export.onnx import Flavour, export_onnx


def prepare_onnx(exportable: Exportable, folder: Path, flavour: Flavour, cases: Cases | None) -> Prepared:
    """Export and compare; a graph that differs from eager raises `ParityError`."""
    report = export_onnx(exportable, folder / "model.onnx", flavour=flavour, cases=cases)
    weights = sorted(folder.glob("model.*.weights"))
    graph = folder / "model.onnx"
    return Prepared(
        files=(graph, *weights), graph=graph_digest(graph), flavour=flavour, parity=report, versions=report.versions
    )
