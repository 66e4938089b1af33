"""When a picture is too large to go through whole, and the tiles that fit."""

import logging

from fastvid_vae.tiling import Tiling

logger = logging.getLogger(__name__)

BUDGET = 8 * 2**30  # bytes of activations; above, `encode` and `decode` work in tiles unless `tiled` says otherwise
TILE_PIXELS = 320
OVERLAP = 0.2

WHOLE = Tiling(time=None, height=None, width=None, overlap=0.0)


def bytes_per_pixel(width: int, *, itemsize: int) -> int:
    """Estimate of what one pass keeps alive at its peak, where features are as large as frames and `width` wide.

    Measured on a CPU, in activations of that size: encoder 5.2, decoder 4.6 (of its second level, which ends there).
    """
    return 6 * width * itemsize


def automatic_tiling(bytes_of_pixel: int, clip: tuple[int, int, int], *, stride: int) -> Tiling:
    """The whole picture where a clip fits the budget, else tiles of 320 pixels that share 64, as in the paper.

    Args:
        bytes_of_pixel: from `bytes_per_pixel`, for the whole batch.
        clip: frames, height, width.
        stride: compression in height and width.
    """
    frames, height, width = clip
    if frames * height * width * bytes_of_pixel <= BUDGET:
        return WHOLE
    cells = max(2, TILE_PIXELS // stride)
    logger.warning(
        "clips of %s frames of %s x %s exceed the memory budget of %s GiB: tiles of %s cells, which fade into one "
        "another", frames, height, width, BUDGET / 2**30, cells,
    )  # fmt: skip
    return Tiling(time=None, height=cells, width=cells, overlap=OVERLAP)
