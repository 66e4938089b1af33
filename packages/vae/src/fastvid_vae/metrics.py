"""How close two videos are. Frames are in [-1, 1]; both scores come per clip, so averaging is the caller's."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

PEAK = 2.0  # the width of the value range
WINDOW = 11
SIGMA = 1.5


def psnr(
    frames: Float[Tensor, "b c T H W"],
    target: Float[Tensor, "b c T H W"],
    *,
    mask: Bool[Tensor, "b 1 T H W"] | None = None,
) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio in decibels: one mean squared error over the clip, not a mean over frames.

    Args:
        frames, target: the two videos, on the same pixels.
        mask: the pixels that count; None counts all. A clip of which none counts has no score, and that is an error.
    Returns:
        One value per clip; infinite for equal clips.
    """
    _check_pair(frames, target)
    error = (frames.double() - target.double()).square()
    if mask is None:
        mean = error.mean(dim=(1, 2, 3, 4))
    else:
        if mask.shape != (frames.shape[0], 1, *frames.shape[2:]):
            raise ValueError(f"`mask` has shape {tuple(mask.shape)}; expected one channel of {tuple(frames.shape)}")
        count = mask.sum(dim=(1, 2, 3, 4)) * frames.shape[1]
        if not bool(count.all()):
            raise ValueError("`mask` leaves a clip without a pixel to compare")
        mean = (error * mask).sum(dim=(1, 2, 3, 4)) / count
    return decibels(mean)


def decibels(mean_squared_error: Tensor) -> Tensor:
    """PSNR of a mean squared error between videos in [-1, 1]."""
    return (10 * torch.log10(PEAK**2 / mean_squared_error)).float()


def ssim(frames: Float[Tensor, "b c T H W"], target: Float[Tensor, "b c T H W"]) -> Float[Tensor, " b"]:
    """Structural similarity, mean over channels and frames; each frame is an image of its own.

    Gaussian window of 11 x 11 pixels with sigma 1.5, constants (0.01 L)^2 and (0.03 L)^2 with L = 2, and only windows
    that lie inside the image. Source: Wang et al. 2004, with population (not sample) variances.
    """
    _check_pair(frames, target)
    if min(frames.shape[3:]) < WINDOW:
        raise ValueError(f"`frames` are {tuple(frames.shape[3:])} pixels; SSIM needs at least {WINDOW} x {WINDOW}")
    clips = frames.shape[0]
    x, y = (rearrange(video.float(), "b c t h w -> (b c t) 1 h w") for video in (frames, target))
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return rearrange(luminance * structure, "(b n) 1 h w -> b (n h w)", b=clips).mean(dim=1)


def _blur(images: Tensor) -> Tensor:
    offsets = torch.arange(WINDOW, device=images.device, dtype=images.dtype) - (WINDOW - 1) / 2
    window = torch.softmax(-(offsets**2) / (2 * SIGMA**2), dim=0)
    rows = functional.conv2d(images, window.view(1, 1, -1, 1))
    return functional.conv2d(rows, window.view(1, 1, 1, -1))


def _check_pair(frames: Tensor, target: Tensor) -> None:
    if frames.dim() != 5 or frames.shape != target.shape:
        raise ValueError(
            f"`frames` and `target` have shapes {tuple(frames.shape)} and {tuple(target.shape)}; "
            "expected two equal ones (b, c, T, H, W)"
        )
