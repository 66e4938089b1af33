"""Autoencoders of diffusers without some of their stages in space, for previews: these neither grow nor shrink.

Source: VGDFR, section 3.2 (compression decoder and encoder), as the released code does it with one stage: the first of
the decoder and the last of the encoder, so that a preview is decoded with a quarter of the pixels and encoded to
latents of the same grid. What the stages do in time stays. For HunyuanVideo decoding then takes 3.5 times fewer
operations and encoding 3.2 times fewer (torch's counter at 17 x 272 x 480).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import AutoencoderKLHunyuanVideo
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor

Change = tuple[Any, str, Any]
"""An attribute of an object, and its value meanwhile."""


@contextmanager
def stages_less(vae: Any, stages: int) -> Iterator[None]:
    """Decode to half the height and width for each stage, and encode such frames, inside the context; tiled as well.

    Raises:
        ValueError: another autoencoder than HunyuanVideo's, Wan's and CogVideoX's, or more stages than it has.
    """
    changes = _changes(vae, stages)
    before = [(owner, name, vars(owner).get(name)) for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            if value is None:
                delattr(owner, name)  # the class's own shows again
            else:
                setattr(owner, name, value)


def check_truncatable(vae: Any, stages: int) -> None:
    """Refuse what has no known stages to leave out, or not so many."""
    known = AutoencoderKLCogVideoX | AutoencoderKLHunyuanVideo | AutoencoderKLWan
    if not isinstance(vae, known) or getattr(vae.config, "is_residual", False):
        raise ValueError(
            f"`skipped_stages` is {stages} and the autoencoder is {type(vae).__name__}; stages can be left out of"
            " AutoencoderKLCogVideoX, AutoencoderKLHunyuanVideo and AutoencoderKLWan (of Wan 2.1): set it to 0"
        )
    count = len(_ups(vae))
    if not 1 <= stages <= count:
        raise ValueError(f"`skipped_stages` is {stages}; {type(vae).__name__} has {count} that can be left out")


def _changes(vae: Any, stages: int) -> list[Change]:
    check_truncatable(vae, stages)
    ups, downs = _ups(vae)[:stages], _downs(vae)[-stages:]
    if isinstance(vae, AutoencoderKLCogVideoX):
        tile = [f"tile_sample_min_{side}" for side in ("height", "width")]  # tiles are as large in latents as before
        return [
            *((up, "forward", partial(_convolved_in_space, up)) for up in ups),
            *((down.conv, "stride", (1, 1)) for down in downs),
            *((down.conv, "padding", (1, 1)) for down in downs),
            *((down, "forward", partial(_without_last, down)) for down in downs),
            *((vae, name, getattr(vae, name) >> stages) for name in tile),
        ]
    ratio = (vae, "spatial_compression_ratio", vae.spatial_compression_ratio >> stages)
    if isinstance(vae, AutoencoderKLHunyuanVideo):
        grown = [(up, "upsample_factor", (up.upsample_factor[0], 1, 1)) for up in ups]
        return [*grown, *((down.conv.conv, "stride", (down.conv.conv.stride[0], 1, 1)) for down in downs), ratio]
    return [
        *((up.resample[0], "scale_factor", (1.0, 1.0)) for up in ups),
        # Its padding is one-sided, for a stride of 2; at stride 1 the picture would shrink.
        *((down.resample[0], "padding", (1, 1, 1, 1)) for down in downs),
        *((down.resample[1], "stride", (1, 1)) for down in downs),
        ratio,
    ]


def _ups(vae: Any) -> list[Any]:
    """From the latents on."""
    return [block.upsamplers[0] for block in vae.decoder.up_blocks if block.upsamplers]


def _downs(vae: Any) -> list[Any]:
    """Up to the latents."""
    if isinstance(vae, AutoencoderKLWan):
        return [layer for layer in vae.encoder.down_blocks if hasattr(layer, "resample")]
    return [block.downsamplers[0] for block in vae.encoder.down_blocks if block.downsamplers]


def _convolved_in_space(up: Any, frames: Tensor) -> Tensor:
    """CogVideoX's upsampling without its part in space, which it mixes with that in time: frame 0 stays alone."""
    if up.compress_time and frames.shape[2] > 1:
        alone = frames.shape[2] % 2
        frames = torch.cat((frames[:, :, :alone], frames[:, :, alone:].repeat_interleave(2, dim=2)), dim=2)
    flat: Tensor = up.conv(frames.transpose(1, 2).flatten(0, 1))
    out: Tensor = flat.unflatten(0, (len(frames), -1)).transpose(1, 2)
    return out


def _without_last(down: Any, frames: Tensor) -> Tensor:
    """CogVideoX's downsampling pads below and on the right itself: with padding all around, that is one too many."""
    out: Tensor = type(down).forward(down, frames)[..., :-1, :-1]
    return out
