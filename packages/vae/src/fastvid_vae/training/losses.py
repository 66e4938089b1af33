"""Losses of the autoencoders."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from fastvid_vae.fsae.model import FSAE
from fastvid_vae.layers.deformable_attention import Look
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
    return decoding_loss(model, add_latent_noise(latents, latent_noise), features, frames)


def add_latent_noise(
    latents: Float[Tensor, "b c t h w"], noise: Float[Tensor, "b c t h w"]
) -> Float[Tensor, "b c t h w"]:
    """Latents plus noise in units of each channel's standard deviation in this batch."""
    return latents + noise * latents.detach().std(dim=(0, 2, 3, 4), keepdim=True)


def decoding_loss(
    model: FSAE,
    latents: Float[Tensor, "b c t h w"],
    features: Sequence[Tensor],
    frames: Float[Tensor, "b 3 T H W"],
    offsets: Float[Tensor, "b T H W 2"] | None = None,
    offset_weight: float = 0.0,
) -> Float[Tensor, ""]:
    """`reconstruction_loss` from what the encoder gave, and with an error for where deformable heads look.

    Args:
        latents, features: of `model.encoder`.
        frames: as above.
        offsets: (x, y) from every pixel to the place in frame 0 that it shows, in pixels, where that is known (a camera
            motion over a photo); NaN where it is not. Heads that are told learn where to look in hundreds of steps; by
            the pixels alone they hardly do, for what they would find elsewhere is no better than what they see here.
        offset_weight: of the mean distance, in pixels, between where they look and where the pixel comes from.
    Raises:
        ValueError: there are offsets, and no head that they could guide.
    """
    heads = [module for module in model.decoder.modules() if isinstance(module, Look)]
    if offsets is not None and not heads:
        raise ValueError("`offsets` guide deformable heads, and this model has none")
    looks: list[Tensor] = []
    hooks = [head.register_forward_hook(lambda *args: looks.append(args[-1][0])) for head in heads]
    # The encoder is causal: its features of frame 0 are those of the first frame alone.
    first = [feature[:, :, :1] for feature in features]
    try:
        decoded = model.decoder(latents, first, Stream(), Noise("off", 0.0, None))
    finally:
        for hook in hooks:
            hook.remove()
    loss: Tensor = (decoded - frames).abs().mean()
    if offsets is not None:
        loss = loss + offset_weight * sum(offset_error(look, offsets) for look in looks)
    return loss


def offset_error(look: Float[Tensor, "b t h w n 2"], offsets: Float[Tensor, "b T H W 2"]) -> Float[Tensor, ""]:
    """Mean distance in pixels between where heads look and where the content is, over places where that is known.

    A cell that stands for several pixels and frames should look at the mean of theirs, in the last of its frames.
    """
    ratio = offsets.shape[2] // look.shape[2]
    if look.shape[1] != offsets.shape[1]:
        step = (offsets.shape[1] - 1) // (look.shape[1] - 1)
        offsets = offsets[:, ::step]
    target = functional.avg_pool3d(offsets.permute(0, 4, 1, 2, 3), (1, ratio, ratio)).permute(0, 2, 3, 4, 1)
    known = target[..., :1].isfinite()
    miss = (ratio * look - target.nan_to_num().unsqueeze(-2)).square().sum(-1).add(1e-4).sqrt()
    error: Tensor = (miss * known).sum() / (known.sum() * miss.shape[-1]).clamp_min(1)
    return error
