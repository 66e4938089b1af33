"""Pixels as every CLIP was trained on them."""

import torch
from jaxtyping import Float
from torch import Tensor

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def clip_pixels(picture: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
    """A picture in [-1, 1] with CLIP's mean and standard deviation of each colour taken out."""
    mean, std = (torch.tensor(values, device=picture.device).view(3, 1, 1) for values in (MEAN, STD))
    return ((picture + 1) / 2 - mean) / std
