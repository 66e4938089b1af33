"""Photo and text to video: recipes, command line, embedded model.

The public names are imported when they are first used, so that the command line starts without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastvid_pipelines.encoders.byte import ByteTextEncoder, ByteTextEncoderConfig
    from fastvid_pipelines.errors import CheckpointError, GenerationCancelled, MissingPackageError, NonFiniteError
    from fastvid_pipelines.image_to_video import FSVideoPipeline
    from fastvid_pipelines.types import Clip, GenerationRequest, LatentVideo, Sampling, Step, TextFeatures
    from fastvid_pipelines.video_io import read_video, save_video

__all__ = [
    "ByteTextEncoder",
    "ByteTextEncoderConfig",
    "CheckpointError",
    "Clip",
    "FSVideoPipeline",
    "GenerationCancelled",
    "GenerationRequest",
    "LatentVideo",
    "MissingPackageError",
    "NonFiniteError",
    "Sampling",
    "Step",
    "TextFeatures",
    "read_video",
    "save_video",
]

_HOME = {
    "ByteTextEncoder": "encoders.byte",
    "ByteTextEncoderConfig": "encoders.byte",
    "CheckpointError": "errors",
    "Clip": "types",
    "FSVideoPipeline": "image_to_video",
    "GenerationCancelled": "errors",
    "GenerationRequest": "types",
    "LatentVideo": "types",
    "MissingPackageError": "errors",
    "NonFiniteError": "errors",
    "Sampling": "types",
    "Step": "types",
    "TextFeatures": "types",
    "read_video": "video_io",
    "save_video": "video_io",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
