"""One clip through encoder or decoder, whole or in tiles; and a video to clips."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import mul

from torch import Tensor
from torch.nn import functional

from fastvid_vae import overhang
from fastvid_vae.overhang import Layout
from fastvid_vae.reducio.content_tiles import decode_overhanging
from fastvid_vae.tiling import Tiling, cut, merge, plan_grid

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """What a video is taken apart into.

    Attributes:
        clip: latent frames of a clip; None: the video is one.
        tiling: tiles in space.
        layout: `even`, without slivers, or `overhang`, as the released code cuts them.
    """

    clip: int | None
    tiling: Tiling
    layout: Layout


def encode_clip(run: Callable[[Tensor], Tensor], frames: Tensor, pieces: Pieces, stride: int) -> Tensor:
    """Moments of one clip; `run` gives those of a tile."""
    if pieces.layout == "overhang":
        return overhang.merge(run, frames, pieces.tiling, taken=stride, given=1)
    to_pixels, to_cells = partial(mul, stride), partial(mul, 1)
    grid = plan_grid(frames.shape[3] // stride, frames.shape[4] // stride, pieces.tiling)
    return merge((run(cut(frames, tile, [to_pixels] * 2)) for tile in grid), grid, [to_cells] * 2)


def decode_clip(
    run: Callable[[Tensor, Sequence[Tensor]], Tensor],
    features: Callable[[Tensor], list[Tensor]],
    latents: Tensor,
    picture: Tensor | None,
    pieces: Pieces,
    stride: int,
) -> Tensor:
    """Frames of one clip.

    Args:
        run: latents and content features of a tile to its frames.
        features: the part of the content frame under a tile to its features.
        latents: b c t h w.
        picture: the content frame, as large as the frames; None: nothing is fused.
        pieces: the tiles.
        stride: pixels of a latent cell.
    """
    if pieces.layout == "overhang":
        return decode_overhanging(run, features, latents, picture, pieces.tiling, stride)
    to_pixels, to_cells = partial(mul, stride), partial(mul, 1)
    grid = plan_grid(latents.shape[3], latents.shape[4], pieces.tiling)
    parts = (
        run(
            cut(latents, tile, [to_cells] * 2),
            [] if picture is None else features(cut(picture, tile, [to_pixels] * 2)),
        )
        for tile in grid
    )
    return merge(parts, grid, [to_pixels] * 2)


def pad_to_clips(frames: Tensor, *, clip: int, stride: int) -> Tensor:
    """Repeat the last frame to whole clips of `clip` frames, and the border to whole latent cells."""
    missing = (-frames.shape[2] % clip, -frames.shape[3] % stride, -frames.shape[4] % stride)
    if not any(missing):
        return frames
    logger.info("padding %s by %s frames, rows and columns", tuple(frames.shape[2:]), missing)
    return functional.pad(frames, (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")


def split_clips(video: Tensor, clip: int | None) -> Sequence[Tensor]:
    """Pieces of `clip` frames, in pixels or latents; None: the whole."""
    return [video] if clip is None else video.split(clip, dim=2)
