"""Video autoencoders that compress highly."""

from fastvid_vae.checkpoint import CheckpointError
from fastvid_vae.fsae.config import FSAE_LITE, FSAE_STANDARD, FSAEConfig
from fastvid_vae.fsae.model import FSAE
from fastvid_vae.latent_upsampler import LATENT_UPSAMPLER_2X, LatentUpsampler, LatentUpsamplerConfig
from fastvid_vae.metrics import psnr, ssim
from fastvid_vae.odvae.config import (
    ODVAE_V1_0,
    ODVAE_V1_1,
    ODVAE_VARIANT_1,
    ODVAE_VARIANT_2,
    ODVAE_VARIANT_3,
    ODVAE_VARIANT_4,
    ODVAEConfig,
)
from fastvid_vae.odvae.model import ODVAE
from fastvid_vae.reducio.config import REDUCIO_FT2, REDUCIO_FT4, ReducioConfig
from fastvid_vae.reducio.model import ReducioVAE

__all__ = [
    "FSAE",
    "FSAE_LITE",
    "FSAE_STANDARD",
    "LATENT_UPSAMPLER_2X",
    "ODVAE",
    "ODVAE_V1_0",
    "ODVAE_V1_1",
    "ODVAE_VARIANT_1",
    "ODVAE_VARIANT_2",
    "ODVAE_VARIANT_3",
    "ODVAE_VARIANT_4",
    "REDUCIO_FT2",
    "REDUCIO_FT4",
    "CheckpointError",
    "FSAEConfig",
    "LatentUpsampler",
    "LatentUpsamplerConfig",
    "ODVAEConfig",
    "ReducioConfig",
    "ReducioVAE",
    "psnr",
    "ssim",
]
