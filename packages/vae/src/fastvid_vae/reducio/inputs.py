"""What a Reducio-VAE's `encode`, `decode` and `tiled` refuse, besides what every autoencoder does."""

from typing import Literal, get_args

import torch
from torch import Tensor

from fastvid_vae.arguments import cells_of, check_tensor, tile_sides
from fastvid_vae.overhang import Layout
from fastvid_vae.reducio.config import ReducioConfig
from fastvid_vae.reducio.passes import Pieces
from fastvid_vae.tiling import Tiling

BRIGHTEST = 1.5  # decoders of pictures overshoot [-1, 1] a little; pixels in [0, 255] are far beyond

TRAINED_LENGTH_ONLY = ("linear", "add")


def check_unpadded(frames: Tensor, *, clip: int | None, strides: tuple[int, int, int]) -> None:
    """`frames` must be whole clips of whole latent cells; `clip` in frames, None: any that the stride divides."""
    steps = (clip or strides[0], *strides[1:])
    for name, size, step in zip(("frames", "rows", "columns"), frames.shape[2:], steps, strict=True):
        if size % step:
            below = max(step, size - size % step)
            raise ValueError(
                f"`frames` holds {size} {name}; without padding (`pad=False`) it must be a multiple of {step} "
                f"(nearest legal values: {below} and {below + step})"
            )


def check_clips(latent_frames: int, clip: int | None) -> None:
    """`latents` must be whole clips."""
    if clip is not None and latent_frames % clip:
        below = max(clip, latent_frames - latent_frames % clip)
        raise ValueError(
            f"`latents` holds {latent_frames} latent frames; clips have {clip}, so expected a multiple of it "
            f"(nearest legal values: {below} and {below + clip}), or `tiled` with the clips' length as `temporal`"
        )


def content_frames(
    reference: Tensor | None, latents: Tensor, *, num_clips: int, config: ReducioConfig, size: tuple[int, int] | None
) -> Tensor | None:
    """The content frames (b 3 clips H W), one for each clip, of the video's size; None where nothing is fused."""
    if config.fusion == "none":
        if reference is not None:
            raise ValueError("`reference` has no effect: this model's `fusion` is 'none'; leave it out")
        return None
    expected = f"(b, 3, {num_clips}, H, W), the middle frames of the clips as `content_frames` picks them"
    if reference is None:
        raise ValueError(f"`reference` is None; this model decodes with content frames: expected {expected}")
    if reference.dim() == 4:
        expected = "(b, 3, H, W), the middle frame of the clip" if num_clips == 1 else expected
        reference = reference.unsqueeze(2)
    check_tensor("reference", reference, expected, channels=3)
    if reference.shape[0] != latents.shape[0]:
        raise ValueError(f"`reference` is of {reference.shape[0]} videos; `latents` of {latents.shape[0]}")
    if reference.shape[2] != num_clips:
        raise ValueError(
            f"`reference` holds {reference.shape[2]} content frames; `latents` {num_clips} clips: expected {expected}"
        )
    _check_size(reference, latents, stride=config.stride[1], size=size)
    _check_brightness(reference)
    return reference


def pieces_of(
    spatial: int | tuple[int, int] | None,
    temporal: int | Literal["clip"] | None,
    overlap: float,
    layout: Layout,
    config: ReducioConfig,
) -> Pieces:
    """Tile sizes in pixels and the length of a clip in frames as latent cells."""
    if layout not in get_args(Layout):
        raise ValueError(f"`layout` is {layout!r}; expected {', '.join(map(repr, get_args(Layout)))}")
    height, width = tile_sides(spatial, config.stride)
    frames = config.num_frames if temporal == "clip" else temporal
    clip = None if frames is None else cells_of("temporal", frames, step=config.stride[0], offset=0)
    if config.fusion in TRAINED_LENGTH_ONLY and frames != config.num_frames:
        raise ValueError(
            f"`temporal` is {temporal!r}; with `fusion` {config.fusion!r} the decoder has weights for every one of "
            f"{config.num_frames} frames and knows no other length (legal values: 'clip' and {config.num_frames})"
        )
    return Pieces(clip=clip, tiling=Tiling(time=None, height=height, width=width, overlap=overlap), layout=layout)


def _check_size(reference: Tensor, latents: Tensor, *, stride: int, size: tuple[int, int] | None) -> None:
    height, width = reference.shape[3:]
    if size is not None and (height, width) != tuple(size):
        raise ValueError(f"`reference` is {height} x {width} pixels; `size` is {size[0]} x {size[1]}")
    if (-(-height // stride), -(-width // stride)) != tuple(latents.shape[3:]):
        full = [cell * stride for cell in latents.shape[3:]]
        raise ValueError(
            f"`reference` is {height} x {width} pixels; these latents hold {full[0]} x {full[1]}, "
            f"of which at most {stride - 1} rows and columns may be missing"
        )


def _check_brightness(reference: Tensor) -> None:
    if torch.compiler.is_compiling() or reference.is_meta:
        return  # values are not there to look at
    found = float(reference.detach().abs().amax())
    if found > BRIGHTEST:
        raise ValueError(f"`reference` holds values up to {found:.4g} in size; expected pixels in [-1, 1]")
