"""Engines beside eager, at toy size: parts alone, and whole videos."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ..tiny_models import tiny_pipeline

ROOT = Path(__file__).parents[2]


def run(script: str, *flags: str | Path) -> None:
    command = [sys.executable, ROOT / "benchmarks" / f"{script}.py", *flags]
    result = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, timeout=1800)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_parts_as_engines(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    run("engines", "--toy", "--runs", "1", "--parts", "FSVideoDiT, 2 blocks", "upsampler", "--output", output)
    rows = json.loads(output.read_text())["results"]
    assert not [row for row in rows if "refused" in row]
    assert all(row["difference"] <= 1e-4 for row in rows)
    cases = [row["case"] for row in rows if row["length"] == "merged"]
    assert cases == [
        *("eager", "torch.compile", "AOTInductor", "AOTInductor, merged alone"),
        *("ONNX Runtime", "ONNX Runtime, merged alone"),
    ]
    assert output.with_suffix(".md").read_text().count("\n|") == 2 + len(rows)


@pytest.mark.slow
def test_whole_videos_by_engines(tmp_path: Path) -> None:
    model, output = tmp_path / "model", tmp_path / "result.json"
    tiny_pipeline().save_pretrained(model)
    photo = ROOT / "examples" / "assets" / "meadow.jpg"
    run("engines_embedded", photo, "--model", model, "--steps", "4", "--output", output)
    rows = json.loads(output.read_text())["results"]
    assert [row["backend"] for row in rows] == ["onnxruntime"] * 4 + ["aotinductor"] * 4
    assert all(row["psnr_to_eager"] is None or row["psnr_to_eager"] >= 50 for row in rows)  # None: equal
    for row in rows:  # the accelerators were at work; None: equal
        changed = row["psnr_of_acceleration"]
        assert changed is None if row["way"] == "as it is" else changed < 50
    assert {row["way"]: row["latent_frames"] for row in rows} == {
        "as it is": 5,
        "AsymRnR": 5,
        "VGDFR": 4,
        "AsymRnR and VGDFR": 4,
    }
