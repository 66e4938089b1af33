"""Classifier-free guidance, both branches in one batch: an accelerator then never guesses which branch it sees."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from fastvid_pipelines.types import Conditions, TextFeatures


def join_branches(conditions: Conditions) -> Conditions:
    """Conditions of the doubled batch, the negative half first. Only the text differs between the halves (as in Wan).

    Without a negative text: the conditions as they are.
    """
    if conditions.negative_text is None:
        return conditions
    return Conditions(
        text=join_texts(conditions.negative_text, conditions.text),
        negative_text=None,
        image_latents=torch.cat((conditions.image_latents, conditions.image_latents)),
        image_tokens=None
        if conditions.image_tokens is None
        else torch.cat((conditions.image_tokens, conditions.image_tokens)),
    )


def guide(
    predict: Callable[[Tensor], Tensor], latents: Float[Tensor, "b c t h w"], guidance_scale: float
) -> Float[Tensor, "b c t h w"]:
    """negative + guidance_scale (positive - negative), from one call of `predict`; at scale 1 only the positive branch.

    Args:
        predict: velocity of a batch of latents; of the doubled batch, negative half first, unless the scale is 1.
    """
    if guidance_scale == 1:
        return predict(latents)
    negative, positive = predict(torch.cat((latents, latents))).chunk(2)
    return negative + guidance_scale * (positive - negative)


def join_texts(negative: TextFeatures, positive: TextFeatures) -> TextFeatures:
    """Tokens and masks of the doubled batch."""
    masks = [mask for mask in (negative.mask, positive.mask) if mask is not None]
    return TextFeatures(tokens=torch.cat((negative.tokens, positive.tokens)), mask=torch.cat(masks) if masks else None)
