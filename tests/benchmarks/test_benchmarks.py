"""The benchmarks run at toy size, from the command line to the table; their numbers mean nothing there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TOY = {
    "fsae_vs_diffusers": "--num-frames 9 --height 64 --width 64 --models AutoencoderKLWan AutoencoderKLLTXVideo",
    "fsae_lite_vs_standard": "--toy",
    "fsvideo_vs_wan": "--toy",
    "odvae_encoders": "--toy",
    "odvae_initialisation": "--toy",
    "reducio": "--toy",
    "reducio_fusion": "--toy",
    "vgdfr": "--toy",
    "dit_vs_wan": "--num-blocks 1 --heads 1 --frames 1 --height 2 --width 2 --batch 1",
}

ELSEWHERE = {
    "asymrnr",
    "asymrnr_embedded",
    "asymrnr_flops",
    "asymrnr_matching",
    "engines",
    "engines_embedded",
    "large_export",
    "vgdfr_embedded",
}
"""Scripts with a test of their own."""


@pytest.mark.slow
def test_large_export_at_toy_size(tmp_path: Path) -> None:
    command = [sys.executable, BENCHMARKS / "large_export.py", "--toy", "--output", tmp_path / "result.json"]
    result = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "result.json").read_text())
    assert 0 < report["largest_relative_error"] < 1e-5
    assert report["peak_gib"] >= report["peak_gib_with_the_model"] > 0
    assert "| peak gib |" in (tmp_path / "result.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TOY))
def test_benchmark_at_toy_size(name: str, tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    command = [sys.executable, BENCHMARKS / f"{name}.py", *TOY[name].split(), "--runs", "1", "--output", output]
    result = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    report = json.loads(output.read_text())
    assert report["question"] == name
    assert len(report["commit"]) == 40
    assert all(value > 0 for result in report["results"] for name, value in result.items() if "seconds" in name)
    names = {result.get("model", result.get("case")) for result in report["results"]}
    rows = [line for line in output.with_suffix(".md").read_text().splitlines() if line.startswith("|")][2:]
    assert len(rows) - (name == "vgdfr") == len(names) >= 3  # the paper has a row there
    if name == "fsvideo_vs_wan":
        assert report["fsvideo_seconds"] > 0
        assert "times faster" in output.with_suffix(".md").read_text()
    elif name == "reducio":
        assert report["reducio_seconds"] > 0
        assert "times faster than I2VGen-XL" in output.with_suffix(".md").read_text()
    elif name == "odvae_initialisation":
        assert [row["case"] for row in report["results"]] == ["tail", "average", "center", "random"]
        assert [step for step, _ in report["results"][0]["curve"]] == [0, 1, 2]
        assert "The paper's order" in output.with_suffix(".md").read_text()
        assert output.with_suffix(".svg").read_text().count("<polyline") == 4
    elif name == "vgdfr":
        assert all(row["speed_up_from_5"] > 0 for row in report["results"])
        whole, *_, last = report["results"]
        assert (whole["case"], last["case"]) == ("5 latents", "3 latents, AsymRnR")
        assert (whole["cost"], whole["cost_by_operations"], whole["speed_up_from_5"]) == (1, 1, 1)
    elif name == "reducio_fusion":
        assert [row["case"] for row in report["results"]] == ["none", "linear", "add", "attention"]
        assert [row["look_steps"] for row in report["results"]] == [0, 0, 0, 1]
        sentence = "(half of those of attention on clips that stand still) the paper's order by PSNR"
        assert sentence in output.with_suffix(".md").read_text()
    else:
        assert any("(1.00x)" in row for row in rows)


def test_every_benchmark_is_tried() -> None:
    scripts = {path.stem for path in BENCHMARKS.glob("*.py") if "def main()" in path.read_text()}
    assert scripts == {*TOY, *ELSEWHERE}
