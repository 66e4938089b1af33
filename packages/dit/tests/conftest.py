from collections.abc import Callable
from typing import Any

import pytest
import torch
from fastvid_dit import ContentFrameConfig, FSVideoDiT, FSVideoDiTConfig, ReducioDiT, ReducioDiTConfig
from torch import Tensor, nn

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

TINY_REDUCIO = ReducioDiTConfig(
    patch_size=(1, 1, 1),
    latent_channels=4,
    learn_sigma=False,
    width=48,
    num_heads=4,
    num_blocks=5,
    ffn_width=64,
    frequency_width=16,
    text_width=10,
    content_frame=ContentFrameConfig(
        semantic_width=14,
        semantic_grid=(3, 3),
        content_channels=3,
        content_patch=2,
        fusion="add",
        num_grids=4,
    ),
    size_embedding=True,
    temporal_blocks=False,
    position_span=16.0,
    learn_time_scale=False,
    norm_eps=1e-6,
)


@pytest.fixture
def tiny() -> FSVideoDiTConfig:
    return TINY


@pytest.fixture
def build() -> Callable[..., FSVideoDiT]:
    """A model with every parameter random, so that no zero initialisation hides a path."""

    def make(config: FSVideoDiTConfig = TINY, seed: int = 0) -> FSVideoDiT:
        model = FSVideoDiT(config)
        randomise(model, seed)
        return model

    return make


def randomise(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * (parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else 0.3))


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


@pytest.fixture
def tiny_reducio() -> ReducioDiTConfig:
    return TINY_REDUCIO


@pytest.fixture
def build_reducio() -> Callable[..., ReducioDiT]:
    """As `build`."""

    def make(config: ReducioDiTConfig = TINY_REDUCIO, seed: int = 0) -> ReducioDiT:
        model = ReducioDiT(config)
        randomise(model, seed)
        return model

    return make


@pytest.fixture
def reducio_inputs() -> Callable[..., dict[str, Any]]:
    """As `inputs`; the content frame's latents are four times as high and wide as the video's."""

    def make(
        config: ReducioDiTConfig = TINY_REDUCIO, size: tuple[int, int, int] = (3, 4, 2), batch: int = 2, seed: int = 1
    ) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        given = {
            "latents": draw(batch, config.latent_channels, *size),
            "timestep": torch.randint(1000, (batch,), generator=generator).float(),
            "text": draw(batch, 5, config.text_width),
        }
        if config.size_embedding:
            given["size"] = torch.randint(64, 1024, (batch, 2), generator=generator).float()
        if config.content_frame is not None:
            given["semantic"] = draw(batch, config.content_frame.semantic_tokens, config.content_frame.semantic_width)
            given["content"] = draw(batch, config.content_frame.content_channels, 4 * size[1], 4 * size[2])
        return given

    return make
