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

    Frequencies are rounded once from float64; the product is float32 (exporters and some devices have no float64), so
    an angle is off by at most 6e-8 of itself.

    Args:
        positions: coordinates of each token along t, h, w.
        head_width: channels of one attention head, even.
        theta: base of the geometric series of frequencies (10000 in Wan).
    """
    angles = []
    for axis, width in enumerate(axis_widths(head_width)):
        frequencies = [theta ** (-2 * pair / width) for pair in range(width // 2)]
        row = torch.tensor(frequencies, dtype=torch.float32, device=positions.device)
        angles.append(positions[axis].float().reshape(-1, 1) * row)
    joined = torch.cat(angles, dim=-1)  # n pairs
    return RotaryTables(joined.cos(), joined.sin())


def rotate(x: Float[Tensor, "b heads n e"], tables: RotaryTables) -> Float[Tensor, "b heads n e"]:
    """Turn each adjacent channel pair by its token's angle, in float32, and return the input's dtype."""
    even, odd = rearrange(x.float(), "b heads n (pairs two) -> two b heads n pairs", two=2).unbind(0)
    turned = torch.stack((even * tables.cos - odd * tables.sin, even * tables.sin + odd * tables.cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)
