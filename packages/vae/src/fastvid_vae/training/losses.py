"""Losses of the autoencoders."""

from jaxtyping import Float
from torch import Tensor

from fastvid_vae.fsae.model import FSAE
from fastvid_vae.layers.noise import Noise
from fastvid_vae.layers.stream import Stream


def reconstruction_loss(
    model: FSAE, frames: Float[Tensor, "b 3 T H W"], latent_noise: Float[Tensor, "b c t h w"]
) -> Float[Tensor, ""]:
    """Mean absolute error of a reconstruction with the clip's own first frame as reference.

    Args:
        model: every part is trained.
        frames: pixels in [-1, 1], 1 + 4k frames, sides that divide by the stride.
        latent_noise: added to the latents in units of their standard deviation, so that the decoder forgives what a
            diffusion transformer will get wrong.
    Source: FSVideo, section 2.2, stage 1. LPIPS, which the paper adds, needs a pretrained network and is left out here.
    """
    latents, features = model.encoder(frames, Stream())
    spread = latents.detach().std(dim=(0, 2, 3, 4), keepdim=True)
    # The encoder is causal: its features of frame 0 are those of the first frame alone.
    first = [feature[:, :, :1] for feature in features]
    decoded = model.decoder(latents + latent_noise * spread, first, Stream(), Noise("off", 0.0, None))
    loss: Tensor = (decoded - frames).abs().mean()
    return loss
