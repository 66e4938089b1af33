"""What a pipeline is made of, and whether it fits together."""

from dataclasses import dataclass

from fastvid_pipelines.interfaces import (
    Autoencoder,
    ImageEncoder,
    RefinerTransformer,
    Transformer,
    Upsampler,
)
from fastvid_pipelines.types import Refinement


@dataclass(frozen=True, slots=True, kw_only=True)
class Refiner:
    """The second stage: videos twice as high and wide as those of the first transformer."""

    upsampler: Upsampler
    transformer: RefinerTransformer
    refinement: Refinement


def check_fit(
    autoencoder: Autoencoder, transformer: Transformer, image_encoder: ImageEncoder | None, refiner: Refiner | None
) -> None:
    """Refuse parts whose channels or tokens do not agree.

    Raises:
        ValueError: they do not.
    """
    transformers = {"transformer": transformer}
    upsamplers = {}
    if refiner is not None:
        if refiner.transformer.config.refiner_mask is None:
            raise ValueError(
                "`refiner.transformer` has no mask statistics: `refiner_mask` of its config is None, as in a base model"
            )
        transformers["refiner.transformer"] = refiner.transformer
        upsamplers["refiner.upsampler"] = refiner.upsampler.latent_channels
    channels = {name: part.config.latent_channels for name, part in transformers.items()} | upsamplers
    for name, count in channels.items():
        if count != autoencoder.latent_channels:
            raise ValueError(
                f"`autoencoder` has {autoencoder.latent_channels} latent channels and `{name}` {count}; "
                "they have to be equal"
            )
    for name, part in transformers.items():
        width = part.config.image_width
        if width is None and image_encoder is not None:
            raise ValueError(f"`image_encoder` has no effect: `{name}` takes no image tokens (`image_width` is None)")
        if width is not None and image_encoder is None:
            raise ValueError(f"`image_encoder` is None; `{name}` needs image tokens {width} wide")
