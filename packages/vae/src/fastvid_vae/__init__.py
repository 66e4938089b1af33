"""Video autoencoders that compress highly."""

from fastvid_vae.checkpoint import CheckpointError
from fastvid_vae.fsae.config import FSAE_LITE, FSAE_STANDARD, FSAEConfig
from fastvid_vae.fsae.model import FSAE
from fastvid_vae.latent_upsampler import LATENT_UPSAMPLER_2X, LatentUpsampler, LatentUpsamplerConfig
from fastvid_vae.metrics import psnr, ssim

__all__ = [
    "FSAE",
    "FSAE_LITE",
    "FSAE_STANDARD",
    "LATENT_UPSAMPLER_2X",
    "CheckpointError",
    "FSAEConfig",
    "LatentUpsampler",
    "LatentUpsamplerConfig",
    "psnr",
    "ssim",
]
