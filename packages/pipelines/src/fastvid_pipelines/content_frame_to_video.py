"""A content frame and a sentence to a video, with the parts of Reducio."""

import os
from functools import partial
from typing import Literal, NotRequired, Required, Self, TypedDict, Unpack, overload

import torch
from jaxtyping import Float
from torch import Tensor

from fastvid_pipelines import pipeline_folder
from fastvid_pipelines.interfaces import (
    Accelerator,
    ClipAutoencoder,
    ContentEncoder,
    ContentTransformer,
    ImageEncoder,
    TextEncoder,
    TextToImage,
)
from fastvid_pipelines.parts import check_content_fit
from fastvid_pipelines.pipeline_folder import REDUCIO
from fastvid_pipelines.placement import usable_device, usable_dtype
from fastvid_pipelines.reducio_types import REDUCIO_SAMPLING, ReducioSampling, build_reducio_request
from fastvid_pipelines.stages.decode import OutputType, check_output_type, decode, finish
from fastvid_pipelines.stages.denoise import check_callback, checked_generator, noise_of, start_session
from fastvid_pipelines.stages.denoise_content import denoise_content
from fastvid_pipelines.stages.encode_content import encode_content, pad_content_frame
from fastvid_pipelines.stages.encode_prompt import encode_prompt
from fastvid_pipelines.stages.load_frame import load_frame
from fastvid_pipelines.stages.preview import PreviewCodec
from fastvid_pipelines.stages.timed import timed
from fastvid_pipelines.stages.walk import StepCallback
from fastvid_pipelines.types import Clip, ImageInput, LatentVideo, Step, TensorClip


class ReducioCall(TypedDict, total=False):
    """Arguments of `ReducioPipeline.__call__` but for `output_type`."""

    image: NotRequired[ImageInput | None]
    prompt: Required[str]
    negative_prompt: NotRequired[str | None]
    num_frames: NotRequired[int | None]
    height: NotRequired[int | None]
    width: NotRequired[int | None]
    fps: NotRequired[float | None]
    num_inference_steps: NotRequired[int | None]
    guidance_scale: NotRequired[float | None]
    generator: NotRequired[torch.Generator | None]
    callback_on_step_end: NotRequired[StepCallback | None]
    accelerator: NotRequired[Accelerator | None]


