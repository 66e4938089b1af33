"""The model that comes with fastvid-pipelines, as a user meets it first: no flags but the photo and the sentence."""

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from fastvid_pipelines import FSVideoPipeline
from fastvid_pipelines.embedded import embedded_folder
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from ..warm import printed_by

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "recipes" / "embedded"))

from camera_motion import MOTIONS, sources, visible, warp  # noqa: E402  # the recipes are scripts in one folder

ASSETS = ROOT / "examples" / "assets"
SCRIPT = Path(sys.executable).with_name("fastvid-cli")
LARGEST = 24 * 2**20
MARGIN = 32


def test_it_is_as_small_as_promised() -> None:
    assert sum(file.stat().st_size for file in embedded_folder().rglob("*") if file.is_file()) <= LARGEST


def test_the_first_video_is_whole_and_comes_out_the_same_twice(tmp_path: Path) -> None:
    words = ("generate", str(ASSETS / "dandelion.jpg"), "--prompt", "the camera slowly zooms in", "--output")
    records = []
    for name in ("first", "second"):
        output = tmp_path / f"{name}.mp4"
        if name == "first":  # as a user starts it
            subprocess.run([str(SCRIPT), *words, str(output)], check=True, timeout=300)
        else:
            printed_by(SCRIPT, *words, output)
        with av.open(str(output)) as container:
            stream = container.streams.video[0]
            assert (stream.frames, stream.height, stream.width) == (17, 128, 128)
            assert sum(1 for _ in container.decode(stream)) == 17
        with Image.open(output.with_suffix(".png")) as sheet:
            assert sheet.width > 3 * 128
        records.append(json.loads(output.with_suffix(".json").read_text(encoding="utf-8")))
    assert records[0]["output"]["frames_sha256"] == records[1]["output"]["frames_sha256"]
    assert records[0]["request"]["prompt"] == "the camera slowly zooms in"


@pytest.fixture(scope="module")
def pipe() -> FSVideoPipeline:
    return FSVideoPipeline.default()


def meadow(side: int) -> Tensor:
    """A photo (3, H, W) in [-1, 1] whose middle `side` pixels are frame 0, with what a camera finds around them."""
    whole = side + 2 * (side * MARGIN // 128)
    with Image.open(ASSETS / "meadow.jpg") as image:
        photo = ImageOps.fit(image.convert("RGB"), (whole, whole))
    return torch.from_numpy(np.array(photo)).permute(2, 0, 1) / 127.5 - 1


def psnr_of(frames: Tensor, canvas: Tensor, name: str) -> float:
    """PSNR in dB to the exact warp, over the pixels that frame 0 shows."""
    side = frames.shape[-1]
    margin = (canvas.shape[-1] - side) // 2
    places = sources(MOTIONS[name], [frame / 16 for frame in range(17)], side, side)
    truth, seen = warp(canvas, places, (margin, margin)), visible(places, side, side)
    return float(10 * torch.log10(4 / (frames - truth).square().mean(dim=0)[seen].mean()))


def video(pipe: FSVideoPipeline, first: Tensor, prompt: str) -> Tensor:
    """Frames (3, 17, H, W) of the photo's size."""
    height, width = first.shape[1:]
    generator = torch.Generator().manual_seed(0)
    clip = pipe(image=first, prompt=prompt, height=height, width=width, generator=generator, output_type="pt")
    return clip.frames[0]


@pytest.mark.parametrize("prompt", ["the camera pans left", "the camera tilts up", "the camera zooms out"])
def test_it_moves_as_asked(pipe: FSVideoPipeline, prompt: str) -> None:
    canvas = meadow(128)
    first = canvas[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    frames = video(pipe, first, prompt)
    scores = {name: psnr_of(frames, canvas, name) for name in MOTIONS}
    assert max(scores, key=lambda name: scores[name]) == prompt
    assert scores[prompt] > psnr_of(first[:, None].expand_as(frames), canvas, prompt) + 3


@pytest.mark.parametrize("prompt", ["the camera zooms in", "the camera holds still"])
def test_the_second_stage_is_nearer_to_the_truth_than_its_small_video_enlarged(
    pipe: FSVideoPipeline, prompt: str
) -> None:
    canvas = meadow(256)
    first = canvas[:, 2 * MARGIN : -2 * MARGIN, 2 * MARGIN : -2 * MARGIN]
    half = functional.interpolate(first[None], scale_factor=0.5, mode="bicubic", antialias=True)[0].clamp(-1, 1)
    small = video(pipe, half, prompt).transpose(0, 1)
    enlarged = functional.interpolate(small, scale_factor=2.0, mode="bicubic").clamp(-1, 1).transpose(0, 1)
    large = video(pipe, first, prompt)
    assert large.shape == (3, 17, 256, 256)
    assert psnr_of(large, canvas, prompt) > psnr_of(enlarged, canvas, prompt) + 1


def test_sizes_near_256_have_the_second_stage_too(pipe: FSVideoPipeline) -> None:
    first = meadow(256)[:, 64:304, 24:344]
    clip = pipe(image=first, prompt="the camera holds still", height=240, width=320, output_type="pt")
    assert clip.frames.shape == (1, 3, 17, 240, 320)
    assert "refine" in clip.seconds
