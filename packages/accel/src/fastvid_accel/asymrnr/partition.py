"""Destinations and sources: which tokens stay in any case, and which may go."""

import hashlib
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Int
from torch import Tensor

from fastvid_accel.asymrnr.config import Destination

Grid = tuple[int, int, int]

CPU = torch.device("cpu")
"""Where indices are drawn, whatever the default device is: a seed means the same everywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """Positions in the token sequence, int64; both ascending, together each position once."""

    destinations: Int[Tensor, " d"]
    sources: Int[Tensor, " s"]


def num_destinations(grid: Grid, stride: Grid) -> int:
    """One for each whole cell; what is left over at the borders of the grid has none.

    Raises:
        ValueError: the grid has no whole cell.
    """
    cells = [size // step for size, step in zip(grid, stride, strict=True)]
    if 0 in cells:
        nearest = tuple(min(size, step) for size, step in zip(grid, stride, strict=True))
        raise ValueError(f"`stride` is {stride}, longer than the token grid {grid}; at most {nearest} fits")
    return prod(cells)


def partition(
    grid: Grid, stride: Grid, destination: Destination, *, generator: torch.Generator, device: torch.device
) -> Partition:
    """Tile the grid with cells of `stride` and take one token of each as destination.

    Args:
        grid: tokens along t, h, w; the sequence runs along w first.
        destination: `random`: any token of the cell, and where the grid is no multiple of the stride the cells begin up
            to remainder - 1 tokens late, so that never the first but always the last lines are left over. `first` and
            `centre`: that token of the cell, cells from the grid's corner.
        generator: on the CPU, so that a seed means the same everywhere. Used by `random` only.
        device: where the indices are wanted.
    Raises:
        ValueError: the grid has no whole cell.
    Source: AsymRnR, section 3.1, "Partitioning"; what happens at the borders follows the published code.
    """
    num_destinations(grid, stride)
    cells = [size // step for size, step in zip(grid, stride, strict=True)]
    axes = torch.meshgrid(*(torch.arange(count, device=CPU) for count in cells), indexing="ij")
    index = torch.zeros((), dtype=torch.int64, device=CPU)
    for axis, (size, step, count) in enumerate(zip(grid, stride, cells, strict=True)):
        if destination == "random":
            late = int(torch.randint(max(1, size - step * count), (), generator=generator, device=CPU))
            inside: Tensor | int = torch.randint(step, axes[axis].shape, generator=generator, device=CPU)
        else:
            late, inside = 0, 0 if destination == "first" else step // 2
        index = index * size + axes[axis] * step + late + inside
    destinations = index.flatten().sort().values
    is_source = torch.ones(prod(grid), dtype=torch.bool, device=CPU)
    is_source[destinations] = False
    sources = is_source.nonzero().squeeze(1)
    return Partition(destinations=sent(destinations, device), sources=sent(sources, device))


def drawing(seed: int, *place: object) -> torch.Generator:
    """A generator on the CPU of its own for each place: the same place draws the same, in any order of calls."""
    digest = hashlib.sha256(repr((seed, *place)).encode()).digest()
    return torch.Generator(CPU).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def sent(indices: Tensor, device: torch.device) -> Tensor:
    """On a device; a GPU goes on with what it has to do meanwhile, as a copy from ordinary memory would not let it."""
    return indices.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else indices.to(device)
