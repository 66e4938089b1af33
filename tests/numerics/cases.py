"""Small computations whose results are kept: tiny models, random weights and inputs from a generator."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from fastvid_dit import FSVideoDiT
from fastvid_pipelines import ByteTextEncoder, LatentVideo
from fastvid_vae import FSAE, ODVAE, LatentUpsampler
from fastvid_vae.fsae.config import DecoderMode
from torch import Tensor

from ..tiny_models import AUTOENCODER, OD_VAE, TEXT_ENCODER, TRANSFORMER, UPSAMPLER, randomised, tiny_pipeline


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def encoded() -> Tensor:
    return randomised(FSAE(AUTOENCODER)).encode(draw(1, 3, 9, 16, 24).clamp(-1, 1))


def decoded(mode: DecoderMode) -> Tensor:
    model = randomised(FSAE(replace(AUTOENCODER, decoder_mode=mode)))
    return model.decode(draw(1, 4, 2, 2, 2), reference=draw(1, 3, 16, 16).clamp(-1, 1))


def odvae_encoded() -> Tensor:
    return randomised(ODVAE(OD_VAE)).encode(draw(1, 3, 9, 16, 24).clamp(-1, 1))


def odvae_decoded() -> Tensor:
    return randomised(ODVAE(OD_VAE)).decode(draw(1, 4, 3, 2, 3))


def velocity(layer_memory: bool) -> Tensor:
    model = randomised(FSVideoDiT(replace(TRANSFORMER, layer_memory=layer_memory)))
    condition = model.first_frame_condition(draw(2, 4, 1, 2, 3), 3)
    out: Tensor = model(draw(2, 4, 3, 2, 3), torch.tensor([900.0, 40.0]), draw(2, 5, 16), condition=condition)
    return out


def text_tokens() -> Tensor:
    return randomised(ByteTextEncoder(TEXT_ENCODER)).encode(["the camera pans left", "Zoom in"]).tokens


def upsampled() -> Tensor:
    latents: Tensor = randomised(LatentUpsampler(UPSAMPLER))(draw(1, 4, 3, 2, 3))
    return latents


def pipeline_latents(*, refined: bool = False) -> Tensor:
    photo = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    generator = torch.Generator().manual_seed(3)
    steps = 2 if refined else None
    video = tiny_pipeline(refining=refined)(
        image=photo, prompt="the camera tilts up", generator=generator, refiner_steps=steps, output_type="latent"
    )
    assert isinstance(video, LatentVideo)
    return video.latents


CASES: dict[str, Callable[[], Tensor]] = {
    "encoded": encoded,
    "decoded_causal": lambda: decoded("causal"),
    "decoded_standard": lambda: decoded("standard"),
    "decoded_lite": lambda: decoded("lite"),
    "odvae_encoded": odvae_encoded,
    "odvae_decoded": odvae_decoded,
    "velocity_with_memory": lambda: velocity(layer_memory=True),
    "velocity_without_memory": lambda: velocity(layer_memory=False),
    "text_tokens": text_tokens,
    "pipeline_latents": pipeline_latents,
    "upsampled": upsampled,
    "refined_latents": lambda: pipeline_latents(refined=True),
}
