"""What every accelerator promises a pipeline, as far as it holds at settings that change nothing."""

import numpy as np
import pytest
import torch
from fastvid_accel import compose
from fastvid_pipelines import Clip

from ..tiny_models import SAMPLING, tiny_pipeline
from .installed import NEUTRAL, load, with_fake

ACCELERATORS = with_fake("accelerator")
PHOTO = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def run(accelerator: object | None) -> Clip:
    clip = tiny_pipeline()(
        image=PHOTO,
        prompt="the camera pans left",
        generator=torch.Generator().manual_seed(1),
        accelerator=accelerator,  # type: ignore[arg-type]
    )
    assert isinstance(clip, Clip)
    return clip


@pytest.mark.parametrize("name", ACCELERATORS)
def test_doing_nothing_is_the_same_to_the_bit(name: str) -> None:
    accelerator = load("accelerator", name)(**NEUTRAL.get(name, {}))
    assert np.array_equal(run(accelerator).frames, run(None).frames)


@pytest.mark.parametrize("name", ACCELERATORS)
def test_a_second_video_is_not_affected_by_the_first(name: str) -> None:
    accelerator = load("accelerator", name)(**NEUTRAL.get(name, {}))
    assert np.array_equal(run(accelerator).frames, run(accelerator).frames)


@pytest.mark.parametrize("name", ACCELERATORS)
def test_several_work_as_one(name: str) -> None:
    accelerator = load("accelerator", name)(**NEUTRAL.get(name, {}))
    clip = run(compose(accelerator, accelerator))
    assert np.array_equal(clip.frames, run(None).frames)
    assert len(clip.latent_frames) == SAMPLING.num_inference_steps
