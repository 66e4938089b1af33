"""Small OD-VAEs for parity with the released code.

`record_official.py` runs the released code on them, once; `test_parity.py` runs ours.
"""

from dataclasses import replace
from pathlib import Path

from fastvid_vae import (
    ODVAE_V1_0,
    ODVAE_V1_1,
    ODVAE_VARIANT_1,
    ODVAE_VARIANT_3,
    ODVAE_VARIANT_4,
    ODVAEConfig,
)
from torch import Tensor

from ..reproducible import uniform

RECORDED = Path(__file__).with_name("official.safetensors")
KEYS = Path(__file__).parent
RELEASES = {"v1_2": ODVAE_VARIANT_4, "v1_1": ODVAE_V1_1, "v1_0": ODVAE_V1_0}


def small(config: ODVAEConfig) -> ODVAEConfig:
    """The same graph with few channels and one residual block a level."""
    return replace(config, widths=(32, 32, 64, 64), num_blocks=1)


CONFIGS = {
    name: small(config)
    for name, config in (RELEASES | {"variant_1": ODVAE_VARIANT_1, "variant_3": ODVAE_VARIANT_3}).items()
}
TILED = "v1_2"

WHOLE = (9, 24, 40)  # frames, height, width
PICTURE = (1, 24, 40)
LONG = (57, 40, 56)  # three groups of 29 frames or two of 33; two by two tiles, the lower ones slivers
TILE, TILE_OVERLAP = 32, 0.25
GROUPS = ((33, 9), (29, 8))  # frames and latents

FEW = 3000


def latents(name: str, config: ODVAEConfig, size: tuple[int, int, int]) -> Tensor:
    """Raw, as the released decoder takes them."""
    cells = [1 + (size[0] - 1) // config.stride[0]]
    cells += [side // step for side, step in zip(size[1:], config.stride[1:], strict=True)]
    return uniform((1, config.latent_channels, *cells), f"latents {name}")
