"""A video through encoder or decoder: in groups along time, in tiles across the picture, or whole.

Groups share one frame, so each begins with a frame of its own as every video does, and what it gives for that frame is
left out. Source: OD-VAE, section 3.3 (temporal tiling).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from fastvid_vae import overhang
from fastvid_vae.arguments import check_same_size
from fastvid_vae.latent_grid import cells, frames_before, pixels
from fastvid_vae.overhang import Layout
from fastvid_vae.tiling import Tiling, cut, merge, plan_grid

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """What a video is taken apart into.

    Attributes:
        tiling: in latent cells; `time` is the length of a group.
        layout: of the tiles in space: `even`, without slivers, or `overhang`, as the released code cuts them.
    """

    tiling: Tiling
    layout: Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """Latents out of frames, or frames out of latents.

    Attributes:
        run: the network on one piece.
        taken, given: pixels of a cell, in height and width, of what goes in and of what comes out.
        before: positions on the time axis of what goes in, before a latent boundary.
    """

    run: Network
    taken: int
    given: int
    before: Callable[[int], int]

    def group(self, x: Tensor, pieces: Pieces) -> Tensor:
        """One group, whole or in tiles."""
        tiling, to_input, to_output = pieces.tiling, self._map(self.taken), self._map(self.given)
        if pieces.layout == "overhang":
            return overhang.merge(self.run, x, tiling, taken=self.taken, given=self.given)
        grid = plan_grid(x.shape[3] // self.taken, x.shape[4] // self.taken, tiling)
        return merge((self.run(cut(x, tile, [to_input] * 2)) for tile in grid), grid, [to_output] * 2)

    def _map(self, side: int) -> Callable[[int], int]:
        return cells if side == 1 else partial(pixels, stride=side)


def encoding(run: Network, strides: tuple[int, int, int]) -> Direction:
    """Frames to moments."""
    return Direction(run=run, taken=strides[1], given=1, before=partial(frames_before, stride=strides[0]))


def decoding(run: Network, strides: tuple[int, int, int]) -> Direction:
    """Raw latents to frames."""
    return Direction(run=run, taken=1, given=strides[1], before=cells)


def in_pieces(x: Tensor, direction: Direction, pieces: Pieces, num_latents: int) -> Tensor:
    """What a whole video of `num_latents` latent frames becomes."""
    if pieces.layout == "overhang" and _fits(x, direction, pieces.tiling, num_latents):
        return direction.run(x)  # where tiles would cut a sliver off a picture as large as one
    if pieces.tiling.time is None:
        return direction.group(x, pieces)
    parts = [
        direction.group(x[:, :, direction.before(first + 1) - 1 : direction.before(last + 1)], pieces)
        for first, last in plan_groups(num_latents, pieces.tiling.time)
    ]
    return torch.cat([parts[0], *(part[:, :, 1:] for part in parts[1:])], dim=2)


def plan_groups(num_latents: int, size: int) -> list[tuple[int, int]]:
    """First and last latent frame of every group; the last of one is the first of the next."""
    last = num_latents - 1
    return list(pairwise([*range(0, max(1, last), size - 1), last]))


def in_stream(
    chunks: Iterable[Tensor], direction: Direction, plan: Callable[[Tensor], Pieces], fill: Network
) -> Iterator[Tensor]:
    """What a video becomes that arrives in chunks of any length: one tensor a group.

    Args:
        chunks: of one video, in whole cells.
        direction: which way.
        plan: the first chunk to the pieces that the video is taken apart into; its groups have a length.
        fill: fills the last group up to whole latents.
    """
    held: Tensor | None = None
    pieces: Pieces | None = None
    first, length = True, 0
    for chunk in chunks:
        if pieces is None:
            pieces = plan(chunk)
            assert pieces.tiling.time is not None
            length = direction.before(pieces.tiling.time)
        held = chunk if held is None else torch.cat([held, chunk], dim=2)
        while held.shape[2] > length:
            yield direction.group(held[:, :, :length], pieces)[:, :, 0 if first else 1 :]
            held, first = held[:, :, length - 1 :].clone(), False  # a view would keep the whole chunk in memory
    if held is None or pieces is None:
        raise ValueError("`chunks` holds nothing; expected at least one chunk")
    held = fill(held)
    if first and pieces.layout == "overhang" and _fits(held, direction, pieces.tiling, 1):
        yield direction.run(held)
    else:
        yield direction.group(held, pieces)[:, :, 0 if first else 1 :]


def same_size(chunks: Iterable[Tensor], check: Callable[[Tensor], None]) -> Iterator[Tensor]:
    """The chunks, once each has been looked at alone and beside the one before it."""
    last: Tensor | None = None
    for chunk in chunks:
        check(chunk)
        check_same_size("chunks", chunk.shape, None if last is None else last.shape)
        last = chunk
        yield chunk


def _fits(x: Tensor, direction: Direction, tiling: Tiling, num_latents: int) -> bool:
    """Whether a video is no larger than one piece."""
    sizes = (num_latents, x.shape[3] // direction.taken, x.shape[4] // direction.taken)
    pieces = zip(sizes, (tiling.time, tiling.height, tiling.width), strict=True)
    return all(most is None or size <= most for size, most in pieces)
