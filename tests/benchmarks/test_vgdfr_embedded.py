"""VGDFR on the embedded model, at toy size: from a photo to the table."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_case_at_every_speed(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    names = ("meadow.jpg", "periwinkle.jpg")
    for name in names:
        shutil.copy(ROOT / "examples" / "assets" / name, tmp_path / "photos")
    split = {"photos": {"train": [names[0]], "validation": [names[1]]}, "clips": {"train": [], "validation": []}}
    (tmp_path / "split.json").write_text(json.dumps(split))
    output = tmp_path / "result.json"
    script = ROOT / "benchmarks" / "vgdfr_embedded.py"
    toy = ("--photos", "1", "--steps", "2", "--num-frames", "17", "--output", str(output))
    command = [sys.executable, str(script), str(tmp_path), *toy]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    rows = json.loads(output.read_text())["results"]
    assert len(rows) == 12 * 4  # cases, speeds
    left = {(row["case"], row["speed"]): row["latents"] for row in rows}
    assert left["none", "holds still"] == 5
    assert left["VGDFR 0.75, local", "holds still"] == left["even drop, as VGDFR 0.75", "holds still"] == 4
    assert output.with_suffix(".md").read_text().count("\n|") == 14
