"""Latents to frames, and frames to a finished video."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from fastvid_pipelines.interfaces import AcceleratorSession, Autoencoder
from fastvid_pipelines.stages.finite import check_finite
from fastvid_pipelines.types import Clip, LatentVideo, TensorClip

OutputType = Literal["np", "pt", "latent"]


def decode(
    autoencoder: Autoencoder,
    video: LatentVideo,
    reference: Float[Tensor, "b 3 H W"],
    num_frames: int,
    session: AcceleratorSession | None = None,
    *,
    size: tuple[int, int] | None = None,
) -> Float[Tensor, "b 3 T H W"]:
    """Frames in [-1, 1], of exactly the wanted number and size.

    An accelerator that thinned the latents out gets all frames they hold, and restores the rest.

    Args:
        size: height and width; None: those of the reference.
    Raises:
        NonFiniteError: NaN or infinity in a frame.
        ValueError: the accelerator did not bring back as many frames as were asked for.
    """
    whole = video.latents.shape[2] == autoencoder.num_latent_frames(num_frames)
    frames = autoencoder.decode(
        video.latents.to(reference.dtype),
        reference=reference if autoencoder.takes_reference else None,
        num_frames=num_frames if whole else None,
        size=(reference.shape[-2], reference.shape[-1]),
    )
    check_finite("decode", frames)
    if session is not None:
        frames = session.finish(frames)
        check_finite("finish", frames)
    if frames.shape[2] < num_frames:
        raise ValueError(f"`accelerator` gave {frames.shape[2]} of the {num_frames} frames asked for (`num_frames`)")
    height, width = size or reference.shape[-2:]
    return frames[:, :, :num_frames, :height, :width]


def to_pixels(frames: Float[Tensor, "3 T H W"]) -> UInt8[np.ndarray, "T H W 3"]:
    """Frames in [-1, 1] to bytes."""
    scaled = frames.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return np.ascontiguousarray(rearrange(scaled, "c t h w -> t h w c").cpu().numpy())


def check_output_type(output_type: Any) -> None:
    """Refuse another name.

    Raises:
        ValueError: it is one.
    """
    if output_type not in get_args(OutputType):
        raise ValueError(f"`output_type` is {output_type!r}; expected one of {', '.join(get_args(OutputType))}")


def finish(
    frames: Float[Tensor, "b 3 T H W"],
    output_type: Literal["np", "pt"],
    *,
    fps: float,
    seconds: Mapping[str, float],
    latent_frames: list[int],
    session: AcceleratorSession | None,
) -> Clip | TensorClip:
    """The first video of the batch as bytes ('np'), or all of them as floats ('pt')."""
    facts: dict[str, Any] = {
        "fps": float(fps),
        "seconds": seconds,
        "latent_frames": tuple(latent_frames),
        "acceleration": {} if session is None else session.report(),
    }
    if output_type == "pt":
        return TensorClip(frames=frames.float(), **facts)
    return Clip(frames=to_pixels(frames[0]), **facts)
