"""Values as the real inputs have them, for a trace and for comparisons."""

from collections.abc import Sequence

import torch
from torch import Tensor


def draw_normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Standard normal: latents and features."""
    return torch.randn(*shape, generator=generator)


def draw_signed(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform in [-1, 1]: pixels, sines and cosines."""
    return 2 * torch.rand(*shape, generator=generator) - 1


def draw_timestep(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform in [0, 1000]."""
    return 1000 * torch.rand(*shape, generator=generator)


def draw_mask(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """About two thirds true."""
    return torch.rand(*shape, generator=generator) < 2 / 3


def draw_pixels(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform in [64, 1024]: heights and widths."""
    return 64 + 960 * torch.rand(*shape, generator=generator)
