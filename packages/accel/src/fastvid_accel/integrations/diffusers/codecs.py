"""The autoencoders of diffusers' video pipelines as codecs: latents as the transformer sees them, and frames."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self, cast

import torch
from jaxtyping import Float
from torch import Tensor

from fastvid_accel.integrations.diffusers.truncation import check_truncatable, stages_less

Statistics = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusersCodec:
    """A VAE with its latents normalised: (raw - mean) / std."""

    vae: Any
    temporal_stride: int
    mean: Tensor
    std: Tensor
    decode_raw: Callable[[Tensor], Tensor]
    stages: Callable[[], AbstractContextManager[None]] = nullcontext
    """What holds while it decodes and encodes: `stages_less`, or all of them."""

    def decode(self, latents: Float[Tensor, "b c t h w"], /) -> Float[Tensor, "b 3 T H W"]:
        """All frames that the latents hold."""
        mean, std = self.mean.to(latents.device), self.std.to(latents.device)
        with torch.no_grad(), self.stages():
            frames: Tensor = self.decode_raw((latents.float() * std + mean).to(self.vae.dtype)).float()
        return frames

    def encode(self, frames: Float[Tensor, "b 3 T H W"], /) -> Float[Tensor, "b c t h w"]:
        """The mode of the posterior."""
        with torch.no_grad(), self.stages():
            raw: Tensor = self.vae.encode(frames.to(self.vae.dtype)).latent_dist.mode().float()
        return (raw - self.mean.to(raw.device)) / self.std.to(raw.device)

    def truncated(self, stages: int, /) -> Self:
        """The same with so many stages of the VAE left out.

        Raises:
            ValueError: a VAE that has no known stages to leave out, or not so many.
        """
        check_truncatable(self.vae, stages)
        return replace(self, stages=partial(stages_less, self.vae, stages))


def codec_of(vae: Any, temporal_stride: int) -> DiffusersCodec:
    """The codec of a pipeline's VAE; how it is normalised stands in its configuration, or in buffers (LTX)."""
    mean, std = _statistics(vae)

    def decode_raw(raw: Tensor) -> Tensor:
        if getattr(vae.config, "timestep_conditioning", False):  # LTX from 0.9.1 on; a preview is decoded as clean
            return cast(Tensor, vae.decode(raw, raw.new_zeros(len(raw)), return_dict=False)[0])
        return cast(Tensor, vae.decode(raw, return_dict=False)[0])

    return DiffusersCodec(
        vae=vae,
        temporal_stride=temporal_stride,
        mean=mean,
        std=std,
        decode_raw=decode_raw,
    )


def _statistics(vae: Any) -> Statistics:
    """Latents are (raw - mean) / std: with channel statistics where the model has them, and its scaling factor."""
    config = vae.config
    buffers = dict(vae.named_buffers(recurse=False))
    mean = buffers.get("latents_mean", getattr(config, "latents_mean", None))
    std = buffers.get("latents_std", getattr(config, "latents_std", None))
    factor = getattr(config, "scaling_factor", None) or 1.0
    if mean is None or std is None:
        return torch.zeros(1, 1, 1, 1, 1), torch.full((1, 1, 1, 1, 1), 1 / factor)
    shape = 1, -1, 1, 1, 1
    return torch.as_tensor(mean).float().view(shape), torch.as_tensor(std).float().view(shape) / factor
