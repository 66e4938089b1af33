"""What an OD-VAE is trained on: pixels, a perceptual distance, the posterior and a discriminator.

Source: OD-VAE, section 4.1, names the terms; weights, the sum over pixels and the discriminator are those of the
released code. There discriminator and autoencoder take turns once the discriminator has begun; who trains both in every
step, as its version 1.1 did, has twice the steps.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from fastvid_vae.odvae.model import ODVAE
from fastvid_vae.training.adversarial import SLOPE
from fastvid_vae.training.patchgan import adaptive_weight, hinge_generator_loss, init_patchgan
from fastvid_vae.training.reducio_loss import Distance, reconstruction_loss


@dataclass(frozen=True, slots=True, kw_only=True)
class ODVAELossWeights:
    """Of the terms beside the absolute error; the defaults are the released ones.

    Attributes:
        perceptual: of the distance that the caller brings; LPIPS with VGG features in the released code.
        kl: of the posterior's divergence from the standard normal, in nats summed over a clip's latents.
        adversarial: of the discriminator, times `adaptive_weight`.
        adversarial_start: the first step, counted from 0, at which the discriminator counts.
    """

    perceptual: float = 1.0
    kl: float = 1e-6
    adversarial: float = 0.5
    adversarial_start: int = 2000

    def __post_init__(self) -> None:
        for name in ("perceptual", "kl", "adversarial", "adversarial_start"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` is {getattr(self, name)}; expected 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class ODVAETerms:
    """The loss of one batch and what it is made of, unweighted; `decoded` is what a discriminator learns from."""

    total: Float[Tensor, ""]
    reconstruction: Float[Tensor, ""]
    kl: Float[Tensor, ""]
    adversarial: Float[Tensor, ""]
    decoded: Float[Tensor, "b 3 T H W"]


class VolumeDiscriminator(nn.Module):
    """Clips to one logit a patch: five kernels of 3 x 3 x 3, the first two halve time, the first three the picture.

    4,665,729 parameters at the released width of 64.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        strides = ((2, 2, 2), (1, 2, 2), (1, 1, 1))
        self.first = nn.Conv3d(3, width, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(
            nn.Conv3d(width << i, 2 * width << i, 3, stride=stride, padding=1, bias=False)
            for i, stride in enumerate(strides)
        )
        self.norms = nn.ModuleList(nn.BatchNorm3d(2 * width << i) for i in range(len(strides)))
        self.head = nn.Conv3d(8 * width, 1, 3, padding=1)
        self.apply(init_patchgan)

    def forward(self, frames: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b 1 t h w"]:
        """Logits, larger where a patch looks real; frames in [-1, 1]."""
        x = functional.leaky_relu(self.first(frames), SLOPE)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = functional.leaky_relu(norm(layer(x)), SLOPE)
        logits: Tensor = self.head(x)
        return logits


def odvae_loss(
    model: ODVAE,
    frames: Float[Tensor, "b 3 T H W"],
    noise: Float[Tensor, "b c t h w"],
    *,
    step: int = 0,
    perceptual: Distance | None = None,
    discriminator: VolumeDiscriminator | None = None,
    weights: ODVAELossWeights | None = None,
) -> ODVAETerms:
    """The autoencoder's loss.

    Args:
        model: encoder and decoder are trained, at once and whole: no groups and no tiles.
        frames: pixels in [-1, 1], 1 + 4k frames, sides that divide by the stride.
        noise: standard normal; the latents are posterior mean + standard deviation times noise.
        step: of the autoencoder, counted from 0; decides whether the discriminator counts already.
        perceptual: None leaves that term out. Its networks are pretrained and not ours, so the caller brings one.
        discriminator: None leaves it out; its own loss, `hinge_discriminator_loss`, is the caller's to descend.
        weights: None: the released ones.
    Raises:
        ValueError: `noise` has not the shape of the latents of `frames`, or `frames` would be padded.
    """
    weights = weights or ODVAELossWeights()
    with model.tiled(spatial=None, temporal=None):
        posterior = model.posterior(frames)
        if noise.shape != posterior.mean.shape:
            raise ValueError(f"`noise` has shape {tuple(noise.shape)}; expected {tuple(posterior.mean.shape)}")
        raw = posterior.mean + torch.exp(0.5 * posterior.logvar) * noise
        decoded = model.decode(raw * model.config.scaling_factor)
    if decoded.shape != frames.shape:
        raise ValueError(
            f"`frames` has shape {tuple(frames.shape)}, which is padded to {tuple(decoded.shape)}; train on whole cells"
        )
    # Summed over a frame, as released: that is what the weight of the divergence is made for.
    pixels = frames[0, :, 0].numel()
    reconstruction = pixels * reconstruction_loss(decoded, frames, perceptual, weights.perceptual)
    kl = posterior.kl().mean()
    total = reconstruction + weights.kl * kl
    adversarial = torch.zeros_like(total)
    if discriminator is not None and weights.adversarial and step >= weights.adversarial_start:
        adversarial = hinge_generator_loss(discriminator(decoded))
        balance = adaptive_weight(reconstruction, adversarial, last_kernel(model))
        total = total + weights.adversarial * balance * adversarial
    return ODVAETerms(total=total, reconstruction=reconstruction, kl=kl, adversarial=adversarial, decoded=decoded)


def last_kernel(model: ODVAE) -> Tensor:
    """The weight that makes pixels, by which the adversarial loss is balanced."""
    name = "conv.weight" if model.config.decoder_conv_out == "causal" else "weight"
    return model.decoder.conv_out.get_parameter(name)
