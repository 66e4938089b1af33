"""The accelerator that changes nothing: the measure for all others, to the bit what a pipeline makes without one."""

from dataclasses import dataclass
from typing import Any, final

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fastvid_accel.interfaces import AttentionOp, AttentionSite, Estimate, Step, VideoCodec


def full_attention(
    q: Float[Tensor, "b heads n e"],
    k: Float[Tensor, "b heads m e"],
    v: Float[Tensor, "b heads m e"],
    site: AttentionSite,
    /,
) -> Float[Tensor, "b heads n e"]:
    """Softmax attention of every query over every key, unmasked, scaled by 1 / sqrt(e)."""
    return F.scaled_dot_product_attention(q, k, v)


@final
@dataclass(frozen=True, slots=True)
class NoAcceleration:
    """Every token in every block at every step, and every frame decoded."""

    def start(
        self, *, num_steps: int, attention: AttentionOp | None = None, codec: VideoCodec | None = None
    ) -> "NoAccelerationSession":
        """Begin a video.

        Args:
            num_steps: number of sampler steps, at least 1.
            attention: what computes self-attention; None: the transformer does.
            codec: not looked at.
        Raises:
            ValueError: `num_steps` below 1.
        """
        check_num_steps(num_steps)
        return NoAccelerationSession(attention)


@final
class NoAccelerationSession:
    """Hands everything through: same tensors out as in, no copies."""

    def __init__(self, attention: AttentionOp | None) -> None:
        self.attention = attention

    def begin_step(self, step: Step, /) -> None:
        """Nothing to prepare."""

    def end_step(
        self,
        latents: Float[Tensor, "b c t h w"],
        denoised: Float[Tensor, "b c t h w"],
        positions: Float[Tensor, "3 t h w"] | Float[Tensor, "blocks 3 t h w"],
        step: Step,
        /,
        *,
        estimate: Estimate | None = None,
    ) -> tuple[Float[Tensor, "b c t h w"], Float[Tensor, "3 t h w"] | Float[Tensor, "blocks 3 t h w"]]:
        """The latents and positions as they came."""
        return latents, positions

    def finish(self, frames: Float[Tensor, "b 3 T H W"], /) -> Float[Tensor, "b 3 T H W"]:
        """The frames as they came."""
        return frames

    def report(self) -> dict[str, Any]:
        """Nothing to say."""
        return {}


def check_num_steps(num_steps: int) -> None:
    """Refuse a number of steps that no sampler can run."""
    if num_steps < 1:
        raise ValueError(f"`num_steps` must be at least 1, got {num_steps}; the nearest legal values are 1 and 2")
