"""What operations allow VGDFR at full size: the bounds that its speed-ups stand beside."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_bounds_of_hunyuan_video_from_the_fifth_of_fifty_steps() -> None:
    """Every pair of latents merged, and every four; attention is 0.736 of the whole."""
    code = "import json, vgdfr; print(json.dumps([vgdfr.count(vgdfr.FULL, length) for length in (25, 14, 9)]))"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, cwd=BENCHMARKS)
    assert result.returncode == 0, result.stderr
    whole, pairs, fours = json.loads(result.stdout)
    assert whole[1] / sum(whole) == pytest.approx(0.736, abs=0.01)
    bounds = [50 / (5 + 45 * sum(merged) / sum(whole)) for merged in (pairs, fours)]
    assert bounds == pytest.approx([2.26, 3.65], rel=0.02)
