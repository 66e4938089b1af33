"""Where the latents of a causal autoencoder lie in time and space: the first one holds one frame, the others a stride.

Source: FSVideo, section 2.2, and OD-VAE, section 3.1, which count alike.
"""

import logging

from torch import Tensor
from torch.nn import functional

logger = logging.getLogger(__name__)


def pad_to_cells(frames: Tensor, strides: tuple[int, int, int], *, first: bool = True) -> Tensor:
    """Repeat the last frame to 1 + 4k frames (4k after the first chunk) and the border to whole latent cells."""
    time, height, width = strides
    missing = (-(frames.shape[2] - first) % time, -frames.shape[3] % height, -frames.shape[4] % width)
    if not any(missing):
        return frames
    logger.info("padding %s by %s frames, rows and columns", tuple(frames.shape[2:]), missing)
    return functional.pad(frames, (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")


def pixels(cell: int, *, stride: int) -> int:
    """Pixels before a cell boundary."""
    return cell * stride


def cells(cell: int) -> int:
    """Cells before a cell boundary: the map of an axis that stays latent."""
    return cell


def frames_before(latent: int, *, stride: int) -> int:
    """Frames before a latent boundary: the first latent holds one frame, the others `stride` each."""
    return max(0, 1 + stride * (latent - 1))


def held_by(latents: Tensor, strides: tuple[int, int, int]) -> tuple[int, int, int]:
    """Frames, rows and columns that latents b c t h w hold."""
    time, height, width = strides
    return frames_before(latents.shape[2], stride=time), latents.shape[3] * height, latents.shape[4] * width
