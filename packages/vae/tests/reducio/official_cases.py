"""Small Reducio-VAEs, weights and inputs that come out the same everywhere, for parity with the released code.

`record_official.py` runs the released code on them, once; `test_parity.py` runs ours.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fastvid_vae import ReducioConfig
from torch import Tensor

from .. import reproducible
from ..reproducible import thin, uniform, video

__all__ = ["latents", "picture", "thin", "uniform", "video", "weights"]

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


def weights(like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A value for every tensor but the tables over time, which are no choice."""
    return reproducible.weights({name: tensor for name, tensor in like.items() if not name.endswith("pos_embed")})


def latents(name: str, config: ReducioConfig, size: tuple[int, int, int]) -> Tensor:
    cells = [side // step for side, step in zip(size, config.stride, strict=True)]
    return uniform((1, config.latent_channels, *cells), f"latents {name}")


def picture(name: str, size: tuple[int, int, int]) -> Tensor:
    return uniform((1, 3, *size[1:]), f"picture {name}")
