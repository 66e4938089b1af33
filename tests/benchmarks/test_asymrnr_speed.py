"""The two benchmarks of AsymRnR's speed, at toy size; their numbers mean nothing there."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(name: str, output: Path, *words: str) -> list[dict[str, Any]]:
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--toy", *words, "--output", str(output)]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr
    report = json.loads(output.read_text())
    assert report["question"] == name
    rows: list[dict[str, Any]] = report["results"]
    return rows


def lines_of_tables(output: Path) -> int:
    return output.with_suffix(".md").read_text().count("\n|")


@pytest.mark.slow
def test_transformers_with_and_without(tmp_path: Path) -> None:
    rows = run("asymrnr", tmp_path / "result.json", "--runs", "1")
    assert len(rows) == 9
    assert all(row["seconds"] > 0 for row in rows)
    assert [row["flops_gain"] > 0 for row in rows] == 3 * [False, True, True]
    assert all(row["block_ms"] for row in rows if row["flops_gain"])
    for row in rows[::3]:
        assert row["matcher"] == "torch"
        assert all(row[f"{name}_ms"] > 0 for name in ("attention", "matching_torch", "selection", "gathers_q"))
        assert row["break_even_kv"] > row["matching_share"] > 0
    assert lines_of_tables(tmp_path / "result.json") == (len(rows) + 2) + (3 + 2)


@pytest.mark.slow
def test_one_matching(tmp_path: Path) -> None:
    rows = run("asymrnr_matching", tmp_path / "result.json")
    assert lines_of_tables(tmp_path / "result.json") == len(rows) + 2
    assert all(row["seconds"] > 0 for row in rows)
    assert json.loads((tmp_path / "result.json").read_text())["same_neighbour_as_float64"]["bfloat16"] > 0.9
