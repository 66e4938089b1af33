"""What a refiner is shown: the first frame at its own size, and the upsampled latents of the small video.

Source: FSVideo, section 2.4.2. The paper compares "a low-resolution first-frame latent z and its upsampled output",
which differ in size; here both are at the refiner's size: the latent of the large first frame, and the upsampled latent
of the small one. Both exist in training and at inference.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from fastvid_dit.config import RefinerMask


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinerCondition:
    """Condition latents and how far each of them is to be trusted: 1 is the truth, 0 is nothing."""

    latents: Float[Tensor, "b c t h w"]
    mask: Float[Tensor, "b 1 t h w"]

    def channels(self, mask_channels: int) -> Float[Tensor, "b k t h w"]:
        """The `condition` of the transformer: the mask on all of its channels, then the latents."""
        return torch.cat((self.mask.expand(-1, mask_channels, -1, -1, -1), self.latents), dim=1)


def refiner_condition(
    upsampled: Float[Tensor, "b c t h w"],
    first: Float[Tensor, "b c 1 h w"],
    upsampled_first: Float[Tensor, "b c 1 h w"],
    settings: RefinerMask,
) -> RefinerCondition:
    """The true first frame with mask 1, then the upsampled frames with the mask of `dynamic_mask`.

    Args:
        upsampled: of the small video's latents.
        first: latent of the first frame at the refiner's size.
        upsampled_first: of the latent of the first frame at the small size.
        settings: of the mask.
    """
    later = dynamic_mask(upsampling_error(first, upsampled_first), settings)
    mask = torch.cat((torch.ones_like(later), later.expand(-1, -1, upsampled.shape[2] - 1, -1, -1)), dim=2)
    return RefinerCondition(latents=torch.cat((first, upsampled[:, :, 1:]), dim=2), mask=mask)


def upsampling_error(
    first: Float[Tensor, "b c 1 h w"], upsampled_first: Float[Tensor, "b c 1 h w"]
) -> Float[Tensor, "b 1 1 h w"]:
    """Mean over the channels of |z - z_hat|, in units of normalised latents."""
    return (first - upsampled_first).abs().mean(dim=1, keepdim=True)


def dynamic_mask(error: Float[Tensor, "b 1 1 h w"], settings: RefinerMask) -> Float[Tensor, "b 1 1 h w"]:
    """Errors mapped to [lowest, highest] between two quantiles that were measured once, not on this sample.

    The extremes of the sample itself would say nothing about how good it is.
    """
    if settings.reduce == "mean":
        error = error.mean(dim=(3, 4), keepdim=True).expand_as(error)
    share = ((error - settings.error_low) / (settings.error_high - settings.error_low)).clamp(0, 1)
    if settings.mode == "confidence":
        share = 1 - share
    return settings.lowest + (settings.highest - settings.lowest) * share


def condition_picture(condition: RefinerCondition) -> UInt8[Tensor, "rows columns"]:
    """A grey picture of the first sample: per latent frame a column with its mask and the strength of its latents.

    The upper row is the mask from 0 (black) to 1 (white); the lower one the root mean square over the channels, from 0
    to the largest of the clip. One latent is one pixel, frames are a pixel apart.
    """
    strength = condition.latents[0].float().square().mean(dim=0).sqrt()
    rows = condition.mask[0, 0].float(), strength / strength.max().clamp(min=1e-6)
    pictures = [torch.cat(list(F.pad(row, (0, 1, 0, 1))), dim=1) for row in rows]
    return torch.cat(pictures).clamp(0, 1).mul(255).round().to(torch.uint8)
