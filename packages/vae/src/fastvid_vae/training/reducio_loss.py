"""What a Reducio-VAE is trained on: pixels, a perceptual distance, the posterior, outliers and a discriminator.

Source: Reducio, appendix A, names the terms; weights, the penalty on outliers and the adaptive weight are those of the
released code.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fastvid_vae.reducio.model import ReducioVAE, normalise
from fastvid_vae.training.patchgan import PatchGAN, adaptive_weight, hinge_generator_loss

OUTLIER_RADIUS = 3.0
"""Standard deviations of a frame's channel above its mean, within which a pixel costs nothing."""

Distance = Callable[[Tensor, Tensor], Tensor]
"""Two batches of pictures (n 3 H W, in [-1, 1]) to one distance for each pair (n)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """Of the terms beside the mean absolute error; the defaults are the released ones.

    Attributes:
        perceptual: of the distance that the caller brings; LPIPS with VGG features in the paper.
        kl: of the posterior's divergence from the standard normal, in nats summed over a clip's latents.
        outliers: of `outlier_penalty`.
        adversarial: of the discriminator, times `adaptive_weight`.
        adversarial_start: the first step, counted from 0, at which the discriminator counts. The released code says
            10001 and counts the steps of both optimisers, so that these are 5000 of the autoencoder.
    """

    perceptual: float = 0.1
    kl: float = 1e-6
    outliers: float = 1.0
    adversarial: float = 0.05
    adversarial_start: int = 5000

    def __post_init__(self) -> None:
        for name in ("perceptual", "kl", "outliers", "adversarial", "adversarial_start"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` is {getattr(self, name)}; expected 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The loss of one batch and what it is made of, unweighted; `decoded` is what a discriminator learns from."""

    total: Float[Tensor, ""]
    reconstruction: Float[Tensor, ""]
    kl: Float[Tensor, ""]
    outliers: Float[Tensor, ""]
    adversarial: Float[Tensor, ""]
    decoded: Float[Tensor, "b 3 T H W"]


def reducio_loss(
    model: ReducioVAE,
    frames: Float[Tensor, "b 3 T H W"],
    noise: Float[Tensor, "b c t h w"],
    *,
    step: int = 0,
    perceptual: Distance | None = None,
    discriminator: PatchGAN | None = None,
    weights: LossWeights | None = None,
) -> Terms:
    """The autoencoder's loss on clips whose middle frames are the content frames.

    Args:
        model: every part is trained, at once and whole: no tiles.
        frames: pixels in [-1, 1], whole clips of the model's length, sides that divide by the stride.
        noise: standard normal; the latents are posterior mean + standard deviation times noise, then normalised.
        step: of the autoencoder, counted from 0; decides whether the discriminator counts already.
        perceptual: None leaves that term out. Its networks are pretrained and not ours, so the caller brings one.
        discriminator: None leaves it out; its own loss, `hinge_discriminator_loss`, is the caller's to descend.
        weights: None: the released ones.
    Raises:
        ValueError: `frames` are not one clip, or `noise` has not the shape of their latents.
    """
    weights = weights or LossWeights()
    if frames.shape[2] != model.config.num_frames:
        raise ValueError(f"`frames` holds {frames.shape[2]} frames; expected one clip of {model.config.num_frames}")
    with model.tiled(spatial=None):
        posterior = model.posterior(frames, pad=False)
        if noise.shape != posterior.mean.shape:
            raise ValueError(f"`noise` has shape {tuple(noise.shape)}; expected {tuple(posterior.mean.shape)}")
        latents = normalise(posterior.mean + torch.exp(0.5 * posterior.logvar) * noise)
        content = None if model.config.fusion == "none" else model.content_frames(frames)
        decoded = model.decode(latents, reference=content)
    reconstruction = reconstruction_loss(decoded, frames, perceptual, weights.perceptual)
    kl, outliers = posterior.kl().mean(), outlier_penalty(decoded)
    total = reconstruction + weights.kl * kl + weights.outliers * outliers
    adversarial = torch.zeros_like(total)
    if discriminator is not None and weights.adversarial and step >= weights.adversarial_start:
        adversarial = hinge_generator_loss(discriminator(decoded))
        balance = adaptive_weight(reconstruction, adversarial, model.decoder.conv_out.weight)
        total = total + weights.adversarial * balance * adversarial
    return Terms(
        total=total,
        reconstruction=reconstruction,
        kl=kl,
        outliers=outliers,
        adversarial=adversarial,
        decoded=decoded,
    )


def reconstruction_loss(
    decoded: Float[Tensor, "b 3 T H W"],
    frames: Float[Tensor, "b 3 T H W"],
    perceptual: Distance | None = None,
    weight: float = 0.1,
) -> Float[Tensor, ""]:
    """mean(|x - x_hat| + weight distance), where the distance is that of each frame to its own."""
    loss = (decoded - frames).abs().mean()
    if perceptual is None or not weight:
        return loss
    pictures = (video.transpose(1, 2).flatten(0, 1) for video in (decoded, frames))
    return loss + weight * perceptual(*pictures).mean()


def outlier_penalty(decoded: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, ""]:
    """mean ReLU(x_hat - mean - 3 std), mean and (sample) standard deviation over a frame's height and width.

    Keeps single pixels from growing without bound. Only bright ones count, as in the released code.
    """
    mean, std = decoded.mean(dim=(3, 4), keepdim=True), decoded.std(dim=(3, 4), keepdim=True)
    return (decoded - mean - OUTLIER_RADIUS * std).relu().mean()
