"""Rotary position embedding computed from coordinates, so fractional and uneven ones work as well."""

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor


class RotaryTables(NamedTuple):
    """Cosine and sine of every token's angles; column i turns the adjacent channel pair (2i, 2i + 1)."""

    cos: Float[Tensor, "n pairs"]
    sin: Float[Tensor, "n pairs"]


def axis_widths(head_width: int) -> tuple[int, int, int]:
    """Channels of a head that encode t, h and w: a third each for h and w, rounded down to pairs; t gets the rest."""
    spatial = 2 * (head_width // 6)
    return head_width - 2 * spatial, spatial, spatial


def rotary_tables(positions: Float[Tensor, "3 t h w"], head_width: int, theta: float) -> RotaryTables:
    """Angles position * theta^(-2i/width) per axis, for the pairs i of that axis.

    All in float32, on the device of the positions: exporters and some devices have no float64, and a table built on the
    host would be a synchronising copy in every forward pass. An angle is off by a few 1e-7 of itself.

    Args:
        positions: coordinates of each token along t, h, w.
        head_width: channels of one attention head, even.
        theta: base of the geometric series of frequencies (10000 in Wan).
    """
    angles = []
    for axis, width in enumerate(axis_widths(head_width)):
        pairs = torch.arange(width // 2, dtype=torch.float32, device=positions.device)
        frequencies = theta ** (pairs * (-2 / width))
        angles.append(positions[axis].float().reshape(-1, 1) * frequencies)
    joined = torch.cat(angles, dim=-1)  # n pairs
    return RotaryTables(joined.cos(), joined.sin())


def rotate(x: Float[Tensor, "b heads n e"], tables: RotaryTables) -> Float[Tensor, "b heads n e"]:
    """Turn each adjacent channel pair by its token's angle, in float32, and return the input's dtype."""
    even, odd = rearrange(x.float(), "b heads n (pairs two) -> two b heads n pairs", two=2).unbind(0)
    turned = torch.stack((even * tables.cos - odd * tables.sin, even * tables.sin + odd * tables.cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)
