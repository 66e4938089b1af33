"""Small Reducio-VAEs, weights and inputs that come out the same everywhere, for parity with the released code.

`record_official.py` runs the released code on them, once; `test_parity.py` runs ours.
"""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from fastvid_vae import ReducioConfig
from torch import Tensor

RECORDED = Path(__file__).with_name("official.safetensors")
KEYS = Path(__file__).with_name("official_keys.txt")

FT4 = ReducioConfig(
    latent_channels=4,
    num_frames=8,
    widths=(32, 32, 64, 64, 64),
    content_widths=(32, 64, 64, 64),
    num_blocks=1,
    temporal_levels=2,
    fusion="attention",
    fused_levels=(2, 3),
    num_heads=8,
    fusion_head_width=64,
    norm_groups=32,
)
CONFIGS = {
    "ft4": FT4,
    "ft2": replace(FT4, temporal_levels=1),
    "none": replace(FT4, fusion="none"),
    "linear": replace(FT4, fusion="linear"),
    "add": replace(FT4, fusion="add"),
}

WHOLE = (8, 32, 48)  # frames, height, width
TILED = (8, 80, 96)  # two by two tiles, the lower ones slivers of one latent cell
TILE, TILE_OVERLAP = 64, 0.25  # in the terms of the released code; tiles of 80 pixels, 16 of which are shared

MOST_VALUES = 6000
STRIDES = (1, 3, 7, 13, 31, 61, 97, 193)


def uniform(shape: tuple[int, ...], key: str) -> Tensor:
    """Values in [-1, 1) from a name: raw bits of PCG64, which are the same on every machine and in every version."""
    seed = int.from_bytes(sha256(key.encode()).digest()[:8], "little")
    bits = np.random.PCG64(seed).random_raw(int(np.prod(shape)))
    return torch.from_numpy((bits >> np.uint64(11)) * 2.0**-52 - 1).float().reshape(shape)


def weights(like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A value for every tensor but the tables over time, which are no choice."""
    return {name: _weight(name, tensor) for name, tensor in like.items() if not name.endswith("pos_embed")}


def thin(tensor: Tensor) -> Tensor:
    """A few thousand of the values, spread over all axes: the stride is odd, so no axis is met at even places only."""
    stride = next(step for step in STRIDES if tensor.numel() <= step * MOST_VALUES)
    return tensor.flatten()[::stride].contiguous().clone()


def video(name: str, size: tuple[int, int, int]) -> Tensor:
    return uniform((1, 3, *size), f"video {name}")


def latents(name: str, config: ReducioConfig, size: tuple[int, int, int]) -> Tensor:
    cells = [side // step for side, step in zip(size, config.stride, strict=True)]
    return uniform((1, config.latent_channels, *cells), f"latents {name}")


def picture(name: str, size: tuple[int, int, int]) -> Tensor:
    return uniform((1, 3, *size[1:]), f"picture {name}")


def _weight(name: str, tensor: Tensor) -> Tensor:
    values = uniform(tuple(tensor.shape), name)
    if tensor.dim() == 1:
        return 1 + 0.2 * values if name.endswith("weight") else 0.1 * values
    return values * (3 / tensor[0].numel()) ** 0.5
