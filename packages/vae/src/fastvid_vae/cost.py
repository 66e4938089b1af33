"""What decoding costs in memory, from formulas: nothing is allocated."""

from dataclasses import dataclass

import torch

from fastvid_vae.fsae import memory
from fastvid_vae.fsae.config import FSAE_LITE, FSAEConfig
from fastvid_vae.fsae.model import FSAE


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of encoding a photo and decoding one video.

    Attributes:
        stride: pixels and frames of a latent, (time, height, width).
        weight_bytes: of all parameters.
        activation_bytes: the most that is alive at once beside the weights, in the pieces that `decode` chooses.
    """

    stride: tuple[int, int, int]
    weight_bytes: int
    activation_bytes: int


def decode_cost(config: FSAEConfig, video: tuple[int, int, int], *, itemsize: int = 2) -> Cost:
    """Cost of frames, height and width; `itemsize` is that of a weight and of an activation, in bytes."""
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in FSAE(config).parameters())
    of_pixel = memory.bytes_per_pixel(config.decoder_widths[0], itemsize=itemsize)
    frames, height, width = video
    tiling = memory.automatic_tiling(
        of_pixel, video, strides=config.stride, exact_in_time=config.decoder_mode != "standard"
    )
    time, rows, columns = config.stride
    piece = (
        min(frames, (tiling.time or frames) * time),
        min(height, (tiling.height or height) * rows),
        min(width, (tiling.width or width) * columns),
    )
    whole_video = 3 * frames * height * width * itemsize
    return Cost(
        stride=config.stride,
        weight_bytes=itemsize * parameters,
        activation_bytes=of_pixel * piece[0] * piece[1] * piece[2] + whole_video,
    )


def fsvideo_14b(video: tuple[int, int, int]) -> Cost:
    """Of FSVideo's light autoencoder, in bfloat16."""
    return decode_cost(FSAE_LITE, video)
