"""The traced program that the backends without ONNX start from."""

import hashlib
from pathlib import Path

import torch

from fastvid_export.backend import Prepared
from fastvid_export.exportable import Exportable


def prepare_program(exportable: Exportable, folder: Path) -> Prepared:
    """Trace and save; the trace alone is compared with nothing, the engine made from it is."""
    from fastvid_export.translation import trace

    _, program = trace(exportable)
    path = folder / "program.pt2"
    torch.export.save(program, path)
    ranges = sorted(f"{symbol}: {bounds}" for symbol, bounds in program.range_constraints.items())
    digest = hashlib.sha256("\n".join([program.graph_module.code, *ranges]).encode())
    return Prepared(
        files=(path,),
        graph=digest.hexdigest(),
        flavour="torch",
        parity=None,
        versions={"torch": torch.__version__},
    )
