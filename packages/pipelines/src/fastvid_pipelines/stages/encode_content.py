"""The content frame to what Reducio-DiT is told of it."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from fastvid_pipelines.interfaces import ContentEncoder, ImageEncoder
from fastvid_pipelines.reducio_types import ContentConditions
from fastvid_pipelines.stages.encode_prompt import Texts
from fastvid_pipelines.stages.finite import check_finite


def encode_content(
    image_encoder: ImageEncoder,
    content_encoder: ContentEncoder,
    frame: Float[Tensor, "b 3 H W"],
    texts: Texts,
    *,
    generator: torch.Generator,
) -> ContentConditions:
    """Encode the content frame twice and join it with the texts.

    Args:
        frame: padded by `pad_content_frame`, so that both see the same picture.
        generator: on the CPU; the content latents are sampled, as in training.
    Raises:
        NonFiniteError: NaN or infinity in the features.
    """
    semantic = image_encoder.encode(frame).to(frame.device, frame.dtype)
    check_finite("encode_content", semantic)
    content = content_encoder.encode(frame, generator=generator).to(frame.device, frame.dtype)
    check_finite("encode_content", content)
    return ContentConditions(text=texts.positive, negative_text=texts.negative, semantic=semantic, content=content)


def pad_content_frame(
    frame: Float[Tensor, "b 3 H W"], video_stride: int, content_stride: int
) -> Float[Tensor, "b 3 H2 W2"]:
    """The frame with its border repeated below and to the right, as the autoencoder pads the video.

    Args:
        video_stride: pixels of a latent of the video.
        content_stride: pixels that the frame's latents come in, in as many as the transformer takes at once.
    """
    step = math.lcm(video_stride, content_stride)
    down, right = (-size % step for size in frame.shape[-2:])
    return functional.pad(frame.float(), (0, right, 0, down), mode="replicate").to(frame.dtype)
