"""Training of a `ReducioDiT`: it predicts the noise of a variance-preserving diffusion of 1000 steps."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from fastvid_dit.reducio_dit.model import ReducioDiT

NUM_STEPS, FIRST_BETA, LAST_BETA = 1000, 1e-4, 0.02
DROPOUT = 0.1
"""How often the text and, independently of it, the content frame are left out. Source: Reducio, appendix A."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseBatch:
    """One step's data, draws included, on the model's device.

    Attributes:
        latents: as they leave Reducio-VAE's `encode`.
        noise: standard normal, of the latents' shape.
        timestep: 0 to 999.
        text, text_mask: tokens of the text encoder, and which of them count.
        null_text, null_mask: one row of the same lengths, of the empty prompt; it replaces texts that are left out.
        keep_text, keep_frame: what is not left out, see `draw_kept`.
        semantic, content: of the content frame, as `ReducioDiT.forward` takes them.
        size: height and width of the video in pixels; None where the model is not told.
    """

    latents: Float[Tensor, "b c t h w"]
    noise: Float[Tensor, "b c t h w"]
    timestep: Int64[Tensor, " b"]
    text: Float[Tensor, "b l d"]
    text_mask: Bool[Tensor, "b l"]
    null_text: Float[Tensor, "l d"]
    null_mask: Bool[Tensor, " l"]
    keep_text: Bool[Tensor, " b"]
    keep_frame: Bool[Tensor, " b"]
    semantic: Float[Tensor, "b m e"]
    content: Float[Tensor, "b k H W"]
    size: Float[Tensor, "b 2"] | None


def noise_loss(model: ReducioDiT, batch: NoiseBatch) -> Float[Tensor, ""]:
    """Mean squared error of the predicted noise.

    Raises:
        ValueError: `model` predicts a variance as well, for which this loss has no term.
    Source: Reducio, equation 2. It does not say whether PixArt-alpha's learned variance stays; here it does not.
    """
    if model.config.learn_sigma:
        raise ValueError("`model.config.learn_sigma` is True; this loss trains the noise alone, so expected False")
    keep = batch.keep_text[:, None]
    frame = batch.keep_frame.to(batch.content)
    predicted = model(
        add_vp_noise(batch.latents, batch.noise, batch.timestep),
        batch.timestep.float(),
        torch.where(keep[:, :, None], batch.text, batch.null_text),
        torch.where(keep, batch.text_mask, batch.null_mask),
        semantic=batch.semantic * frame[:, None, None],
        content=batch.content * frame[:, None, None, None],
        size=batch.size,
    )
    return functional.mse_loss(predicted, batch.noise)


def add_vp_noise(
    latents: Float[Tensor, "b c t h w"], noise: Float[Tensor, "b c t h w"], timestep: Int64[Tensor, " b"]
) -> Float[Tensor, "b c t h w"]:
    """sqrt(s) latents + sqrt(1 - s) noise, with the signal's share s of each timestep."""
    share = signal_shares().to(latents.device)[timestep].view(-1, 1, 1, 1, 1).to(latents)
    return share.sqrt() * latents + (1 - share).sqrt() * noise


def signal_shares() -> Float[Tensor, " steps"]:
    """The share of the signal's variance at each timestep: the product of 1 - beta up to it, betas even."""
    betas = torch.linspace(FIRST_BETA, LAST_BETA, NUM_STEPS, dtype=torch.float64)
    return (1 - betas).cumprod(dim=0)


def draw_kept(
    count: int, generator: torch.Generator, *, dropout: float = DROPOUT
) -> tuple[Bool[Tensor, " count"], Bool[Tensor, " count"]]:
    """Which samples keep their text, and which their content frame; the two draws are independent."""
    text, frame = torch.rand(2, count, generator=generator) >= dropout
    return text, frame
