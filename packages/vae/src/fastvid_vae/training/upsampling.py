"""The loss of the latent upsampler. Source: FSVideo, section 2.4.1."""

from jaxtyping import Float
from torch import Tensor

LATENT_WEIGHT, PIXEL_WEIGHT = 0.1, 0.1
FIRST_LPIPS_WEIGHT, LAST_LPIPS_WEIGHT = 0.1, 1.0


def latent_loss(upsampled: Float[Tensor, "b c t h w"], target: Float[Tensor, "b c t h w"]) -> Float[Tensor, ""]:
    """a_1 |z_hat - z_high|; `target` is the latent of the large video, of which the small one was a bicubic copy."""
    return LATENT_WEIGHT * (upsampled - target).abs().mean()


def decoded_loss(
    decoded: Float[Tensor, "b 3 T h w"],
    frames: Float[Tensor, "b 3 T h w"],
    lpips: Float[Tensor, ""],
    *,
    step: int,
    num_steps: int,
) -> Float[Tensor, ""]:
    """a_2 |D(z_hat) - V_high| + a_3 LPIPS(D(z_hat), V_high), with the decoder frozen.

    Args:
        decoded, frames: of the whole picture, or of a patch (`decode_patch`).
        lpips: of the same frames, from whichever network the caller has; the paper does not name it.
        step, num_steps: a_3 rises with them.
    """
    return PIXEL_WEIGHT * (decoded - frames).abs().mean() + lpips_weight(step, num_steps) * lpips


def lpips_weight(step: int, num_steps: int) -> float:
    """a_3: from 0.1 to 1, which the paper says; over the first half of the steps, which it does not."""
    share = min(1.0, 2 * step / num_steps)
    return FIRST_LPIPS_WEIGHT + (LAST_LPIPS_WEIGHT - FIRST_LPIPS_WEIGHT) * share
