"""Adaptive layer norm: shifts, scales and gates that depend on the timestep."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Modulation(nn.Module):
    """A learned table of vectors to which the embedded timestep is added, in float32."""

    def __init__(self, num_vectors: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(num_vectors, width) / width**0.5)

    def forward(self, timestep: Float[Tensor, "b #vectors d"]) -> tuple[Float[Tensor, "b 1 d"], ...]:
        """One float32 vector per row of the table, each of shape `b 1 d`, ready to broadcast over tokens."""
        vectors = self.table.float() + timestep.float()
        return vectors.unsqueeze(2).unbind(1)


def modulate(
    x: Float[Tensor, "b n d"], shift: Float[Tensor, "b 1 d"], scale: Float[Tensor, "b 1 d"]
) -> Float[Tensor, "b n d"]:
    """x (1 + scale) + shift."""
    return x * (1 + scale) + shift


def add_gated(
    x: Float[Tensor, "b n d"], update: Float[Tensor, "b n d"], gate: Float[Tensor, "b 1 d"]
) -> Float[Tensor, "b n d"]:
    """x + gate update in float32, back in x's dtype: the residual stream never changes dtype."""
    return (x.float() + update.float() * gate).to(x.dtype)
