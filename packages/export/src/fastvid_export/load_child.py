"""Load an engine to see whether that goes well, alone: `python -m fastvid_export.load_child ASKED ANSWERED`."""

from pathlib import Path
from typing import Any

import torch

from fastvid_export.child_process import serve
from fastvid_export.load import Running, load_raw, read_record


def load(request: dict[str, Any]) -> dict[str, Any]:
    """The engine is loaded as the caller will, and let go."""
    if request["gpu"] is not None:
        torch.cuda.set_device(request["gpu"])  # the one that the caller is on
    folder = Path(request["folder"])
    load_raw(read_record(folder), folder, Running())
    return {}


if __name__ == "__main__":
    serve(load)
