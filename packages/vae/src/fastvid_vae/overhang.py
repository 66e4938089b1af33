"""Tiles as released code cuts them: at a fixed step from the top left, each reaching beyond its step to the right and
below. The last ones may be slivers. Source: Reducio, section 4.1, and OD-VAE's code, which do it alike.

Every tile is blended with the one above it, then with the one to its left, both as they are after their own blending;
so corners are not the products of two ramps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

import torch
from torch import Tensor

from fastvid_vae.tiling import Tiling

Layout = Literal["even", "overhang"]
"""Tiles of one size, the last one moved back, as `tiling` plans them; or as here."""

Rows = list[list[Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Tiles of `size` latent cells along one axis, `step` cells apart."""

    size: int
    step: int

    def starts(self, length: int) -> range:
        return range(0, length, self.step)

    def shared(self, previous: int) -> int:
        """Positions that a tile shares with the next one, in the unit in which it has `previous` of them."""
        return previous * (self.size - self.step) // self.size


def merge(run: Callable[[Tensor], Tensor], x: Tensor, tiling: Tiling, *, taken: int, given: int) -> Tensor:
    """One tensor from what `run` gives for the tiles of `x`.

    Args:
        run: a tile to its result.
        x: b c t h w.
        tiling: in cells.
        taken, given: positions of a cell in `x` and in the result.
    """
    axes = plan_axes(tiling, [size // taken for size in x.shape[3:]])
    return join(blend([[run(tile) for tile in row] for row in cut(x, axes, taken)], axes), axes, given)


def plan_axes(tiling: Tiling, cells: Sequence[int]) -> tuple[Axis, Axis]:
    sides = zip((tiling.height, tiling.width), cells, strict=True)
    height, width = (
        Axis(size=length, step=length)
        if side is None
        else Axis(size=side, step=side - min(ceil(side * tiling.overlap), side // 2))
        for side, length in sides
    )
    return height, width


def cut(x: Tensor, axes: tuple[Axis, Axis], unit: int) -> Rows:
    height, width = axes
    return [
        [
            x[..., top * unit : (top + height.size) * unit, left * unit : (left + width.size) * unit]
            for left in width.starts(x.shape[-1] // unit)
        ]
        for top in height.starts(x.shape[-2] // unit)
    ]


def blend(rows: Rows, axes: tuple[Axis, Axis]) -> Rows:
    height, width = axes
    blended: Rows = []
    for i, row in enumerate(rows):
        blended.append([])
        for j, own in enumerate(row):
            tile = own
            if i:
                tile = fade(blended[i - 1][j], tile, height, axis=-2)
            if j:
                tile = fade(blended[i][j - 1], tile, width, axis=-1)
            blended[i].append(tile)
    return blended


def fade(previous: Tensor, tile: Tensor, along: Axis, *, axis: int) -> Tensor:
    """The tile with its first positions faded in from the last ones of the tile before it."""
    length = min(tile.shape[axis], along.shared(previous.shape[axis]))
    ramp = torch.arange(length, device=tile.device).to(tile.dtype) / max(length, 1)
    ramp = ramp.unsqueeze(-1) if axis == -2 else ramp
    end = previous.narrow(axis, previous.shape[axis] - length, length)
    faded = end * (1 - ramp) + tile.narrow(axis, 0, length) * ramp
    return torch.cat([faded, tile.narrow(axis, length, tile.shape[axis] - length)], dim=axis)


def join(rows: Rows, axes: tuple[Axis, Axis], unit: int) -> Tensor:
    """What every tile has of its own step, side by side."""
    height, width = axes[0].step * unit, axes[1].step * unit
    return torch.cat([torch.cat([tile[..., :height, :width] for tile in row], dim=-1) for row in rows], dim=-2)
