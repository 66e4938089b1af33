"""Photo and sentence to mp4, json and png: the script as a user starts it, on a tiny pipeline saved to a folder."""

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ..tiny_models import SAMPLING, tiny_pipeline

PHOTO = Path(__file__).parents[2] / "examples" / "assets" / "dandelion.jpg"
SCRIPT = Path(sys.executable).with_name("fastvid-cli")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return folder


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *map(str, arguments)], check=False, capture_output=True, text=True, timeout=900)


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_generate_writes_three_files_and_the_same_frames_twice(model: Path, tmp_path: Path) -> None:
    records = []
    for name in ("first", "second"):
        output = tmp_path / f"{name}.mp4"
        result = call("generate", PHOTO, "--prompt", "the camera pans left", "--output", output, "--model", model)
        assert result.returncode == 0, result.stderr
        assert frames_of(output).shape == (SAMPLING.num_frames, SAMPLING.height, SAMPLING.width, 3)
        with Image.open(output.with_suffix(".png")) as sheet:
            assert min(sheet.size) >= SAMPLING.height
        records.append(json.loads(output.with_suffix(".json").read_text(encoding="utf-8")))
    assert records[0]["output"]["frames_sha256"] == records[1]["output"]["frames_sha256"]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".json", ".mp4", ".mp4", ".png", ".png"]


def test_reconstruct_takes_what_generate_made(model: Path, tmp_path: Path) -> None:
    video, output = tmp_path / "video.mp4", tmp_path / "again.mp4"
    made = call("generate", PHOTO, "--prompt", "the camera tilts up", "--output", video, "--model", model)
    assert made.returncode == 0, made.stderr
    result = call("reconstruct", video, output, "--model", model, "--json")
    assert result.returncode == 0, result.stderr
    assert frames_of(output).shape == frames_of(video).shape
    assert json.loads(result.stdout)["output"]["num_frames"] == SAMPLING.num_frames


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("--num-frames", "0"), "num_frames"),
        (("--steps", "0"), "num_inference_steps"),
        (("--width", "-1"), "width"),
        (("--accelerate", "warp"), "warp"),
    ],
)
def test_bad_input_is_usage_and_leaves_nothing(
    model: Path, tmp_path: Path, changes: tuple[str, str], said: str
) -> None:
    output = tmp_path / "out.mp4"
    result = call("generate", PHOTO, "--prompt", "holds still", "--output", output, "--model", model, *changes)
    assert result.returncode == 2, result.stderr
    assert said in result.stderr
    assert list(tmp_path.iterdir()) == []
