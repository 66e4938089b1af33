"""Models that take no time, with random weights, for the tests that span packages."""

from dataclasses import replace
from typing import TypeVar

import torch
from fastvid_dit import ContentFrameConfig, FSVideoDiT, FSVideoDiTConfig, ReducioDiTConfig, RefinerMask
from fastvid_pipelines import (
    ByteTextEncoder,
    ByteTextEncoderConfig,
    FSVideoPipeline,
    Refinement,
    Refiner,
    Sampling,
)
from fastvid_vae import FSAE, ODVAE_VARIANT_4, FSAEConfig, LatentUpsampler, LatentUpsamplerConfig, ReducioConfig
from torch import nn

Model = TypeVar("Model", bound=nn.Module)

AUTOENCODER = FSAEConfig(
    latent_channels=4,
    stage_kinds=("conv", "conv", "conv", "attention"),
    encoder_widths=(4, 8, 8, 16),
    decoder_widths=(4, 8, 8, 16),
    encoder_depths=(1, 1, 1, 1),
    decoder_depths=(1, 1, 1, 1),
    temporal_stages=(0, 1),
    head_width=8,
    affine_norm=True,
    decoder_mode="lite",
    injection=(None, None, "content", "content"),
    injection_head_width=8,
    noise_weight=0.0,
    latent_mean=(0.0,) * 4,
    latent_std=(1.0,) * 4,
)

REDUCIO = ReducioConfig(
    latent_channels=4,
    num_frames=8,
    widths=(4, 8, 8, 8),
    content_widths=(4, 8, 8),
    num_blocks=1,
    temporal_levels=2,
    fusion="attention",
    fused_levels=(1, 2),
    num_heads=2,
    fusion_head_width=4,
    norm_groups=2,
)

OD_VAE = replace(ODVAE_VARIANT_4, widths=(4, 4, 8, 8), num_blocks=1, norm_groups=2)

TRANSFORMER = FSVideoDiTConfig(
    patch_size=(1, 1, 1),
    latent_channels=4,
    mask_channels=4,
    width=24,
    num_heads=2,
    num_blocks=2,
    ffn_width=32,
    frequency_width=16,
    text_width=16,
    image_width=None,
    norm_eps=1e-6,
    rope_theta=10000.0,
    layer_memory=True,
    memory_norm="post",
)

REDUCIO_TRANSFORMER = ReducioDiTConfig(
    patch_size=(1, 1, 1),
    latent_channels=4,
    learn_sigma=False,
    width=24,
    num_heads=2,
    num_blocks=2,
    ffn_width=32,
    frequency_width=16,
    text_width=16,
    content_frame=ContentFrameConfig(
        semantic_width=12, semantic_grid=(3, 3), content_channels=4, content_patch=2, fusion="add", num_grids=4
    ),
    size_embedding=True,
    temporal_blocks=False,
    position_span=16.0,
    learn_time_scale=False,
    norm_eps=1e-6,
)

UPSAMPLER = LatentUpsamplerConfig(latent_channels=4, width=8, num_blocks=1)
REFINER = replace(TRANSFORMER, refiner_mask=RefinerMask(error_low=0.1, error_high=0.9))

TEXT_ENCODER = ByteTextEncoderConfig(width=16, num_layers=1, num_heads=2, max_bytes=96)

SAMPLING = Sampling(
    num_frames=5,
    height=32,
    width=32,
    fps=8.0,
    num_inference_steps=2,
    guidance_scale=1.5,
    shift=3.0,
    solver="euler",
)


def randomised(model: Model, seed: int = 0) -> Model:
    """Every parameter random, so that no zero initialisation hides a path."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * (parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3))
    return model.eval().requires_grad_(False)


def tiny_pipeline(*, refining: bool = False) -> FSVideoPipeline:
    """A whole pipeline whose videos mean nothing."""
    return FSVideoPipeline(
        autoencoder=randomised(FSAE(AUTOENCODER)),
        transformer=randomised(FSVideoDiT(TRANSFORMER)),
        text_encoder=randomised(ByteTextEncoder(TEXT_ENCODER)),
        refiner=tiny_refiner() if refining else None,
        sampling=SAMPLING,
    )


def tiny_refiner() -> Refiner:
    return Refiner(
        upsampler=randomised(LatentUpsampler(UPSAMPLER)),
        transformer=randomised(FSVideoDiT(REFINER), seed=1),
        refinement=Refinement(num_inference_steps=2, shift=3.0, solver="euler"),
    )
