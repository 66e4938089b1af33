"""Photo and text to video: recipes, command line, embedded model.

The public names are imported when they are first used, so that the command line starts without torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastvid_pipelines.content_frame_to_video import ReducioPipeline
    from fastvid_pipelines.encoders.byte import ByteTextEncoder, ByteTextEncoderConfig
    from fastvid_pipelines.encoders.clip import CLIPImageEncoder
    from fastvid_pipelines.encoders.open_clip import OPEN_CLIP_VIT_H_14, OpenCLIPConfig, OpenCLIPImageEncoder
    from fastvid_pipelines.encoders.sd_content import SDContentEncoder
    from fastvid_pipelines.encoders.t5 import T5TextEncoder, T5TextEncoderConfig
    from fastvid_pipelines.errors import CheckpointError, GenerationCancelled, MissingPackageError, NonFiniteError
    from fastvid_pipelines.image_to_video import FSVideoPipeline
    from fastvid_pipelines.parts import Refiner
    from fastvid_pipelines.reducio_types import REDUCIO_SAMPLING, ReducioSampling
    from fastvid_pipelines.text_to_image import DiffusersTextToImage
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
    "OPEN_CLIP_VIT_H_14",
    "REDUCIO_SAMPLING",
    "ByteTextEncoder",
    "ByteTextEncoderConfig",
    "CLIPImageEncoder",
    "CheckpointError",
    "Clip",
    "DiffusersTextToImage",
    "FSVideoPipeline",
    "GenerationCancelled",
    "GenerationRequest",
    "LatentVideo",
    "MissingPackageError",
    "NonFiniteError",
    "OpenCLIPConfig",
    "OpenCLIPImageEncoder",
    "ReducioPipeline",
    "ReducioSampling",
    "Refinement",
    "Refiner",
    "SDContentEncoder",
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


def __getattr__(name: str) -> Any:  # noqa: PLR0911, PLR0912  # one import a home
    match name:
        case "ByteTextEncoder" | "ByteTextEncoderConfig":
            from fastvid_pipelines.encoders import byte

            return getattr(byte, name)
        case "CLIPImageEncoder":
            from fastvid_pipelines.encoders import clip

            return getattr(clip, name)
        case "OPEN_CLIP_VIT_H_14" | "OpenCLIPConfig" | "OpenCLIPImageEncoder":
            from fastvid_pipelines.encoders import open_clip

            return getattr(open_clip, name)
        case "SDContentEncoder":
            from fastvid_pipelines.encoders import sd_content

            return getattr(sd_content, name)
        case "T5TextEncoder" | "T5TextEncoderConfig":
            from fastvid_pipelines.encoders import t5

            return getattr(t5, name)
        case "CheckpointError" | "GenerationCancelled" | "MissingPackageError" | "NonFiniteError":
            from fastvid_pipelines import errors

            return getattr(errors, name)
        case "FSVideoPipeline":
            from fastvid_pipelines import image_to_video

            return getattr(image_to_video, name)
        case "ReducioPipeline":
            from fastvid_pipelines import content_frame_to_video

            return getattr(content_frame_to_video, name)
        case "REDUCIO_SAMPLING" | "ReducioSampling":
            from fastvid_pipelines import reducio_types

            return getattr(reducio_types, name)
        case "DiffusersTextToImage":
            from fastvid_pipelines import text_to_image

            return getattr(text_to_image, name)
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
