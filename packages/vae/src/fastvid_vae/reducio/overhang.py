"""Tiles as the released code cuts them: at a fixed step from the top left, each reaching beyond its step to the right
and below. The last ones may be slivers. Source: Reducio, section 4.1 (high resolutions are split into tiles).

Every tile is blended with the one above it, then with the one to its left, both as they are after their own blending;
so corners are not the products of two ramps, and features of the content frame are blended as pixels are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from fastvid_vae.tiling import Tiling

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


def encode(run: Callable[[Tensor], Tensor], frames: Tensor, tiling: Tiling, stride: int) -> Tensor:
    """Moments of a clip from the moments of its tiles."""
    axes = _axes(tiling, [size // stride for size in frames.shape[3:]])
    tiles = _cut(frames, axes, stride)
    return _join(_blend([[run(tile) for tile in row] for row in tiles], axes), axes, 1)


def decode(
    run: Callable[[Tensor, Sequence[Tensor]], Tensor],
    features: Callable[[Tensor], list[Tensor]],
    latents: Tensor,
    picture: Tensor | None,
    tiling: Tiling,
    stride: int,
) -> Tensor:
    """Frames of a clip from its tiles; each has the features of its own part of the content frame."""
    axes = _axes(tiling, latents.shape[3:])
    tiles = _cut(latents, axes, 1)
    content: list[list[list[Tensor]]] = [[[] for _ in row] for row in tiles]
    if picture is not None:
        content = _blend_levels([[features(tile) for tile in row] for row in _cut(picture, axes, stride)], axes)
    frames = [
        [run(tile, own) for tile, own in zip(row, own_row, strict=True)]
        for row, own_row in zip(tiles, content, strict=True)
    ]
    return _join(_blend(frames, axes), axes, stride)


def _axes(tiling: Tiling, cells: Sequence[int]) -> tuple[Axis, Axis]:
    sides = zip((tiling.height, tiling.width), cells, strict=True)
    height, width = (
        Axis(size=length, step=length)
        if side is None
        else Axis(size=side, step=side - min(ceil(side * tiling.overlap), side // 2))
        for side, length in sides
    )
    return height, width


def _cut(x: Tensor, axes: tuple[Axis, Axis], unit: int) -> Rows:
    height, width = axes
    return [
        [
            x[..., top * unit : (top + height.size) * unit, left * unit : (left + width.size) * unit]
            for left in width.starts(x.shape[-1] // unit)
        ]
        for top in height.starts(x.shape[-2] // unit)
    ]


def _blend(rows: Rows, axes: tuple[Axis, Axis]) -> Rows:
    height, width = axes
    blended: Rows = []
    for i, row in enumerate(rows):
        blended.append([])
        for j, own in enumerate(row):
            tile = own
            if i:
                tile = _fade(blended[i - 1][j], tile, height, axis=-2)
            if j:
                tile = _fade(blended[i][j - 1], tile, width, axis=-1)
            blended[i].append(tile)
    return blended


def _blend_levels(grid: list[list[list[Tensor]]], axes: tuple[Axis, Axis]) -> list[list[list[Tensor]]]:
    levels = [_blend([[own[level] for own in row] for row in grid], axes) for level in range(len(grid[0][0]))]
    return [[[level[i][j] for level in levels] for j in range(len(row))] for i, row in enumerate(grid)]


def _fade(previous: Tensor, tile: Tensor, along: Axis, *, axis: int) -> Tensor:
    """The tile with its first positions faded in from the last ones of the tile before it."""
    length = min(tile.shape[axis], along.shared(previous.shape[axis]))
    ramp = torch.arange(length, device=tile.device).to(tile.dtype) / max(length, 1)
    ramp = ramp.unsqueeze(-1) if axis == -2 else ramp
    end = previous.narrow(axis, previous.shape[axis] - length, length)
    faded = end * (1 - ramp) + tile.narrow(axis, 0, length) * ramp
    return torch.cat([faded, tile.narrow(axis, length, tile.shape[axis] - length)], dim=axis)


def _join(rows: Rows, axes: tuple[Axis, Axis], unit: int) -> Tensor:
    """What every tile has of its own step, side by side."""
    height, width = axes[0].step * unit, axes[1].step * unit
    return torch.cat([torch.cat([tile[..., :height, :width] for tile in row], dim=-1) for row in rows], dim=-2)
