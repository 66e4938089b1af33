"""For the video pipelines of diffusers: `accelerate(pipe, AsymRnR(...))` and `VGDFRPipeline(pipe, VGDFR(...))`."""

try:
    import diffusers  # noqa: F401  # said here once, not by whichever module comes first
except ImportError as error:
    raise ImportError("diffusers is not installed; install it with: pip install 'fastvid-accel[diffusers]'") from error

from fastvid_accel.integrations.diffusers.acceleration import Acceleration, accelerate, model_name
from fastvid_accel.integrations.diffusers.vgdfr_pipeline import MergedVideo, VGDFRPipeline

__all__ = ["Acceleration", "MergedVideo", "VGDFRPipeline", "accelerate", "model_name"]
