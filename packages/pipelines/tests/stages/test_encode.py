from dataclasses import replace

import pytest
import torch
from fastvid_pipelines.errors import NonFiniteError
from fastvid_pipelines.stages.encode_prompt import Texts, encode_prompt
from fastvid_pipelines.stages.encode_reference import encode_reference
from fastvid_pipelines.types import GenerationRequest, TextFeatures

from ..fakes import SAMPLING, FakeAutoencoder, FakeImageEncoder, build_text_encoder

CPU = torch.device("cpu")


def texts(guidance_scale: float = 2.0, negative_prompt: str = "blur") -> Texts:
    request = GenerationRequest(
        prompt="pan left", negative_prompt=negative_prompt, sampling=replace(SAMPLING, guidance_scale=guidance_scale)
    )
    return encode_prompt(build_text_encoder(), request, device=CPU, dtype=torch.bfloat16)


@torch.inference_mode()
def test_both_prompts_have_equally_many_tokens() -> None:
    both = texts()
    assert both.negative is not None
    assert both.positive.tokens.shape == both.negative.tokens.shape == (1, 8, 8)
    assert both.positive.tokens.dtype == torch.bfloat16
    assert both.negative.mask is not None
    assert both.negative.mask.sum() == 4


@torch.inference_mode()
def test_without_guidance_there_is_no_negative_text() -> None:
    assert texts(guidance_scale=1.0, negative_prompt="").negative is None


@torch.inference_mode()
def test_the_photo_becomes_one_latent_frame_and_image_tokens() -> None:
    reference = torch.rand(1, 3, 33, 41) * 2 - 1
    conditions = encode_reference(FakeAutoencoder(), FakeImageEncoder(), reference, texts())
    assert conditions.image_latents.shape == (1, 4, 1, 5, 6)
    assert conditions.image_tokens is not None
    assert conditions.image_tokens.shape == (1, 1, 3)
    assert encode_reference(FakeAutoencoder(), None, reference, texts()).image_tokens is None


class Broken:
    def encode(self, prompts: object) -> TextFeatures:
        return TextFeatures(tokens=torch.full((2, 3, 8), float("nan")), mask=None)


def test_nan_is_reported_with_its_stage() -> None:
    request = GenerationRequest(prompt="a", negative_prompt="", sampling=SAMPLING)
    with pytest.raises(NonFiniteError, match="stage `encode_prompt`"):
        encode_prompt(Broken(), request, device=CPU, dtype=torch.float32)
    with pytest.raises(NonFiniteError, match="stage `encode_reference`"), torch.inference_mode():
        encode_reference(FakeAutoencoder(), None, torch.full((1, 3, 16, 16), float("inf")), texts())
