"""The photo to one latent frame, and to image tokens where the transformer wants them."""

from jaxtyping import Float
from torch import Tensor

from fastvid_pipelines.interfaces import Autoencoder, ImageEncoder
from fastvid_pipelines.stages.encode_prompt import Texts
from fastvid_pipelines.stages.finite import check_finite
from fastvid_pipelines.types import Conditions


def encode_reference(
    autoencoder: Autoencoder, image_encoder: ImageEncoder | None, reference: Float[Tensor, "b 3 H W"], texts: Texts
) -> Conditions:
    """Encode the first frame and join it with the texts."""
    image_latents = autoencoder.encode(reference.unsqueeze(2))
    check_finite("encode_reference", image_latents)
    image_tokens = None
    if image_encoder is not None:
        image_tokens = image_encoder.encode(reference).to(reference.device, reference.dtype)
        check_finite("encode_reference", image_tokens)
    return Conditions(
        text=texts.positive,
        negative_text=texts.negative,
        image_latents=image_latents,
        image_tokens=image_tokens,
    )
