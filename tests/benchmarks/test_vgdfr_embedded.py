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
    found = {(row["case"], row["speed"]): row for row in rows}
    one_each, everywhere = 1 + 9 + 3 + 3 + 2 + 3, "all videos"
    assert len([key for key in found if key[1] != everywhere]) == 4 * one_each
    still = {case: row["latents"] for (case, speed), row in found.items() if speed == "holds still"}
    assert still["none"] == 5
    assert still["VGDFR 0.75, local"] == still["even drop, as VGDFR 0.75, centre"] == still["even drop, 4"] == 4
    assert found["none", everywhere]["error_to_exact"] == 0
    ours = found["VGDFR 0.75, centre", everywhere]["latents"]
    assert found[f"even drop, {ours:.2f} of every video", everywhere]["latents"] == pytest.approx(ours)
    assert json.loads(output.read_text())["same_schedule"].keys() == {"a stage less", "two less", "refined"}
    assert output.with_suffix(".md").read_text().count("\n|") == 2 + len({case for case, _ in found})
