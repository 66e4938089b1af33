"""A photo and a sentence to a video, with the parts of FSVideo."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Literal, NotRequired, Required, Self, TypedDict, Unpack, get_args, overload

import torch

from fastvid_pipelines import pipeline_folder
from fastvid_pipelines.embedded import embedded_model
from fastvid_pipelines.interfaces import Accelerator, Autoencoder, ImageEncoder, TextEncoder, Transformer
from fastvid_pipelines.photo_io import ImageInput, fit_photo, load_photo, to_frame
from fastvid_pipelines.sampling.solvers import METHODS
from fastvid_pipelines.stages.decode import decode, to_pixels
from fastvid_pipelines.stages.denoise import StepCallback, denoise, draw_noise
from fastvid_pipelines.stages.encode_prompt import encode_prompt
from fastvid_pipelines.stages.encode_reference import encode_reference
from fastvid_pipelines.types import Clip, LatentVideo, Sampling, SolverName, Step, TensorClip, build_request

logger = logging.getLogger(__name__)

OutputType = Literal["np", "pt", "latent"]


class Call(TypedDict, total=False):
    """Arguments of `FSVideoPipeline.__call__` but for `output_type`."""

    image: Required[ImageInput]
    prompt: Required[str]
    negative_prompt: NotRequired[str | None]
    num_frames: NotRequired[int | None]
    height: NotRequired[int | None]
    width: NotRequired[int | None]
    fps: NotRequired[float | None]
    num_inference_steps: NotRequired[int | None]
    guidance_scale: NotRequired[float | None]
    shift: NotRequired[float | None]
    solver: NotRequired[SolverName | None]
    generator: NotRequired[torch.Generator | None]
    callback_on_step_end: NotRequired[StepCallback | None]
    accelerator: NotRequired[Accelerator | None]


class FSVideoPipeline:
    """Image to video: encode the words, encode the photo, denoise, decode."""

    def __init__(
        self,
        *,
        autoencoder: Autoencoder,
        transformer: Transformer,
        text_encoder: TextEncoder,
        image_encoder: ImageEncoder | None = None,
        sampling: Sampling,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Put built parts together.

        Args:
            sampling: what holds where a call does not say otherwise.
            device, dtype: where the parts are, and what they compute in.
        Raises:
            ValueError: parts that do not fit one another.
        """
        _check_fit(autoencoder, transformer, image_encoder)
        self.autoencoder = autoencoder
        self.transformer = transformer
        self.text_encoder = text_encoder
        self.image_encoder = image_encoder
        self.sampling = sampling
        self.device = torch.device(device)
        self.dtype = dtype

    @overload
    def __call__(self, *, output_type: Literal["np"] = "np", **call: Unpack[Call]) -> Clip: ...
    @overload
    def __call__(self, *, output_type: Literal["pt"], **call: Unpack[Call]) -> TensorClip: ...
    @overload
    def __call__(self, *, output_type: Literal["latent"], **call: Unpack[Call]) -> LatentVideo: ...
    def __call__(  # noqa: PLR0913  # the names that users of video pipelines know
        self,
        *,
        image: ImageInput,
        prompt: str,
        negative_prompt: str | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        fps: float | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        shift: float | None = None,
        solver: SolverName | None = None,
        generator: torch.Generator | None = None,
        output_type: OutputType = "np",
        callback_on_step_end: StepCallback | None = None,
        accelerator: Accelerator | None = None,
    ) -> Clip | TensorClip | LatentVideo:
        """Make a video of a photo.

        What is None is taken from `self.sampling`.

        Args:
            image: a path, a PIL image, bytes `H W 3` or floats in [-1, 1] `3 H W`; scaled and cropped to fit.
            prompt: what happens.
            negative_prompt: what guidance leads away from; None: nothing in particular.
            num_frames, height, width: of the video, exactly.
            fps: frames a second, noted in the clip.
            guidance_scale: 1 turns guidance off, and halves the work.
            shift: above 1, more of the steps go to high noise.
            solver: 'euler', 'dpmsolver++' or 'unipc', each with its own schedule.
            generator: on the CPU; the same state gives the same video. None: a fresh one, another video every time.
            output_type: 'np' for a `Clip` of bytes, 'pt' for a `TensorClip` of floats in [-1, 1], 'latent' for the
                latents that would have been decoded.
            callback_on_step_end: called with the step and the latents; raise `GenerationCancelled` in it to stop.
            accelerator: from fastvid-accel, or anything that has its `start`.
        Raises:
            ValueError: an argument that is out of range, has no effect or does not fit the pipeline.
            NonFiniteError: a stage produced NaN or infinity.
        """
        if output_type not in get_args(OutputType):
            raise ValueError(f"`output_type` is {output_type!r}; expected one of {', '.join(get_args(OutputType))}")
        request = build_request(
            self.sampling,
            prompt=prompt,
            negative_prompt=negative_prompt,
            num_frames=num_frames,
            height=height,
            width=width,
            fps=fps,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            shift=shift,
            solver=solver,
        )
        generator = _checked_generator(generator)
        sampling = request.sampling
        method = METHODS[sampling.solver]
        sigmas = method.sigmas(sampling.num_inference_steps, sampling.shift)
        session = None if accelerator is None else accelerator.start(num_steps=sampling.num_inference_steps)
        seconds: dict[str, float] = {}
        latent_frames: list[int] = []

        def after_step(step: Step, video: LatentVideo) -> None:
            latent_frames.append(video.latents.shape[2])
            if callback_on_step_end is not None:
                callback_on_step_end(step, video)

        with torch.inference_mode():
            with _stage("load_photo", seconds):
                picture = fit_photo(load_photo(image), sampling.height, sampling.width)
                reference = to_frame(picture).to(self.device, self.dtype)
            with _stage("encode_prompt", seconds):
                texts = encode_prompt(self.text_encoder, request, device=self.device, dtype=self.dtype)
            with _stage("encode_reference", seconds):
                conditions = encode_reference(self.autoencoder, self.image_encoder, reference, texts)
            with _stage("denoise", seconds):
                num_latent_frames = self.autoencoder.num_latent_frames(sampling.num_frames)
                noise = draw_noise(conditions, num_latent_frames, self.transformer.config.patch_size, generator)
                video = denoise(
                    self.transformer,
                    noise,
                    conditions,
                    sigmas,
                    method.solver,
                    guidance_scale=sampling.guidance_scale,
                    session=session,
                    on_step_end=after_step,
                )
            if output_type == "latent":
                return video
            with _stage("decode", seconds):
                frames = decode(self.autoencoder, video, reference, sampling.num_frames, session)
        fps, counts = float(sampling.fps), tuple(latent_frames)
        if output_type == "pt":
            return TensorClip(frames=frames.float(), fps=fps, seconds=seconds, latent_frames=counts)
        return Clip(frames=to_pixels(frames[0]), fps=fps, seconds=seconds, latent_frames=counts)

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
        """
        folder = pipeline_folder.find(path_or_repo_id, revision=revision, local_files_only=local_files_only)
        parts = pipeline_folder.load(folder, cls.__name__, dtype=dtype, device=torch.device(device))
        return cls(
            autoencoder=parts.autoencoder,
            transformer=parts.transformer,
            text_encoder=parts.text_encoder,
            image_encoder=parts.image_encoder,
            sampling=parts.sampling,
            device=device,
            dtype=dtype,
        )

    @classmethod
    def default(cls, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Self:
        """The small model that comes with this package: camera motions, made for 17 frames of 128x128."""
        return cls.from_pretrained(embedded_model(), dtype=dtype, device=device)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write a new folder in the layout of diffusers, which appears whole or not at all."""
        parts = pipeline_folder.Parts(
            autoencoder=self.autoencoder,
            transformer=self.transformer,
            text_encoder=self.text_encoder,
            image_encoder=self.image_encoder,
            sampling=self.sampling,
        )
        pipeline_folder.save(parts, type(self).__name__, directory)


def _check_fit(autoencoder: Autoencoder, transformer: Transformer, image_encoder: ImageEncoder | None) -> None:
    channels = transformer.config.latent_channels
    if autoencoder.latent_channels != channels:
        raise ValueError(
            f"`autoencoder` has {autoencoder.latent_channels} latent channels and `transformer` {channels}; "
            "they have to be equal"
        )
    image_width = transformer.config.image_width
    if image_width is None and image_encoder is not None:
        raise ValueError("`image_encoder` has no effect: `transformer` takes no image tokens (`image_width` is None)")
    if image_width is not None and image_encoder is None:
        raise ValueError(f"`image_encoder` is None; `transformer` needs image tokens {image_width} wide")


def _checked_generator(generator: torch.Generator | None) -> torch.Generator:
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    if generator.device.type != "cpu":
        raise ValueError(
            f"`generator` is on {generator.device}; expected one on the CPU, so that a seed means the same everywhere"
        )
    return generator


@contextmanager
def _stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Time a stage, log one line, and put its name on what goes wrong in it."""
    start = perf_counter()
    try:
        yield
    except Exception as error:
        error.add_note(f"in stage `{name}`")
        raise
    seconds[name] = perf_counter() - start
    logger.info("%s: %.2f s", name, seconds[name])
