from collections.abc import Callable
from typing import Any

import pytest
import torch
from fastvid_dit import FSVideoDiT, FSVideoDiTConfig
from torch import Tensor

TINY = FSVideoDiTConfig(
    patch_size=(1, 1, 1),
    latent_channels=4,
    mask_channels=4,
    width=48,
    num_heads=4,
    num_blocks=4,
    ffn_width=64,
    frequency_width=16,
    text_width=10,
    image_width=14,
    norm_eps=1e-6,
    rope_theta=10000.0,
    layer_memory=True,
    memory_norm="post",
)


@pytest.fixture
def tiny() -> FSVideoDiTConfig:
    return TINY


@pytest.fixture
def build() -> Callable[..., FSVideoDiT]:
    """A model with every parameter random, so that no zero initialisation hides a path."""

    def make(config: FSVideoDiTConfig = TINY, seed: int = 0) -> FSVideoDiT:
        generator = torch.Generator().manual_seed(seed)
        model = FSVideoDiT(config)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(noise * (parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else 0.3))
        return model

    return make


@pytest.fixture
def inputs() -> Callable[..., dict[str, Any]]:
    """Keyword arguments of a forward pass that fits the configuration."""

    def make(
        config: FSVideoDiTConfig = TINY, size: tuple[int, int, int] = (3, 4, 2), batch: int = 2, seed: int = 1
    ) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        given = {
            "latents": draw(batch, config.latent_channels, *size),
            "timestep": 1000 * torch.rand(batch, generator=generator),
            "text": draw(batch, 5, config.text_width),
            "condition": draw(batch, config.condition_channels, *size),
        }
        if config.image_width is not None:
            given["image_tokens"] = draw(batch, 3, config.image_width)
        return given

    return make
