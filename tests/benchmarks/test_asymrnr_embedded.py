"""AsymRnR on the embedded model, at toy size: from photos to the table and the figure."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_way_at_one_saving(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    script = ROOT / "benchmarks" / "asymrnr_embedded.py"
    toy = ("--photos", "1", "--steps", "2", "--savings", "0.04", "--output", str(output))
    command = [sys.executable, str(script), str(photos), *toy]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    rows = json.loads(output.read_text())["results"]
    assert len(rows) == 9
    saved = {row["way"]: row["removed_share"] for row in rows if row["saving"]}
    credited, scheduled = saved.pop("ToMe, projections credited"), [way for way in saved if "scheduled" in way]
    assert credited < 0.04
    assert all(0.04 <= saved.pop(way) < 0.06 for way in scheduled)  # of two steps one cell of the schedule is a lot
    assert all(share == pytest.approx(0.04, abs=0.003) for share in saved.values())
    assert output.with_suffix(".md").read_text().count("\n|") == 11
    assert output.with_suffix(".svg").read_text().count("<circle") == 8
