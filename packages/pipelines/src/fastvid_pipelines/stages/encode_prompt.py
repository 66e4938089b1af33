"""Words to text tokens."""

from dataclasses import dataclass

import torch

from fastvid_pipelines.interfaces import TextEncoder
from fastvid_pipelines.reducio_types import ReducioRequest
from fastvid_pipelines.stages.finite import check_finite
from fastvid_pipelines.types import GenerationRequest, TextFeatures


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Features of the prompt, and of the negative prompt where guidance is in use."""

    positive: TextFeatures
    negative: TextFeatures | None


def encode_prompt(
    text_encoder: TextEncoder, request: GenerationRequest | ReducioRequest, *, device: torch.device, dtype: torch.dtype
) -> Texts:
    """Encode both prompts in one call, so that they have equally many tokens."""
    guided = request.sampling.guidance_scale != 1
    features = text_encoder.encode([request.prompt, request.negative_prompt] if guided else [request.prompt])
    check_finite("encode_prompt", features.tokens)
    rows = [
        TextFeatures(
            tokens=features.tokens[row : row + 1].to(device, dtype),
            mask=None if features.mask is None else features.mask[row : row + 1].to(device),
        )
        for row in range(len(features.tokens))
    ]
    return Texts(positive=rows[0], negative=rows[1] if guided else None)
