"""What an FSAE's `encode` and `decode` refuse, besides what every autoencoder does."""

import torch
from torch import Tensor

from fastvid_vae.arguments import cells_of, check_tensor, tile_sides
from fastvid_vae.tiling import Tiling


def check_reference(reference: Tensor, latents: Tensor, *, stride: int, size: tuple[int, int] | None) -> None:
    """`reference` must be one picture per video, of the video's size."""
    if reference.dim() != 4:
        raise ValueError(f"`reference` has shape {tuple(reference.shape)}; expected (b, 3, H, W), the first frame")
    check_tensor("reference", reference.unsqueeze(2), "(b, 3, H, W)", channels=3)
    if reference.shape[0] != latents.shape[0]:
        raise ValueError(f"`reference` holds {reference.shape[0]} pictures for {latents.shape[0]} videos")
    height, width = reference.shape[2:]
    if size is not None and (height, width) != tuple(size):
        raise ValueError(f"`reference` is {height} x {width} pixels; `size` is {size[0]} x {size[1]}")
    cells = (-(-height // stride), -(-width // stride))
    if cells != tuple(latents.shape[3:]):
        full = [cell * stride for cell in latents.shape[3:]]
        raise ValueError(
            f"`reference` is {height} x {width} pixels; these latents hold {full[0]} x {full[1]}, "
            f"of which at most {stride - 1} rows and columns may be missing"
        )


def check_noise(mode: str, weight: float, generator: torch.Generator | None) -> None:
    """A noise setting that would change nothing is a mistake."""
    if mode not in ("off", "spatial", "full"):
        raise ValueError(f"`noise_mode` is {mode!r}; expected 'off', 'spatial' or 'full'")
    if mode != "off" and weight == 0:
        raise ValueError(f"`noise_mode` is {mode!r}, which has no effect: this model's `noise_weight` is 0; use 'off'")
    if mode == "off" and generator is not None:
        raise ValueError("`generator` has no effect while `noise_mode` is 'off'")


def tiling_of(
    spatial: int | tuple[int, int] | None, temporal: int | None, overlap: float, *, strides: tuple[int, int, int]
) -> Tiling:
    """Tile sizes in pixels and frames as latent cells."""
    height, width = tile_sides(spatial, strides)
    time = None if temporal is None else 1 + cells_of("temporal", temporal, step=strides[0], offset=1)
    return Tiling(time=time, height=height, width=width, overlap=overlap)
