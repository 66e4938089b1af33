"""The operations of the paper, recomputed: a formula that is off shows here."""

import json
from pathlib import Path

from ..warm import run_program

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_every_row_is_the_papers_within_a_thousandth_but_for_its_misprints(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    result = run_program(BENCHMARKS / "asymrnr_flops.py", "--output", output)
    assert result.returncode == 0, result.stderr
    rows = json.loads(output.read_text())["results"]
    assert len(rows) == 31
    assert {row["name"] for row in rows if row["note"]} == {"s = 1", "s = 3"}
    assert {row["name"]: row["off"] for row in rows if not row["note"] and abs(row["off"]) > 0.001} == {}
    assert output.with_suffix(".md").read_text().count("\n|") == len(rows) + 2
