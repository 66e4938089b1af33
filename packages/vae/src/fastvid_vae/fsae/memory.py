"""When a video is too large to go through in one piece, and the pieces that fit."""

import logging
from collections.abc import Sequence

from fastvid_vae.tiling import Tiling

logger = logging.getLogger(__name__)

BUDGET = 8 * 2**30  # bytes of activations; above, `encode` and `decode` work in pieces unless `tiled` says otherwise
TILE_PIXELS = 512
TILE_LATENTS = 16
OVERLAP = 0.25


def bytes_per_pixel(width: int, *, itemsize: int) -> int:
    """Estimate of what one pass keeps alive at its peak, the blocks at full resolution, which are `width` wide.

    Measured on a CPU, in activations of that size: encoder 5.2 to 9.3, decoder 5.3 to 8.9, more for narrow stages,
    whose convolutions unfold their input.
    """
    return 10 * width * itemsize


def automatic_tiling(
    bytes_of_pixel: int, video: Sequence[int], *, strides: tuple[int, int, int], exact_in_time: bool
) -> Tiling:
    """The whole video where it fits the budget; else chunks in time; else tiles in space as well.

    Args:
        bytes_of_pixel: from `bytes_per_pixel`, for the whole batch.
        video: frames, height, width.
        strides: compression in time, height and width.
        exact_in_time: chunks in time change nothing; otherwise they overlap and fade, as tiles in space always do.
    """
    affordable = BUDGET // bytes_of_pixel
    frames, height, width = video
    latent = strides[0] * height * width
    if frames * height * width <= affordable:
        return Tiling(time=None, height=None, width=None, overlap=0.0)
    if exact_in_time and latent <= affordable:
        time = affordable // latent
        logger.info("working through %s frames in chunks of %s latent frames; this changes no value", frames, time)
        return Tiling(time=time, height=None, width=None, overlap=0.0)
    time = max(1, affordable // (strides[0] * TILE_PIXELS**2)) if exact_in_time else TILE_LATENTS
    whole_pictures = not exact_in_time and time * latent <= affordable
    cells = None if whole_pictures else max(2, TILE_PIXELS // strides[1])
    logger.warning(
        "%s frames of %s x %s exceed the memory budget of %s GiB: %s, %s cells wide, which fade into one another",
        frames, height, width, BUDGET / 2**30, f"tiles of {time} latent frames", cells or "all",
    )  # fmt: skip
    return Tiling(time=time, height=cells, width=cells, overlap=OVERLAP)
