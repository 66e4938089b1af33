"""Cutting a video into overlapping tiles and fading the results into one another.

Everything is planned in latent cells; pixels appear only when a cell boundary is mapped to its pixel or frame. So an
overlap cannot be measured in the wrong unit. Linear weights as in Reducio-VAE, but for the quarter of an overlap next
to each edge, which counts for nothing: measured on a trained FSAE, that brings tiled 1 to 6 dB nearer to whole.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil

import torch
from torch import Tensor

CellMap = Callable[[int], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """Tile sizes in latent cells; None leaves that axis whole. `overlap` is the share of a tile, 0 to 0.5."""

    time: int | None
    height: int | None
    width: int | None
    overlap: float

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= 0.5:
            raise ValueError(f"`overlap` is {self.overlap}; expected 0 to 0.5, a share of the tile (nearest: 0, 0.5)")
        if self.overlap and 1 in (self.height, self.width):
            raise ValueError(
                f"`spatial` is one latent cell, which cannot overlap by {self.overlap}; "
                "use a larger tile, or an `overlap` of 0"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Cells [start, stop) of one axis. Its weight rises over `fade_in`, is one, and falls over `fade_out`."""

    start: int
    stop: int
    fade_in: tuple[int, int]
    fade_out: tuple[int, int]


Tile = tuple[Span, ...]


def plan_spans(length: int, size: int | None, overlap: float) -> tuple[Span, ...]:
    """Spans that cover [0, length), all of `size` cells: the last one is moved back, never shortened to a sliver.

    Neighbours fade over the last `overlap` cells of the earlier one, so no cell is shared by three fades.
    """
    if size is None or length <= size:
        return (Span(start=0, stop=length, fade_in=(0, 0), fade_out=(length, length)),)
    shared = min(ceil(size * overlap), size // 2)
    starts = [*range(0, length - size, size - shared), length - size]
    stops = [start + size for start in starts]
    fades = [(0, 0), *((stop - shared, stop) for stop in stops[:-1]), (length, length)]
    return tuple(
        Span(start=start, stop=stop, fade_in=fades[i], fade_out=fades[i + 1])
        for i, (start, stop) in enumerate(zip(starts, stops, strict=True))
    )


def span_weights(span: Span, to_output: CellMap) -> Tensor:
    """Weight of every output position of a span; those of a plan add up to one."""
    origin = to_output(span.start)
    weights = torch.ones(to_output(span.stop) - origin)
    rise, top = (to_output(cell) - origin for cell in span.fade_in)
    fall, end = (to_output(cell) - origin for cell in span.fade_out)
    weights[: max(rise, 0)] = 0
    if top > rise:
        weights[rise:top] = _ramp(top - rise)
    if end > fall:
        weights[fall:end] = 1 - _ramp(end - fall)
    return weights


def plan_grid(height: int, width: int, tiling: Tiling | None) -> tuple[Tile, ...]:
    """Tiles (rows, columns) of a picture of height x width cells."""
    if tiling is None:
        tiling = Tiling(time=None, height=None, width=None, overlap=0.0)
    rows = plan_spans(height, tiling.height, tiling.overlap)
    columns = plan_spans(width, tiling.width, tiling.overlap)
    return tuple(product(rows, columns))


def cut(x: Tensor, tile: Tile, maps: Sequence[CellMap]) -> Tensor:
    """The tile's part of the last axes of `x`."""
    for axis, (span, to_input) in enumerate(zip(tile, maps, strict=True), start=x.dim() - len(tile)):
        x = x.narrow(axis, to_input(span.start), to_input(span.stop) - to_input(span.start))
    return x


def merge(parts: Iterable[Tensor], tiles: Sequence[Tile], maps: Sequence[CellMap]) -> Tensor:
    """One tensor from the results of all tiles, faded into one another; `maps` lead from cells to output positions."""
    if len(tiles) == 1:
        return next(iter(parts))
    sizes = [to_output(max(tile[axis].stop for tile in tiles)) for axis, to_output in enumerate(maps)]
    merged: Tensor | None = None
    for part, tile in zip(parts, tiles, strict=True):
        if merged is None:
            merged = part.new_zeros((*part.shape[: part.dim() - len(tile)], *sizes))
        for axis, (span, to_output) in enumerate(zip(tile, maps, strict=True)):
            shape = [1] * len(tile)
            shape[axis] = -1
            part = part * span_weights(span, to_output).to(part).view(shape)  # noqa: PLW2901
        cut(merged, tile, maps).add_(part)
    assert merged is not None
    return merged


def _ramp(length: int) -> Tensor:
    """0 over the first quarter, 1 over the last, a line between them.

    Near its edge a tile has seen padding instead of its neighbours, so there the other one counts alone. An overlap of
    four times the reach of a network without attention makes tiled equal to whole.
    """
    margin = length // 4
    return (((torch.arange(length) + 0.5) - margin) / (length - 2 * margin)).clamp(0, 1)
