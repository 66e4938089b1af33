"""Noise: reproducible by generator, off where nothing is asked for, one map per block for a chunked pass."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fastvid_vae import FSAE
from fastvid_vae.layers.noise import Noise
from torch import Tensor

# Through weights as small as the tiny model's, the usual noise moves a pixel by 1e-5, less than tests of it allow for.
LOUD: dict[str, Any] = {"noise_weight": 1000.0}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("mode", ["spatial", "full"])
@torch.no_grad()
def test_the_generator_decides(mode: str, build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    model, latents = build(), video(1, 4, 3, 2, 2)
    first = model.decode(latents, noise_mode=mode, generator=seeded())  # type: ignore[arg-type]
    again = model.decode(latents, noise_mode=mode, generator=seeded())  # type: ignore[arg-type]
    other = model.decode(latents, noise_mode=mode, generator=seeded(1))  # type: ignore[arg-type]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, model.decode(latents))


def test_spatial_noise_is_one_map_a_block() -> None:
    x = torch.zeros(2, 3, 4, 5, 6)
    noise = Noise("spatial", 0.05, seeded())
    first, second = noise.add(x), noise.add(x)
    assert torch.equal(first, first[:, :1, :1].expand_as(first))
    assert not torch.equal(first, second)
    noise.next_chunk()
    assert torch.equal(noise.add(x), first)
    assert torch.allclose(first.std(), torch.tensor(0.05), rtol=0.3)


@torch.no_grad()
def test_spatial_noise_is_the_same_in_chunks(build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    model, latents = build(**LOUD), video(1, 4, 5, 2, 3)
    whole = model.decode(latents, noise_mode="spatial", generator=seeded())
    chunks = model.decode_chunks(latents.split([2, 1, 2], dim=2), noise_mode="spatial", generator=seeded())
    assert (whole - model.decode(latents)).abs().max() > 1e-3
    assert torch.allclose(torch.cat(list(chunks), dim=2), whole, atol=1e-5)


def test_settings_without_effect_are_refused(build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    latents = video(1, 4, 1, 2, 2)
    with pytest.raises(ValueError, match="`generator` has no effect"):
        build().decode(latents, generator=seeded())
    with pytest.raises(ValueError, match="`noise_mode` is 'spatial', which has no effect"):
        build(noise_weight=0.0).decode(latents, noise_mode="spatial")
    with pytest.raises(ValueError, match="`noise_mode` is 'loud'; expected"):
        build().decode(latents, noise_mode="loud")  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["causal", "lite", "standard"])
@torch.no_grad()
def test_tiles_of_one_picture_have_noise_of_their_own(mode: str, build: Callable[..., FSAE]) -> None:
    """Two tiles of the same latents: one picture twice without noise, and no repeated pattern with it."""
    model, latents = build(decoder_mode=mode, **LOUD), torch.ones(1, 4, 2, 2, 4)
    with model.tiled(spatial=16, temporal=None, overlap=0):
        left, right = model.decode(latents).chunk(2, dim=4)
        noisy, other = model.decode(latents, noise_mode="spatial", generator=seeded()).chunk(2, dim=4)
    assert torch.allclose(left, right, atol=1e-6)
    assert (noisy - other).abs().max() > 1e-3
