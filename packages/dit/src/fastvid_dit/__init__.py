"""Video diffusion transformers: FSVideo DiT with layer memory."""

from fastvid_dit.attention import AttentionOp, AttentionSite, sdpa
from fastvid_dit.checkpoint import CheckpointError
from fastvid_dit.config import FSVIDEO_14B, WAN21_I2V_14B, FSVideoDiTConfig, RefinerMask
from fastvid_dit.fsvideo_dit import FSVideoDiT
from fastvid_dit.positions import grid_positions

__all__ = [
    "FSVIDEO_14B",
    "WAN21_I2V_14B",
    "AttentionOp",
    "AttentionSite",
    "CheckpointError",
    "FSVideoDiT",
    "FSVideoDiTConfig",
    "RefinerMask",
    "grid_positions",
    "sdpa",
]
