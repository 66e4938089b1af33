"""AsymRnR for the video pipelines of diffusers: `accelerate(pipe, AsymRnR(...))`."""

try:
    import diffusers  # noqa: F401  # said here once, not by whichever module comes first
except ImportError as error:
    raise ImportError("diffusers is not installed; install it with: pip install 'fastvid-accel[diffusers]'") from error

from fastvid_accel.integrations.diffusers.acceleration import Acceleration, accelerate, model_name

__all__ = ["Acceleration", "accelerate", "model_name"]
