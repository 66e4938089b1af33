"""What every autoencoder promises a pipeline."""

import pytest
import torch
from fastvid_pipelines.interfaces import Autoencoder
from torch import Tensor

from .installed import tiny_autoencoder, with_fake

AUTOENCODERS = with_fake("autoencoder")


def draw_frames(num_frames: int, height: int, width: int) -> Tensor:
    return torch.rand(2, 3, num_frames, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def reference_of(model: Autoencoder, frames: Tensor) -> Tensor | None:
    return frames[:, :, 0] if model.takes_reference else None


@pytest.mark.parametrize("name", AUTOENCODERS)
@pytest.mark.parametrize(("num_frames", "height", "width"), [(1, 32, 32), (5, 16, 48), (7, 37, 29)])
def test_any_size_in_and_the_same_size_out(name: str, num_frames: int, height: int, width: int) -> None:
    model = tiny_autoencoder(name)
    frames = draw_frames(num_frames, height, width)
    latents = model.encode(frames)
    _, tall, wide = model.stride
    cells = (model.num_latent_frames(num_frames), -(-height // tall), -(-width // wide))
    assert latents.shape == (2, model.latent_channels, *cells)
    decoded = model.decode(latents, reference=reference_of(model, frames), num_frames=num_frames, size=(height, width))
    assert decoded.shape == frames.shape
    assert decoded.dtype == frames.dtype


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_without_a_generator_both_ways_are_functions(name: str) -> None:
    model = tiny_autoencoder(name)
    frames = draw_frames(5, 32, 32)
    latents = model.encode(frames)
    assert torch.equal(latents, model.encode(frames))
    first, second = (model.decode(latents, reference=reference_of(model, frames)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_videos_of_a_batch_do_not_mix(name: str) -> None:
    model = tiny_autoencoder(name)
    frames = draw_frames(5, 32, 32)
    alone = model.encode(frames[:1])
    torch.testing.assert_close(model.encode(frames)[:1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", AUTOENCODERS)
@pytest.mark.parametrize(
    "frames", [torch.zeros(1, 4, 5, 32, 32), torch.zeros(3, 5, 32, 32), torch.zeros(1, 3, 0, 32, 32)]
)
def test_frames_of_a_wrong_shape_are_refused_by_name(name: str, frames: Tensor) -> None:
    with pytest.raises(ValueError, match="`frames`"):
        tiny_autoencoder(name).encode(frames)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_a_reference_without_use_is_refused(name: str) -> None:
    model = tiny_autoencoder(name)
    frames = draw_frames(5, 16, 16)
    latents = model.encode(frames)
    if model.takes_reference:
        assert model.decode(latents, reference=frames[:, :, 0]).shape[:2] == (2, 3)
        return
    with pytest.raises(ValueError, match="`reference` has no effect"):
        model.decode(latents, reference=frames[:, :, 0])


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_stages_are_left_out_or_refused(name: str) -> None:
    model = tiny_autoencoder(name)
    if name in ("ODVAE", "ReducioVAE"):
        with pytest.raises(ValueError, match="cannot leave stages out as FSAE does"):
            model.truncated(stages=1)
        return
    small = model.truncated(stages=1)
    assert small.stride == (model.stride[0], *(side // 2 for side in model.stride[1:]))
    frames = draw_frames(5, 24, 20)
    latents = small.encode(frames)
    assert latents.shape == model.encode(draw_frames(5, 48, 40)).shape
    reference = frames[:, :, 0] if small.takes_reference else None
    assert small.decode(latents, reference=reference, size=(24, 20)).shape == frames.shape
