"""Keep what the cases give now: `uv run python -m tests.numerics.record`.

Only after a change that is meant to change numbers, and with the reason in the commit.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

from .cases import CASES

RECORDED = Path(__file__).with_name("recorded.safetensors")

if __name__ == "__main__":
    with torch.inference_mode():
        results = {name: case().contiguous().clone() for name, case in CASES.items()}
    save_file(results, RECORDED, metadata={"origin": f"tests/numerics/record.py, torch {torch.__version__} on a CPU"})
