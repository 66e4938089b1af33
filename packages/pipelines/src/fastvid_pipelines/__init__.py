"""Photo and text to video: recipes, command line, embedded model.

The public names are imported when they are first used, so that the command line starts without torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastvid_pipelines.encoders.byte import ByteTextEncoder, ByteTextEncoderConfig
    from fastvid_pipelines.encoders.clip import CLIPImageEncoder
    from fastvid_pipelines.encoders.t5 import T5TextEncoder, T5TextEncoderConfig
    from fastvid_pipelines.errors import CheckpointError, GenerationCancelled, MissingPackageError, NonFiniteError
    from fastvid_pipelines.image_to_video import FSVideoPipeline
    from fastvid_pipelines.parts import Refiner
    from fastvid_pipelines.types import (
        Clip,
        GenerationRequest,
        LatentVideo,
        Refinement,
        Sampling,
        Step,
        TensorClip,
        TextFeatures,
    )
    from fastvid_pipelines.video_io import read_video, save_video
    from fastvid_pipelines.video_to_video import refine_video

__all__ = [
    "ByteTextEncoder",
    "ByteTextEncoderConfig",
    "CLIPImageEncoder",
    "CheckpointError",
    "Clip",
    "FSVideoPipeline",
    "GenerationCancelled",
    "GenerationRequest",
    "LatentVideo",
    "MissingPackageError",
    "NonFiniteError",
    "Refinement",
    "Refiner",
    "Sampling",
    "Step",
    "T5TextEncoder",
    "T5TextEncoderConfig",
    "TensorClip",
    "TextFeatures",
    "read_video",
    "refine_video",
    "save_video",
]


def __getattr__(name: str) -> Any:  # noqa: PLR0911  # one import a home
    match name:
        case "ByteTextEncoder" | "ByteTextEncoderConfig":
            from fastvid_pipelines.encoders import byte

            return getattr(byte, name)
        case "CLIPImageEncoder":
            from fastvid_pipelines.encoders import clip

            return getattr(clip, name)
        case "T5TextEncoder" | "T5TextEncoderConfig":
            from fastvid_pipelines.encoders import t5

            return getattr(t5, name)
        case "CheckpointError" | "GenerationCancelled" | "MissingPackageError" | "NonFiniteError":
            from fastvid_pipelines import errors

            return getattr(errors, name)
        case "FSVideoPipeline":
            from fastvid_pipelines import image_to_video

            return getattr(image_to_video, name)
        case "Refiner":
            from fastvid_pipelines import parts

            return getattr(parts, name)
        case "refine_video":
            from fastvid_pipelines import video_to_video

            return getattr(video_to_video, name)
        case (
            "Clip"
            | "GenerationRequest"
            | "LatentVideo"
            | "Refinement"
            | "Sampling"
            | "Step"
            | "TensorClip"
            | "TextFeatures"
        ):
            from fastvid_pipelines import types

            return getattr(types, name)
        case "read_video" | "save_video":
            from fastvid_pipelines import video_io

            return getattr(video_io, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
