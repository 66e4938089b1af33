"""When a video is too large to go through whole, and the pieces that fit."""

import logging
from collections.abc import Iterator

from fastvid_vae.latent_grid import frames_before
from fastvid_vae.odvae.config import ODVAEConfig
from fastvid_vae.tiling import Tiling

logger = logging.getLogger(__name__)

BUDGET = 8 * 2**30  # bytes of activations; above, `encode` and `decode` work in pieces unless `tiled` says otherwise
GROUPS = (9, 5)  # latent frames of a group; the paper's has 9, which are 33 frames
SHORT_GROUPS = (3, 2)  # of 9 and of 5 frames, where not even the smallest tiles fit otherwise
TILE_PIXELS = (256, 128)
OVERLAP = 0.125


def encoder_bytes(config: ODVAEConfig, *, itemsize: int) -> int:
    """Estimate of what encoding keeps alive at its peak, per pixel and frame.

    Counted on the meta device, in activations of level 0: 5 where its blocks are 2-D, 6.2 where they are causal.
    """
    return 7 * config.widths[0] * itemsize


def decoder_bytes(config: ODVAEConfig, *, itemsize: int) -> int:
    """The same of decoding, where level 1 ends at the size of the frames: 3.6 to 4.3 of its activations."""
    return 5 * max(config.widths[:2]) * itemsize


def automatic_tiling(bytes_of_pixel: int, num_frames: int | None, size: tuple[int, int], config: ODVAEConfig) -> Tiling:
    """The largest pieces that fit the budget: the whole video; else groups in time; else tiles in space as well.

    Groups come first: they share a frame that both know, and the paper measures what those of 33 frames cost; tiles in
    space shift colours against one another. Groups shorter than 17 frames come last. Where nothing fits, the smallest
    pieces, and a warning that says what they need.

    Args:
        bytes_of_pixel: from `encoder_bytes` or `decoder_bytes`, for the whole batch.
        num_frames: of the video; None: it arrives in pieces, and cannot stay whole.
        size: height and width in pixels.
        config: of the model.
    """
    candidates = list(_candidates(config, whole=num_frames is not None))
    needs = [bytes_of_pixel * _pixels(tiling, num_frames, size, config) for tiling in candidates]
    chosen = next((i for i, needed in enumerate(needs) if needed <= BUDGET), len(needs) - 1)
    if chosen:
        _warn(candidates[chosen], needs[chosen], num_frames, size)
    return candidates[chosen]


def _candidates(config: ODVAEConfig, *, whole: bool) -> Iterator[Tiling]:
    """From the largest pieces to the smallest."""
    if whole:
        yield Tiling(time=None, height=None, width=None, overlap=0.0)
    tiles = [max(2, pixels // config.stride[1]) for pixels in TILE_PIXELS]
    pieces = [(side, time) for side in (None, *tiles) for time in GROUPS]
    for side, time in (*pieces, *((tiles[-1], time) for time in SHORT_GROUPS)):
        yield Tiling(time=time, height=side, width=side, overlap=OVERLAP if side else 0.0)


def _pixels(tiling: Tiling, num_frames: int | None, size: tuple[int, int], config: ODVAEConfig) -> int:
    """Of the largest piece, in all its frames."""
    group = None if tiling.time is None else frames_before(tiling.time, stride=config.stride[0])
    frames = min(count for count in (num_frames, group) if count is not None)
    sides = [
        whole if cells is None else min(whole, cells * stride)
        for whole, cells, stride in zip(size, (tiling.height, tiling.width), config.stride[1:], strict=True)
    ]
    return frames * sides[0] * sides[1]


def _warn(tiling: Tiling, needed: int, num_frames: int | None, size: tuple[int, int]) -> None:
    logger.warning(
        "%s frames of %s x %s exceed the memory budget of %s GiB: groups of %s latent frames that share one, %s cells "
        "wide; norms then see a piece and not the video, so this loses a little",
        num_frames or "all", *size, BUDGET / 2**30, tiling.time, tiling.height or "all",
    )  # fmt: skip
    if needed > BUDGET:
        logger.warning(
            "even in pieces this needs about %.1f GiB beside the weights, more than the memory budget of %s GiB",
            needed / 2**30, BUDGET / 2**30,
        )  # fmt: skip
