"""Photo and sentence to mp4, json and png: the script as a user starts it, on a tiny pipeline saved to a folder."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from fastvid_pipelines import FSVideoPipeline, cli
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner, Result

from ..tiny_models import SAMPLING, tiny_pipeline
from ..warm import run_program

PHOTO = Path(__file__).parents[2] / "examples" / "assets" / "dandelion.jpg"
SCRIPT = Path(sys.executable).with_name("fastvid-cli")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return folder


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_program(SCRIPT, *arguments)


def call_here(model: Path, output: Path, *flags: str) -> Result:
    """As `call`, in this process: quicker, where the start of the script is not in question."""
    words = ("generate", PHOTO, "--prompt", "the camera zooms in", "--output", output, "--model", model, *flags)
    return CliRunner().invoke(cli.app, [str(word) for word in words])


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


def test_sizes_may_be_numbers_of_numpy(model: Path) -> None:
    pipeline = FSVideoPipeline.from_pretrained(model)

    def frames(number: Callable[[int], int]) -> np.ndarray:
        generator = torch.Generator().manual_seed(0)
        size = {"num_frames": number(3), "height": number(30), "width": number(34)}
        return pipeline(image=PHOTO, prompt="holds still", generator=generator, **size).frames

    assert frames(np.int64).shape == (3, 30, 34, 3)
    assert (frames(np.uint8) == frames(int)).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("--num-frames", "0"), "`--num-frames` is 0"),
        (("--steps", "0"), "`--steps` is 0"),
        (("--width", "-1"), "`--width` is -1"),
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


@pytest.fixture(scope="module")
def exact(model: Path) -> np.ndarray:
    return frames_in(torch.float32, model)


def frames_in(dtype: torch.dtype, model: Path) -> np.ndarray:
    """Frames as they are before the mp4, whose own loss is larger than the differences in question."""
    pipeline = FSVideoPipeline.from_pretrained(model, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    return pipeline(image=PHOTO, prompt="the camera zooms in", generator=generator).frames.astype(float)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 0), (torch.bfloat16, 1), (torch.float16, 0.2)], ids=str
)
def test_in_every_precision_the_frames_stay_close(
    exact: np.ndarray, model: Path, dtype: torch.dtype, tolerance: float
) -> None:
    difference = np.abs(frames_in(dtype, model) - exact).mean()
    assert difference <= tolerance
    assert (difference > 0) == (dtype != torch.float32)


def first(state: dict[str, Tensor]) -> str:
    return min(name for name, tensor in state.items() if tensor.dim() > 0)


DAMAGES: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "missing": lambda state: state.pop(first(state)),
    "unexpected": lambda state: state.update(more=state[first(state)].clone()),
    "misshapen": lambda state: state.update({first(state): state[first(state)][None].clone()}),
    "NaN": lambda state: state[first(state)].view(-1)[0].fill_(float("nan")),
}


@pytest.mark.parametrize("part", ["vae", "transformer", "text_encoder"])
@pytest.mark.parametrize("damage", [*DAMAGES, "truncated"])
def test_a_damaged_model_is_usage_and_leaves_nothing(model: Path, tmp_path: Path, part: str, damage: str) -> None:
    damaged, output = tmp_path / "model", tmp_path / "out" / "out.mp4"
    shutil.copytree(model, damaged)
    output.parent.mkdir()
    file = damaged / part / "model.safetensors"
    state = load_file(file)
    name = "model.safetensors" if damage == "truncated" else "more" if damage == "unexpected" else first(state)
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-9])
    else:
        DAMAGES[damage](state)
        save_file(state, file, metadata={"format": "pt"})
    result = call_here(damaged, output)
    assert result.exit_code == 2, result.output
    for word in (str(damaged / part), name, damage):
        assert word in result.stderr
    assert list(output.parent.iterdir()) == []
