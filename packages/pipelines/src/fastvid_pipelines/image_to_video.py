"""A photo and a sentence to a video, with the parts of FSVideo."""

import os
from functools import partial
from typing import Literal, NotRequired, Required, Self, TypedDict, Unpack, overload

import torch

from fastvid_pipelines import pipeline_folder
from fastvid_pipelines.embedded import embedded_model
from fastvid_pipelines.interfaces import (
    Accelerator,
    Autoencoder,
    ImageEncoder,
    Saveable,
    TextEncoder,
    TextToImage,
    Transformer,
)
from fastvid_pipelines.parts import Refiner, check_fit
from fastvid_pipelines.pipeline_folder import FSVIDEO, fsvideo_defaults
from fastvid_pipelines.placement import usable_device, usable_dtype
from fastvid_pipelines.sampling.solvers import METHODS
from fastvid_pipelines.stages.decode import OutputType, check_output_type, decode, finish
from fastvid_pipelines.stages.denoise import (
    check_callback,
    checked_generator,
    denoise,
    draw_noise,
    start_session,
)
from fastvid_pipelines.stages.encode_prompt import encode_prompt
from fastvid_pipelines.stages.encode_reference import encode_reference
from fastvid_pipelines.stages.load_frame import load_frame
from fastvid_pipelines.stages.preview import PreviewCodec
from fastvid_pipelines.stages.refine import halve_frame, pad_frame, refine
from fastvid_pipelines.stages.timed import timed
from fastvid_pipelines.stages.walk import StepCallback
from fastvid_pipelines.types import (
    Clip,
    ImageInput,
    LatentVideo,
    Sampling,
    SolverName,
    Step,
    TensorClip,
    build_request,
)


class Call(TypedDict, total=False):
    """Arguments of `FSVideoPipeline.__call__` but for `output_type`."""

    image: NotRequired[ImageInput | None]
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
    refiner_steps: NotRequired[int | None]
    generator: NotRequired[torch.Generator | None]
    callback_on_step_end: NotRequired[StepCallback | None]
    accelerator: NotRequired[Accelerator | None]


