"""Tiny Reducio-VAEs: four levels of which two compress time, clips of 8 frames, stride (4, 8, 8)."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from fastvid_vae import ReducioConfig, ReducioVAE

TINY = ReducioConfig(
    latent_channels=4,
    num_frames=8,
    widths=(4, 4, 8, 8),
    content_widths=(4, 8, 8),
    num_blocks=1,
    temporal_levels=2,
    fusion="attention",
    fused_levels=(1, 2),
    num_heads=2,
    fusion_head_width=4,
    norm_groups=2,
)


@pytest.fixture
def tiny_config() -> Callable[..., ReducioConfig]:
    return lambda **changes: replace(TINY, **changes)


@pytest.fixture
def build() -> Callable[..., ReducioVAE]:
    """A model whose every weight is random, but for the tables over time, which are not learned."""

    def build(*, seed: int = 0, scale: float = 0.15, **changes: object) -> ReducioVAE:
        torch.manual_seed(seed)
        model = ReducioVAE(replace(TINY, **changes))  # type: ignore[arg-type]
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if not name.endswith("pos_embed"):
                    parameter.normal_(std=scale)
        return model.eval().requires_grad_(False)

    return build
