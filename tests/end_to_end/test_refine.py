"""Two stages of real parts: the pipeline is saved, read back, and refines what it made and what is there already."""

from pathlib import Path

import numpy as np
import pytest
import torch
from fastvid_pipelines import FSVideoPipeline, refine_video

from ..tiny_models import tiny_pipeline

PHOTO = np.random.default_rng(0).integers(0, 256, (70, 80, 3), dtype=np.uint8)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_saved_and_read_back_it_refines_the_same(tmp_path: Path) -> None:
    pipe = tiny_pipeline(refining=True)
    pipe.save_pretrained(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} >= {"upsampler", "refiner"}
    again = FSVideoPipeline.from_pretrained(tmp_path / "model")
    clips = [
        model(image=PHOTO, prompt="pan left", height=62, width=70, num_frames=7, generator=seeded())
        for model in (pipe, again)
    ]
    assert clips[0].frames.shape == (7, 62, 70, 3)
    assert "refine" in clips[0].seconds
    assert (clips[0].frames == clips[1].frames).all()
    refined = refine_video(again, clips[0].frames, prompt="pan left", fps=8.0, generator=seeded())
    assert refined.frames.shape == (7, 124, 140, 3)


def test_without_a_refiner_the_folder_has_neither_part(tmp_path: Path) -> None:
    tiny_pipeline().save_pretrained(tmp_path / "model")
    assert not {path.name for path in (tmp_path / "model").iterdir()} & {"upsampler", "refiner"}
    assert FSVideoPipeline.from_pretrained(tmp_path / "model").refiner is None


def test_a_refiner_without_mask_statistics_is_refused(tmp_path: Path) -> None:
    tiny_pipeline(refining=True).save_pretrained(tmp_path / "model")
    config = tmp_path / "model" / "refiner" / "config.json"
    whole = config.read_text()
    start, end = whole.index('"refiner_mask": {'), whole.index("}", whole.index('"refiner_mask": {')) + 1
    config.write_text(whole[:start] + '"refiner_mask": null' + whole[end:])
    with pytest.raises(ValueError, match="has no mask statistics"):
        FSVideoPipeline.from_pretrained(tmp_path / "model")
    config.write_text(whole.replace('"error_low": 0.1,', ""))
    with pytest.raises(ValueError, match=r"missing keys error_low"):
        FSVideoPipeline.from_pretrained(tmp_path / "model")


def test_an_upsampler_in_the_refiners_place_is_refused(tmp_path: Path) -> None:
    tiny_pipeline(refining=True).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "refiner").rename(tmp_path / "model" / "gone")
    (tmp_path / "model" / "upsampler").rename(tmp_path / "model" / "refiner")
    (tmp_path / "model" / "gone").rename(tmp_path / "model" / "upsampler")
    with pytest.raises(ValueError, match="'FSVideoDiT'; expected `_class_name` 'LatentUpsampler'"):
        FSVideoPipeline.from_pretrained(tmp_path / "model")
