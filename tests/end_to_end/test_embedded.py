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


@pytest.mark.parametrize("prompt", ["the camera pans left", "the camera tilts up", "the camera zooms out"])
def test_it_moves_as_asked(pipe: FSVideoPipeline, prompt: str) -> None:
    with Image.open(ASSETS / "meadow.jpg") as image:
        photo = ImageOps.fit(image.convert("RGB"), (128 + 2 * MARGIN, 128 + 2 * MARGIN))
    canvas = torch.from_numpy(np.array(photo)).permute(2, 0, 1) / 127.5 - 1
    first = canvas[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    times = [frame / 16 for frame in range(17)]

    def psnr_against(name: str, frames: Tensor) -> float:
        places = sources(MOTIONS[name], times, 128, 128)
        truth, seen = warp(canvas, places, (MARGIN, MARGIN)), visible(places, 128, 128)
        error = (frames - truth).square().mean(dim=0)[seen].mean()
        return float(10 * torch.log10(4 / error))

    generator = torch.Generator().manual_seed(0)
    frames = pipe(image=first, prompt=prompt, generator=generator, output_type="pt").frames[0]
    scores = {name: psnr_against(name, frames) for name in MOTIONS}
    assert max(scores, key=lambda name: scores[name]) == prompt
    assert scores[prompt] > psnr_against(prompt, first[:, None].expand_as(frames)) + 3
