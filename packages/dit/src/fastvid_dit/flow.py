"""The flow-matching convention: x_sigma = (1 - sigma) clean + sigma noise, the network predicts noise - clean."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

HUBER_SCALE = 0.00054
"""c = 0.00054 sqrt(d): the pseudo-Huber constant of improved consistency training, for d-dimensional data."""


def add_noise(
    clean: Float[Tensor, "b *data"], noise: Float[Tensor, "b *data"], sigma: Float[Tensor, " b"]
) -> Float[Tensor, "b *data"]:
    """x_sigma, on the straight line from clean (sigma 0) to noise (sigma 1)."""
    level = sigma.reshape(-1, *(1,) * (clean.dim() - 1))
    return (1 - level) * clean + level * noise


def velocity_target(clean: Float[Tensor, "b *data"], noise: Float[Tensor, "b *data"]) -> Float[Tensor, "b *data"]:
    """d x_sigma / d sigma = noise - clean, the same at every sigma."""
    return noise - clean


def sample_sigmas(
    count: int, *, mean: float = 0.0, std: float = 1.0, shift: float = 1.0, generator: torch.Generator | None = None
) -> Float[Tensor, " count"]:
    """Logit-normal noise levels, sigmoid(mean + std n), then shifted: s sigma / (1 + (s - 1) sigma).

    Args:
        count: how many.
        mean: of the logit; 0 and std 1 are the defaults of Stable Diffusion 3 (the FSVideo paper gives none).
        std: of the logit.
        shift: above 1 moves levels towards noise, 1 changes nothing.
        generator: a CPU generator, for repeatable draws.
    Returns:
        float32 on the CPU, in (0, 1).
    Raises:
        ValueError: `std` or `shift` not positive.
    """
    if std <= 0 or shift <= 0:
        raise ValueError(f"`std` and `shift` must be positive, got {std} and {shift}")
    sigma = torch.sigmoid(mean + std * torch.randn(count, generator=generator))
    return shift * sigma / (1 + (shift - 1) * sigma)


def pseudo_huber_loss(prediction: Float[Tensor, "b *data"], target: Float[Tensor, "b *data"]) -> Float[Tensor, " b"]:
    """sqrt(|r|^2 + c^2) - c per sample, r = prediction - target, c = 0.00054 sqrt(d), d = values per sample.

    Computed from the mean of r^2 in float32, which keeps c apart from rounding, and scaled by sqrt(d) at the end.
    """
    residual = (prediction.float() - target.float()).flatten(1)
    mean_square = residual.square().mean(dim=1)
    return ((mean_square + HUBER_SCALE**2).sqrt() - HUBER_SCALE) * math.sqrt(residual.shape[1])
