"""VGDFR on the embedded model, at toy size: from a photo to the table."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_case_at_every_speed(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    script = ROOT / "benchmarks" / "vgdfr_embedded.py"
    toy = ("--photos", "1", "--steps", "2", "--num-frames", "17", "--output", str(output))
    command = [sys.executable, str(script), str(photos), *toy]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    rows = json.loads(output.read_text())["results"]
    assert len(rows) == 12 * 4  # cases, speeds
    left = {(row["case"], row["speed"]): row["latents"] for row in rows}
    assert left["none", "holds still"] == 5
    assert left["VGDFR 0.75, local", "holds still"] == left["even drop, as VGDFR 0.75", "holds still"] == 4
    assert output.with_suffix(".md").read_text().count("\n|") == 14
