"""How alike the frames of a video are: structural similarity (Wang et al., 2004), which is what VGDFR measures with."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

WINDOW, WINDOW_STD = 11, 1.5
STABILISERS = 0.01**2, 0.03**2
"""For a data range of 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarity:
    """Of frames that lie near one another; 1 is equal, about 0 is unlike.

    Attributes:
        near: `near[d - 1][i]` is the similarity of frames i and i + d, for d = 1, 2 and 3.
    """

    near: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]

    @property
    def num_frames(self) -> int:
        """Of the video."""
        return len(self.near[0]) + 1


def frame_similarity(frames: Float[Tensor, "b 3 T H W"]) -> Similarity:
    """Of a decoded video; of a batch, the least similar video counts for each pair.

    Args:
        frames: in [-1, 1], at least 11 pixels high and wide; what lies outside is clamped.
    Raises:
        ValueError: frames smaller than the window.
    """
    if min(frames.shape[-2:]) < WINDOW:
        raise ValueError(
            f"`frames` are {frames.shape[-2]} x {frames.shape[-1]} pixels; similarity is measured in windows of"
            f" {WINDOW} x {WINDOW}"
        )
    # Variances of nearly equal frames drown in half precision.
    pixels = frames.float().clamp(-1, 1).add(1).div(2).transpose(1, 2)
    near = (_of_neighbours(pixels, 1), _of_neighbours(pixels, 2), _of_neighbours(pixels, 3))
    return Similarity(near=near)


def _of_neighbours(pixels: Float[Tensor, "b T 3 H W"], distance: int) -> tuple[float, ...]:
    """One number for each pair of frames so far apart, one pair at a time: a video may be long."""
    pairs = range(pixels.shape[1] - distance)
    values = [ssim(pixels[:, index], pixels[:, index + distance]).amin() for index in pairs]
    return tuple(torch.stack(values).tolist()) if values else ()


def ssim(first: Float[Tensor, "b c H W"], second: Float[Tensor, "b c H W"]) -> Float[Tensor, " b"]:
    """Mean structural similarity of pictures in [0, 1], over channels and all windows that lie inside.

    An 11 x 11 Gaussian window of 1.5 pixels' deviation, K = (0.01, 0.03), as VGDFR's code uses.
    """
    kernel = _gaussian(first)
    mean_1, mean_2 = _blur(first, kernel), _blur(second, kernel)
    variance_1 = _blur(first * first, kernel) - mean_1 * mean_1
    variance_2 = _blur(second * second, kernel) - mean_2 * mean_2
    covariance = _blur(first * second, kernel) - mean_1 * mean_2
    small_1, small_2 = STABILISERS
    structure = (2 * covariance + small_2) / (variance_1 + variance_2 + small_2)
    luminance = (2 * mean_1 * mean_2 + small_1) / (mean_1 * mean_1 + mean_2 * mean_2 + small_1)
    return (luminance * structure).mean((1, 2, 3))


def _gaussian(like: Tensor) -> Tensor:
    offsets = torch.arange(WINDOW, dtype=torch.float32, device=like.device) - WINDOW // 2
    weights = (-(offsets**2) / (2 * WINDOW_STD**2)).exp()
    return weights / weights.sum()


def _blur(pictures: Float[Tensor, "b c H W"], kernel: Float[Tensor, " k"]) -> Float[Tensor, "b c h w"]:
    channels = pictures.shape[1]
    column, row = kernel.view(1, 1, -1, 1), kernel.view(1, 1, 1, -1)
    blurred = F.conv2d(pictures, column.expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(blurred, row.expand(channels, 1, 1, -1), groups=channels)
