"""Fixed sines and cosines that tell a token its place: PixArt-alpha's for the frame, and what time adds to them."""

import torch
from jaxtyping import Float
from torch import Tensor


def frame_code(rows: Float[Tensor, "*n"], columns: Float[Tensor, "*n"], width: int) -> Float[Tensor, "*n {width}"]:
    """The code of places in a frame: the first half of the channels is of the column, the second of the row.

    Args:
        rows, columns: in units of the pretraining's grid, as `ReducioDiTConfig.position_span` scales them.
        width: of the model, a multiple of 4.
    Source: PixArt-alpha, diffusion/model/nets/PixArt.py.
    """
    return torch.cat((_waves(columns, width // 2), _waves(rows, width // 2)), dim=-1)


def time_code(times: Float[Tensor, "*n"], width: int) -> Float[Tensor, "*n {width}"]:
    """What is added at latent frame `times`; nothing at frame 0, so that one frame is coded as PixArt's picture.

    The paper is silent on time. This is Latte's code less that of frame 0, without which every feature of the
    pretrained model would be shifted, also in a picture.
    """
    return _waves(times, width) - _waves(torch.zeros_like(times), width)


def _waves(positions: Tensor, width: int) -> Tensor:
    """Sines, then cosines, of position * 10000^(-k / (width / 2)); in float32, since exporters know no float64."""
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=positions.device)
    angles = positions.float().unsqueeze(-1) * 10000 ** (steps * (-1 / half))
    return torch.cat((angles.sin(), angles.cos()), dim=-1)
