import numpy as np
import pytest
import torch
from fastvid_pipelines.errors import NonFiniteError
from fastvid_pipelines.stages.decode import decode, to_pixels
from fastvid_pipelines.types import LatentVideo

from ..fakes import FakeAccelerator, FakeAutoencoder


def video(num_latent_frames: int = 3, fill: float | None = None) -> LatentVideo:
    latents = torch.randn(1, 4, num_latent_frames, 5, 6, generator=torch.Generator().manual_seed(0))
    if fill is not None:
        latents = torch.full_like(latents, fill)
    return LatentVideo(latents=latents, positions=torch.zeros(3, num_latent_frames, 5, 6))


REFERENCE = torch.zeros(1, 3, 37, 43)


@torch.inference_mode()
@pytest.mark.parametrize("num_frames", [6, 7, 9])
def test_exactly_the_wanted_frames_at_the_size_of_the_photo(num_frames: int) -> None:
    assert decode(FakeAutoencoder(), video(), REFERENCE, num_frames).shape == (1, 3, num_frames, 37, 43)


@torch.inference_mode()
def test_thinned_latents_are_decoded_whole_and_restored() -> None:
    session = FakeAccelerator(keep=2).start(num_steps=1)
    frames = decode(FakeAutoencoder(), video(2), REFERENCE, 17, session)
    assert frames.shape[2] == 17
    assert session.log == ["start 1", "finish"]


@torch.inference_mode()
def test_an_accelerator_that_loses_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="`accelerator` gave 5 of the 17 frames asked for"):
        decode(FakeAutoencoder(), video(2), REFERENCE, 17, FakeAccelerator().start(num_steps=1))


@torch.inference_mode()
def test_nan_is_reported() -> None:
    with pytest.raises(NonFiniteError, match="stage `decode`"):
        decode(FakeAutoencoder(), video(fill=float("nan")), REFERENCE, 9)


def test_pixels_are_rounded_and_clamped() -> None:
    frames = torch.tensor([-2.0, -1.0, 0.0, 0.999, 1.0, 3.0]).reshape(1, 1, 1, 6).expand(3, 2, 1, 6)
    pixels = to_pixels(frames)
    assert pixels.shape == (2, 1, 6, 3)
    assert pixels.dtype == np.uint8
    assert pixels[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255, 255]
