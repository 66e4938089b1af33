"""What a pipeline is made of, and whether it fits together."""

from dataclasses import dataclass

from fastvid_pipelines.interfaces import (
    Autoencoder,
    ClipAutoencoder,
    ContentEncoder,
    ContentTransformer,
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


def check_content_fit(
    autoencoder: ClipAutoencoder, transformer: ContentTransformer, content_encoder: ContentEncoder
) -> None:
    """Refuse parts of Reducio whose channels do not agree, or that have no use for a content frame.

    Raises:
        ValueError: they do not fit.
    """
    if autoencoder.config.fusion == "none":
        raise ValueError("`autoencoder` decodes without a content frame: its `fusion` is 'none'; expected another one")
    if autoencoder.latent_channels != transformer.config.latent_channels:
        raise ValueError(
            f"`autoencoder` has {autoencoder.latent_channels} latent channels and `transformer` "
            f"{transformer.config.latent_channels}; they have to be equal"
        )
    shown = transformer.config.content_frame
    if shown is None:
        raise ValueError("`transformer` is shown no content frame: its `content_frame` is None; expected one that is")
    if shown.content_channels != content_encoder.latent_channels:
        raise ValueError(
            f"`content_encoder` has {content_encoder.latent_channels} latent channels and `transformer` takes "
            f"{shown.content_channels} of the content frame; they have to be equal"
        )
