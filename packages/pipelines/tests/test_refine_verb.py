"""The verb `refine`, and `generate` with a second stage, from the command line to the files."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fastvid_pipelines.types import Clip
from fastvid_pipelines.video_io import read_video, save_video

from . import fakes
from .conftest import Outcome

Run = Callable[..., Outcome]


@pytest.fixture
def refining(tmp_path: Path, discoverable: None) -> Path:
    folder = tmp_path / "refining"
    fakes.build_pipeline(refining=True).save_pretrained(folder)
    return folder


@pytest.fixture
def refine(tmp_path: Path, refining: Path) -> Run:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 48, 3), dtype=np.uint8)
    save_video(Clip(frames=pixels, fps=8.0), tmp_path / "in.mp4")

    def call(*words: object) -> Outcome:
        given = ["refine", tmp_path / "in.mp4", "--prompt", "pan left", "-o", tmp_path / "out.mp4", "--model", refining]
        return Outcome(tmp_path, *given, *words)

    return call


def test_a_video_twice_as_large(refine: Run, tmp_path: Path) -> None:
    outcome = refine("--json", "--seed", 3)
    assert outcome.code == 0, outcome.err
    assert outcome.new == ["out.json", "out.mp4", "out.png"]
    record = json.loads(outcome.out)
    assert record == json.loads((tmp_path / "out.json").read_text())
    assert record["request"]["prompt"] == "pan left"
    assert record["request"]["seed"] == 3
    assert (record["output"]["num_frames"], record["output"]["height"], record["output"]["width"]) == (6, 64, 96)
    assert read_video(tmp_path / "out.mp4").frames.shape == (6, 64, 96, 3)
    assert {"load", "encode_video", "refine", "decode", "write", "total"} <= record["seconds"].keys()


def test_seeds_and_steps_count(refine: Run) -> None:
    def frames(*words: object) -> str:
        return str(json.loads(refine("--json", *words).out)["output"]["frames_sha256"])

    first = frames("--seed", 1)
    assert frames("--seed", 1) == first
    assert frames("--seed", 2) != first
    assert frames("--seed", 1, "--steps", 3) != first


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--steps", 0), "`--steps` is 0; expected at least 1"),
        (("--steps", -1), "`--steps` is -1"),
        (("--seed", -1), "`--seed` is -1"),
        (("--image", "missing.png"), "`--image` is 'missing.png': no such file"),
        (("--num-frames", 0), "`--num-frames` is 0"),
        (("--model", ""), "`--model` is ''; expected a folder"),
    ],
)
def test_refused_with_nothing_written(refine: Run, words: tuple[object, ...], message: str) -> None:
    outcome = refine(*words)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.new == []


def test_a_model_without_a_refiner_is_refused(refine: Run, saved: Path) -> None:
    outcome = refine("--model", saved)
    assert outcome.code == 2
    assert "`--model` has no refiner" in outcome.err
    assert outcome.new == []


def test_generate_says_how_it_refined(tmp_path: Path, photo: Path, refining: Path) -> None:
    base = ["generate", photo, "--prompt", "pan left", "--output", tmp_path / "out.mp4", "--model", refining, "--json"]
    small = json.loads(Outcome(tmp_path, *base).out)
    large = json.loads(Outcome(tmp_path, *base, "--height", 64, "--width", 96).out)
    asked = json.loads(Outcome(tmp_path, *base, "--refiner-steps", 3).out)
    unrefined = json.loads(Outcome(tmp_path, *base, "--height", 64, "--width", 96, "--refiner-steps", 0).out)
    assert small["request"]["refinement"] is None
    assert large["request"]["refinement"] == {"num_inference_steps": 2, "shift": 3.0, "solver": "euler"}
    assert asked["request"]["refinement"]["num_inference_steps"] == 3
    assert unrefined["request"]["refinement"] is None
    assert "--refiner-steps 2" in large["command"]
    assert "--refiner-steps 0" in unrefined["command"]
    assert "--refiner-steps" not in small["command"]