class ReducioPipeline:
    """Text to image to video: find the content frame, encode it and the words, denoise, decode with the frame.

    The content frame is the middle one of the video, frame (num_frames - 1) // 2. There is one, and the autoencoder
    works in clips with one each: a video is at most a clip, 16 frames with the published one. The network always makes
    the whole clip; a shorter video is the middle of it.
    """

    def __init__(  # noqa: PLR0913  # the parts, and where they are
        self,
        *,
        autoencoder: ClipAutoencoder,
        transformer: ContentTransformer,
        text_encoder: TextEncoder,
        image_encoder: ImageEncoder,
        content_encoder: ContentEncoder,
        sampling: ReducioSampling = REDUCIO_SAMPLING,
        text_to_image: TextToImage | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Put built parts together.

        Args:
            image_encoder: semantic tokens of the content frame.
            content_encoder: latents of the content frame.
            sampling: what holds where a call does not say otherwise.
            text_to_image: makes the content frame where a call brings no image; it is not saved with the pipeline.
            device, dtype: where the parts are, and what they compute in.
        Raises:
            ValueError: parts that do not fit one another, or a device or data type that cannot be used.
        """
        check_content_fit(autoencoder, transformer, content_encoder)
        check_length(sampling.num_frames, autoencoder.config.num_frames)
        self.autoencoder = autoencoder
        self.transformer = transformer
        self.text_encoder = text_encoder
        self.image_encoder = image_encoder
        self.content_encoder = content_encoder
        self.sampling = sampling
        self.text_to_image = text_to_image
        self.device = usable_device(device)
        self.dtype = usable_dtype(dtype)

    @overload
    def __call__(self, *, output_type: Literal["np"] = "np", **call: Unpack[ReducioCall]) -> Clip: ...
    @overload
    def __call__(self, *, output_type: Literal["pt"], **call: Unpack[ReducioCall]) -> TensorClip: ...
    @overload
    def __call__(self, *, output_type: Literal["latent"], **call: Unpack[ReducioCall]) -> LatentVideo: ...
    def __call__(  # noqa: PLR0913  # the names that users of video pipelines know
        self,
        *,
        image: ImageInput | None = None,
        prompt: str,
        negative_prompt: str | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        fps: float | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | None = None,
        output_type: OutputType = "np",
        callback_on_step_end: StepCallback | None = None,
        accelerator: Accelerator | None = None,
    ) -> Clip | TensorClip | LatentVideo:
        """Make a video around a content frame.

        What is None is taken from `self.sampling`.

        Args:
            image: the content frame, the middle one of the video: a path, a PIL image, bytes `H W 3` or floats in
                [-1, 1] `3 H W`; scaled and cropped to fit. None: what `text_to_image` makes of the prompt.
            prompt: what happens.
            negative_prompt: what guidance leads away from, beside a video without a content frame; None: nothing.
            num_frames: exactly; at most those of one clip of the autoencoder.
            height, width: of the video, exactly; any size is padded to whole latents inside.
            fps: frames a second, noted in the clip; the paper's model is trained at 16.
            num_inference_steps: 1 to 999.
            guidance_scale: 1 turns guidance off, and halves the work.
            generator: on the CPU; the same state gives the same video. None: a fresh one, another video every time.
            output_type: 'np' for a `Clip` of bytes, 'pt' for a `TensorClip` of floats in [-1, 1], 'latent' for the
                latents of the whole clip that would have been decoded.
            callback_on_step_end: called with the step and the latents; raise `GenerationCancelled` in it to stop.
            accelerator: from fastvid-accel, or anything that has its `start`; one that drops latent frames is refused.
        Raises:
            ValueError: an argument that is out of range, has no effect or does not fit the pipeline.
            NonFiniteError: a stage produced NaN or infinity.
        Source: Reducio, section 3.2.
        """
        check_output_type(output_type)
        request = build_reducio_request(
            self.sampling,
            prompt=prompt,
            negative_prompt=negative_prompt,
            num_frames=num_frames,
            height=height,
            width=width,
            fps=fps,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
        )
        sampling, clip_length = request.sampling, self.autoencoder.config.num_frames
        check_length(sampling.num_frames, clip_length)
        generator = checked_generator(generator)
        check_callback(callback_on_step_end)
        seconds: dict[str, float] = {}
        latent_frames: list[int] = []

        def after_step(step: Step, video: LatentVideo) -> None:
            latent_frames.append(video.latents.shape[2])
            if callback_on_step_end is not None:
                callback_on_step_end(step, video)

        with torch.inference_mode():
            with timed("load_frame", seconds):
                picture = load_frame(
                    image,
                    self.text_to_image,
                    prompt=request.prompt,
                    height=sampling.height,
                    width=sampling.width,
                    generator=generator,
                )
                reference = picture.to(self.device, self.dtype)
                codec = PreviewCodec(autoencoder=self.autoencoder, reference=reference)
                session = start_session(accelerator, sampling.num_inference_steps, codec)
            with timed("encode_prompt", seconds):
                texts = encode_prompt(self.text_encoder, request, device=self.device, dtype=self.dtype)
            with timed("encode_content", seconds):
                conditions = encode_content(
                    self.image_encoder, self.content_encoder, self._padded(reference), texts, generator=generator
                )
            with timed("denoise", seconds):
                noise, size = self._noise(sampling, clip_length, generator)
                video = denoise_content(
                    self.transformer,
                    noise,
                    conditions,
                    sampling.num_inference_steps,
                    size=size,
                    guidance_scale=sampling.guidance_scale,
                    session=session,
                    on_step_end=after_step,
                )
            if output_type == "latent":
                return video
            with timed("decode", seconds):
                clip = decode(self.autoencoder, video, reference, clip_length, session)
        start = (clip_length - 1) // 2 - (sampling.num_frames - 1) // 2  # the middles of clip and video are one frame
        frames = clip[:, :, start : start + sampling.num_frames]
        return finish(
            frames, output_type, fps=sampling.fps, seconds=seconds, latent_frames=latent_frames, session=session
        )

    def _padded(self, frame: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H2 W2"]:
        shown = self.transformer.config.content_frame
        assert shown is not None  # or the parts would not fit
        return pad_content_frame(frame, self.autoencoder.stride[1], self.content_encoder.stride * shown.content_step)

    def _noise(
        self, sampling: ReducioSampling, clip_length: int, generator: torch.Generator
    ) -> tuple[LatentVideo, tuple[int, int]]:
        """Noise in the form of a clip's latents, and the height and width in pixels that these hold."""
        _, down, across = self.autoencoder.stride
        rows, columns = -(-sampling.height // down), -(-sampling.width // across)
        shape = (1, self.autoencoder.latent_channels, self.autoencoder.num_latent_frames(clip_length), rows, columns)
        noise = noise_of(shape, self.transformer.config.patch_size, generator, self.device)
        return noise, (rows * down, columns * across)

    @classmethod
    def from_pretrained(
        cls,
        path_or_repo_id: str | os.PathLike[str],
        *,
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        local_files_only: bool = False,
    ) -> Self:
        """Read a folder that `save_pretrained` wrote, here or on the hub.

        Raises:
            CheckpointError: something in the folder is missing, unknown or damaged.
            MissingPackageError: a part comes from a package that is not installed.
            ValueError: a device or data type that cannot be used.
        """
        device, dtype = usable_device(device), usable_dtype(dtype)
        path = pipeline_folder.find(path_or_repo_id, revision=revision, local_files_only=local_files_only)
        folder = pipeline_folder.open_folder(path, REDUCIO)
        load = partial(folder.load, dtype=dtype, device=device)
        return cls(
            autoencoder=load("vae"),
            transformer=load("transformer"),
            text_encoder=load("text_encoder"),
            image_encoder=load("image_encoder"),
            content_encoder=load("content_encoder"),
            sampling=folder.record("sampling", ReducioSampling),
            device=device,
            dtype=dtype,
        )

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write a new folder in the layout of diffusers, which appears whole or not at all."""
        parts = {
            "vae": self.autoencoder,
            "transformer": self.transformer,
            "text_encoder": self.text_encoder,
            "image_encoder": self.image_encoder,
            "content_encoder": self.content_encoder,
        }
        pipeline_folder.save(REDUCIO, parts, {"sampling": self.sampling}, directory)


def check_length(num_frames: int, clip_length: int) -> None:
    """Refuse more frames than one content frame is enough for.

    Raises:
        ValueError: there are more than in a clip.
    """
    if num_frames > clip_length:
        raise ValueError(
            f"`num_frames` is {num_frames}; the autoencoder works in clips of {clip_length} frames with a content "
            f"frame each, and there is one: expected 1 to {clip_length} (nearest legal values: "
            f"{max(clip_length - 1, 1)} and {clip_length})"
        )
