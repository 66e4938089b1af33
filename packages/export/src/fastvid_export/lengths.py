"""How many: latent frames of a video, destinations of a grid, tokens that a reduction keeps. Integers only.

The same numbers come out of the models and of fastvid-accel; a test beside the packages holds them together.
"""

from fractions import Fraction
from math import prod

Grid = tuple[int, int, int]
"""Frames, rows, columns."""


def num_latent_frames(num_frames: int, stride: int, *, causal: bool) -> int:
    """Latent frames of a video; a causal autoencoder gives the first frame a latent of its own."""
    return 1 + -(-(num_frames - 1) // stride) if causal else -(-num_frames // stride)


def num_destinations(grid: Grid, stride: Grid) -> int:
    """One for each whole cell of `stride` tokens.

    Source: the published code of AsymRnR; a strided slice would give one for each cell begun.
    """
    return prod(size // step for size, step in zip(grid, stride, strict=True))


def num_kept(num_tokens: int, num_destinations: int, keep: Fraction) -> int:
    """floor(num_tokens keep), exactly; never fewer than the destinations."""
    return max(num_destinations, int(num_tokens * keep))


def num_merged(num_frames: int, merged: Fraction) -> int:
    """Latent frames that are left when frames are merged to this share, at least one."""
    return max(1, -int(-num_frames * merged // 1))


def exact(share: float) -> Fraction:
    """The decimal number that was written, not the binary one nearest to it."""
    return Fraction(str(share))
