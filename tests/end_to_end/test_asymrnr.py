"""AsymRnR from the command line: calibrate, generate with what was measured, and read what it says."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ..tiny_models import tiny_pipeline
from ..warm import run_program

SCRIPT = Path(sys.executable).with_name("fastvid-cli")
PHOTO = Path(__file__).parents[2] / "examples" / "assets" / "meadow.jpg"
SIZE = ("--num-frames", "13", "--height", "64", "--width", "64")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return folder


def run(*words: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return run_program(SCRIPT, *words, cwd=folder)


def test_calibrate_then_generate(model: Path, tmp_path: Path) -> None:
    settings, video = tmp_path / "settings.json", tmp_path / "out.mp4"
    shared = (PHOTO, "--prompt", "the camera pans left", "--model", model, *SIZE)
    made = run("calibrate", *shared, "--output", settings, "--saving", "0.01", "--stride", 2, 2, 2, "--json")
    assert made.returncode == 0, made.stderr
    said = json.loads(made.stdout)
    assert said["saving"] == 0.01
    program, *words = shlex.split(said["use"])
    assert program == "fastvid-cli"
    accelerated = run(*words, folder=tmp_path)  # as it stands: what calibration printed makes a video
    assert accelerated.returncode == 0, accelerated.stderr
    sidecar = json.loads(video.with_suffix(".json").read_text())
    report = sidecar["accelerator"]["report"]
    assert report["is_on"]
    assert report["model"] == sidecar["model"]["fingerprint"]
    assert report["flops"]["removed_share"] >= 0.01
    assert report["counted"]["removed"] == pytest.approx(report["flops"]["removed"], rel=0.05)


def test_settings_of_another_model_are_refused(model: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    shared = (PHOTO, "--prompt", "the camera pans left", "--model", model, *SIZE)
    assert run("calibrate", *shared, "--output", settings, "--saving", "0.01").returncode == 0
    facts = json.loads(settings.read_text())
    facts["table"]["model"] = "another"
    settings.write_text(json.dumps(facts))
    video = tmp_path / "out.mp4"
    refused = run("generate", *shared, "--output", video, "--accelerate", "asymrnr", "--accelerate-settings", settings)
    assert refused.returncode == 2
    assert "`--accelerate-settings`" in refused.stderr
    assert "calibrated for the model 'another'" in refused.stderr
    assert not video.exists()
