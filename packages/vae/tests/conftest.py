"""Tiny FSAEs for every test: three stages of which two compress time, stride (4, 8, 8)."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from fastvid_vae import FSAE, FSAEConfig

TINY = FSAEConfig(
    latent_channels=4,
    stage_kinds=("conv", "conv", "attention", "attention"),
    encoder_widths=(4, 8, 16, 16),
    decoder_widths=(4, 8, 16, 16),
    encoder_depths=(1, 1, 1, 1),
    decoder_depths=(1, 1, 1, 1),
    temporal_stages=(0, 1),
    head_width=8,
    affine_norm=True,
    decoder_mode="causal",
    injection=(None, None, "relative", "content"),
    injection_head_width=8,
    noise_weight=0.05,
    latent_mean=(0.1, -0.2, 0.3, 0.0),
    latent_std=(1.0, 2.0, 0.5, 1.5),
)


@pytest.fixture
def tiny_config() -> Callable[..., FSAEConfig]:
    return lambda **changes: replace(TINY, **changes)


@pytest.fixture
def build() -> Callable[..., FSAE]:
    """A model whose every weight is random, so that zero-initialised parts take part."""

    def build(*, seed: int = 0, scale: float = 0.15, **changes: object) -> FSAE:
        torch.manual_seed(seed)
        model = FSAE(replace(TINY, **changes))  # type: ignore[arg-type]
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=scale)
        return model.eval().requires_grad_(False)

    return build


@pytest.fixture
def video() -> Callable[..., torch.Tensor]:
    def video(*shape: int, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(shape, generator=generator) * 2 - 1

    return video
