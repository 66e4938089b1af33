"""Norm, perceptrons and the embeddings of timestep, text and image."""

import contextlib
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class LayerNorm(nn.Module):
    """Layer norm that computes and returns float32 whatever comes in."""

    def __init__(self, width: int, eps: float, *, affine: bool) -> None:
        super().__init__()
        self.width = width
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine else None

    def forward(self, x: Float[Tensor, "*rest d"]) -> Float[Tensor, "*rest d"]:
        weight = None if self.weight is None else self.weight.float()
        bias = None if self.bias is None else self.bias.float()
        return F.layer_norm(x.float(), (self.width,), weight, bias, self.eps)


class RMSNorm(nn.Module):
    """x / rms(x) * weight; torch takes the mean in float32, the result has x's dtype."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.width = width
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*rest d"]) -> Float[Tensor, "*rest d"]:
        return F.rms_norm(x, (self.width,), self.weight.to(x.dtype), self.eps)


class FeedForward(nn.Module):
    """Linear, GELU (tanh form), Linear."""

    def __init__(self, in_width: int, hidden_width: int, out_width: int) -> None:
        super().__init__()
        self.linear_in = nn.Linear(in_width, hidden_width)
        self.linear_out = nn.Linear(hidden_width, out_width)

    def forward(self, x: Float[Tensor, "*rest i"]) -> Float[Tensor, "*rest o"]:
        out: Tensor = self.linear_out(F.gelu(self.linear_in(x), approximate="tanh"))
        return out


class TimestepEmbedding(nn.Module):
    """Sinusoids of the timestep (cosines first), then Linear, SiLU, Linear: float32 as long as its weights are."""

    def __init__(self, frequency_width: int, width: int) -> None:
        super().__init__()
        self.frequency_width = frequency_width
        self.linear_in = nn.Linear(frequency_width, width)
        self.linear_out = nn.Linear(width, width)

    def forward(self, timestep: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        half = self.frequency_width // 2
        exponents = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=timestep.device) / half
        angles = timestep.float().unsqueeze(1) * exponents.exp()
        waves = torch.cat((angles.cos(), angles.sin()), dim=1).to(self.linear_in.weight.dtype)
        with without_autocast(timestep.device.type):
            out: Tensor = self.linear_out(F.silu(self.linear_in(waves)))
        return out


class ImageEmbedding(nn.Module):
    """Norm, Linear, GELU (exact), Linear, norm: image-encoder features to context tokens."""

    def __init__(self, image_width: int, width: int) -> None:
        super().__init__()
        self.norm_in = LayerNorm(image_width, 1e-5, affine=True)
        self.linear_in = nn.Linear(image_width, image_width)
        self.linear_out = nn.Linear(image_width, width)
        self.norm_out = LayerNorm(width, 1e-5, affine=True)

    def forward(self, tokens: Float[Tensor, "b m e"]) -> Float[Tensor, "b m d"]:
        normed = self.norm_in(tokens).to(tokens.dtype)
        hidden: Tensor = self.linear_out(F.gelu(self.linear_in(normed)))
        out: Tensor = self.norm_out(hidden).to(hidden.dtype)
        return out


def without_autocast(device_type: str) -> contextlib.AbstractContextManager[object]:
    """Switch autocast off inside; nothing at all when it is off, so that an exported graph holds no trace of it."""
    if device_type != "meta" and torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()
