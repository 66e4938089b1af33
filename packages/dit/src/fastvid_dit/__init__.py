"""Video diffusion transformers: FSVideo DiT with layer memory, and Reducio-DiT."""

from fastvid_dit.attention import AttentionOp, AttentionSite, sdpa
from fastvid_dit.checkpoint import CheckpointError
from fastvid_dit.config import FSVIDEO_14B, WAN21_I2V_14B, FSVideoDiTConfig, RefinerMask
from fastvid_dit.fsvideo_dit import FSVideoDiT
from fastvid_dit.positions import grid_positions
from fastvid_dit.reducio_dit.config import REDUCIO_DIT_XL, ContentFrameConfig, ReducioDiTConfig
from fastvid_dit.reducio_dit.cross_attention import ConditionCache
from fastvid_dit.reducio_dit.model import ReducioDiT

__all__ = [
    "FSVIDEO_14B",
    "REDUCIO_DIT_XL",
    "WAN21_I2V_14B",
    "AttentionOp",
    "AttentionSite",
    "CheckpointError",
    "ConditionCache",
    "ContentFrameConfig",
    "FSVideoDiT",
    "FSVideoDiTConfig",
    "ReducioDiT",
    "ReducioDiTConfig",
    "RefinerMask",
    "grid_positions",
    "sdpa",
]
