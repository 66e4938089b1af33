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
        activation_bytes: the most that is alive at once beside the weights, in the pieces that `decode` chooses: what
            the layers work on, what they remember between chunks, the first frame's features and the video itself.
    """

    stride: tuple[int, int, int]
    weight_bytes: int
    activation_bytes: int


def decode_cost(config: FSAEConfig, video: tuple[int, int, int], *, itemsize: int = 2) -> Cost:
    """Cost of frames, height and width; `itemsize` is that of a weight and of an activation, in bytes."""
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in FSAE(config).parameters())
    footprint = memory.decoder_footprint(config, itemsize=itemsize, batch=1)
    padded = memory.whole_cells(video, strides=config.stride)
    exact = config.decoder_mode != "standard"
    tiling = memory.automatic_tiling(footprint, padded, strides=config.stride, exact_in_time=exact)
    return Cost(
        stride=config.stride,
        weight_bytes=itemsize * parameters,
        activation_bytes=memory.bytes_needed(footprint, tiling, padded, strides=config.stride, exact_in_time=exact),
    )


def fsvideo_14b(video: tuple[int, int, int]) -> Cost:
    """Of FSVideo's light autoencoder, in bfloat16."""
    return decode_cost(FSAE_LITE, video)