class FSVideoPipeline:
    """Image to video: encode the words, encode the photo, denoise, refine where there is a refiner, decode."""

    def __init__(  # noqa: PLR0913  # the parts, and where they are
        self,
        *,
        autoencoder: Autoencoder,
        transformer: Transformer,
        text_encoder: TextEncoder,
        image_encoder: ImageEncoder | None = None,
        refiner: Refiner | None = None,
        sampling: Sampling,
        text_to_image: TextToImage | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Put built parts together.

        Args:
            refiner: for videos twice as high and wide as the transformer's.
            sampling: what holds where a call does not say otherwise.
            text_to_image: makes the first frame where a call brings no image; it is not saved with the pipeline.
            device, dtype: where the parts are, and what they compute in.
        Raises:
            ValueError: parts that do not fit one another, or a device or data type that cannot be used.
        """
        check_fit(autoencoder, transformer, image_encoder, refiner)
        self.autoencoder = autoencoder
        self.transformer = transformer
        self.text_encoder = text_encoder
        self.image_encoder = image_encoder
        self.refiner = refiner
        self.sampling = sampling
        self.text_to_image = text_to_image
        self.device = usable_device(device)
        self.dtype = usable_dtype(dtype)

    @overload
    def __call__(self, *, output_type: Literal["np"] = "np", **call: Unpack[Call]) -> Clip: ...
    @overload
    def __call__(self, *, output_type: Literal["pt"], **call: Unpack[Call]) -> TensorClip: ...
    @overload
    def __call__(self, *, output_type: Literal["latent"], **call: Unpack[Call]) -> LatentVideo: ...
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
        shift: float | None = None,
        solver: SolverName | None = None,
        refiner_steps: int | None = None,
        generator: torch.Generator | None = None,
        output_type: OutputType = "np",
        callback_on_step_end: StepCallback | None = None,
        accelerator: Accelerator | None = None,
    ) -> Clip | TensorClip | LatentVideo:
        """Make a video of a photo.

        What is None is taken from `self.sampling`.

        Args:
            image: a path, a PIL image, bytes `H W 3` or floats in [-1, 1] `3 H W`; scaled and cropped to fit. None:
                what `text_to_image` makes of the prompt.
            prompt: what happens.
            negative_prompt: what guidance leads away from; None: nothing in particular.
            num_frames, height, width: of the video, exactly.
            fps: frames a second, noted in the clip.
            guidance_scale: 1 turns guidance off, and halves the work.
            shift: above 1, more of the steps go to high noise.
            solver: 'euler', 'dpmsolver++' or 'unipc', each with its own schedule.
            refiner_steps: 0 leaves the refiner out, any other number uses it; None uses it for videos nearer to four
                times the area that `self.sampling` names than to that area.
            generator: on the CPU; the same state gives the same video. None: a fresh one, another video every time.
            output_type: 'np' for a `Clip` of bytes, 'pt' for a `TensorClip` of floats in [-1, 1], 'latent' for the
                latents that would have been decoded.
            callback_on_step_end: called with the step and the latents; raise `GenerationCancelled` in it to stop.
            accelerator: from fastvid-accel, or anything that has its `start`.
        Raises:
            ValueError: an argument that is out of range, has no effect or does not fit the pipeline.
            NonFiniteError: a stage produced NaN or infinity.
        """
        check_output_type(output_type)
        request = build_request(
            self.sampling,
            None if self.refiner is None else self.refiner.refinement,
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
            refiner_steps=refiner_steps,
        )
        generator = checked_generator(generator)
        check_callback(callback_on_step_end)
        sampling, refinement = request.sampling, request.refinement
        method = METHODS[sampling.solver]
        sigmas = method.sigmas(sampling.num_inference_steps, sampling.shift)
        seconds: dict[str, float] = {}
        latent_frames: list[int] = []

        def after_step(step: Step, video: LatentVideo) -> None:
            latent_frames.append(video.latents.shape[2])
            if callback_on_step_end is not None:
                callback_on_step_end(step, video)

        with torch.inference_mode():
            with timed("load_photo", seconds):
                frame = load_frame(
                    image,
                    self.text_to_image,
                    prompt=prompt,
                    height=sampling.height,
                    width=sampling.width,
                    generator=generator,
                )
                reference = frame.to(self.device, self.dtype)
                if refinement is not None:
                    reference = pad_frame(reference, self.autoencoder.stride)
                first = reference if refinement is None else halve_frame(reference)
                codec = PreviewCodec(autoencoder=self.autoencoder, reference=first)
                session = start_session(accelerator, sampling.num_inference_steps, codec)
            with timed("encode_prompt", seconds):
                texts = encode_prompt(self.text_encoder, request, device=self.device, dtype=self.dtype)
            with timed("encode_reference", seconds):
                conditions = encode_reference(self.autoencoder, self.image_encoder, first, texts)
            with timed("denoise", seconds):
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
            if refinement is not None:
                with timed("refine", seconds):
                    assert self.refiner is not None  # or there would be no refinement
                    video = refine(
                        self.refiner,
                        self.autoencoder,
                        video,
                        conditions,
                        reference,
                        refinement,
                        generator=generator,
                        on_step_end=callback_on_step_end,
                    )
            if output_type == "latent":
                return video
            with timed("decode", seconds):
                size = sampling.height, sampling.width
                frames = decode(self.autoencoder, video, reference, sampling.num_frames, session, size=size)
        return finish(
            frames, output_type, fps=sampling.fps, seconds=seconds, latent_frames=latent_frames, session=session
        )

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
        folder = pipeline_folder.open_folder(path, FSVIDEO)
        load = partial(folder.load, dtype=dtype, device=device)
        sampling, refinement = fsvideo_defaults(folder)
        return cls(
            autoencoder=load("vae"),
            transformer=load("transformer"),
            text_encoder=load("text_encoder"),
            image_encoder=load("image_encoder"),
            refiner=None
            if refinement is None
            else Refiner(upsampler=load("upsampler"), transformer=load("refiner"), refinement=refinement),
            sampling=sampling,
            device=device,
            dtype=dtype,
        )

    @classmethod
    def default(cls, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Self:
        """The small model that comes with this package: camera motions, made for 17 frames of 128x128."""
        return cls.from_pretrained(embedded_model(), dtype=dtype, device=device)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write a new folder in the layout of diffusers, which appears whole or not at all."""
        refiner = self.refiner
        parts: dict[str, Saveable | None] = {
            "vae": self.autoencoder,
            "transformer": self.transformer,
            "text_encoder": self.text_encoder,
            "image_encoder": self.image_encoder,
            "upsampler": None if refiner is None else refiner.upsampler,
            "refiner": None if refiner is None else refiner.transformer,
        }
        records = {"sampling": self.sampling, "refinement": None if refiner is None else refiner.refinement}
        pipeline_folder.save(FSVIDEO, parts, records, directory)
