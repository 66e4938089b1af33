"""AsymRnR on the embedded model, at toy size: from photos to the table and the figure."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_way_at_one_saving(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    names = ("meadow.jpg", "periwinkle.jpg")
    for name in names:
        shutil.copy(ROOT / "examples" / "assets" / name, tmp_path / "photos")
    split = {"photos": {"train": [names[0]], "validation": [names[1]]}, "clips": {"train": [], "validation": []}}
    (tmp_path / "split.json").write_text(json.dumps(split))
    output = tmp_path / "result.json"
    script = ROOT / "benchmarks" / "asymrnr_embedded.py"
    toy = ("--photos", "1", "--steps", "2", "--savings", "0.04", "--output", str(output))
    command = [sys.executable, str(script), str(tmp_path), *toy]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    rows = json.loads(output.read_text())["results"]
    assert len(rows) == 9
    saved = {row["way"]: row["removed_share"] for row in rows}
    assert all(share == pytest.approx(0.04, abs=0.01) for way, share in saved.items() if "ToMe," not in way and share)
    assert output.with_suffix(".md").read_text().count("\n|") == 11
    assert output.with_suffix(".svg").read_text().count("<circle") == 8
