"""A video that is there already to one twice as high and wide."""

from dataclasses import replace

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8

from fastvid_pipelines.image_to_video import FSVideoPipeline
from fastvid_pipelines.photo_io import fit_photo, load_photo, to_frame
from fastvid_pipelines.stages.decode import decode, to_pixels
from fastvid_pipelines.stages.denoise import check_callback, checked_generator
from fastvid_pipelines.stages.encode_prompt import encode_prompt
from fastvid_pipelines.stages.encode_reference import encode_reference
from fastvid_pipelines.stages.encode_video import encode_video
from fastvid_pipelines.stages.refine import SCALE, halve_frame, pad_frame, refine
from fastvid_pipelines.stages.timed import timed
from fastvid_pipelines.stages.walk import StepCallback
from fastvid_pipelines.types import Clip, ImageInput, build_request


def refine_video(  # noqa: PLR0913  # the names that users of video pipelines know
    pipe: FSVideoPipeline,
    video: UInt8[np.ndarray, "T H W 3"],
    *,
    prompt: str,
    fps: float,
    image: ImageInput | None = None,
    refiner_steps: int | None = None,
    generator: torch.Generator | None = None,
    callback_on_step_end: StepCallback | None = None,
) -> Clip:
    """Encode a video, upsample its latents and refine them, as the second stage of `pipe` does with its own.

    Args:
        pipe: with a refiner.
        video: RGB bytes.
        prompt: what happens in it.
        fps: frames a second, noted in the clip.
        image: the first frame at the new size; None: the first frame of the video, enlarged.
        refiner_steps: None: the pipeline's own number.
        generator: on the CPU; the same state gives the same video. None: a fresh one, another video every time.
        callback_on_step_end: called with the step and the latents; raise `GenerationCancelled` in it to stop.
    Raises:
        ValueError: the pipeline has no refiner, or an argument is out of range.
        NonFiniteError: a stage produced NaN or infinity.
    """
    if pipe.refiner is None:
        raise ValueError("`pipe` has no refiner; load a pipeline that has one")
    if video.dtype != np.uint8 or video.ndim != 4 or video.shape[-1] != 3 or 0 in video.shape:
        raise ValueError(f"`video` is an array of {video.dtype}, shape {video.shape}; expected uint8 `T H W 3`")
    num_frames, height, width = len(video), SCALE * video.shape[1], SCALE * video.shape[2]
    request = build_request(
        replace(pipe.sampling, guidance_scale=1.0),  # the refiner runs one branch
        pipe.refiner.refinement,
        prompt=prompt,
        num_frames=num_frames,
        height=height,
        width=width,
        fps=fps,
        refiner_steps=pipe.refiner.refinement.num_inference_steps if refiner_steps is None else refiner_steps,
    )
    if request.refinement is None:
        raise ValueError("`refiner_steps` is 0; expected at least 1 (nearest legal values: 1 and 2)")
    generator = checked_generator(generator)
    check_callback(callback_on_step_end)
    seconds: dict[str, float] = {}
    with torch.inference_mode():
        with timed("load_photo", seconds):
            picture = fit_photo(load_photo(video[0] if image is None else image), height, width)
            frame = pad_frame(to_frame(picture).to(pipe.device, pipe.dtype), pipe.autoencoder.stride)
        with timed("encode_prompt", seconds):
            texts = encode_prompt(pipe.text_encoder, request, device=pipe.device, dtype=pipe.dtype)
        with timed("encode_video", seconds):
            conditions = encode_reference(pipe.autoencoder, pipe.image_encoder, halve_frame(frame), texts)
            pixels = torch.from_numpy(np.ascontiguousarray(video)).to(pipe.device)
            frames = rearrange(pixels, "t h w c -> 1 c t h w").float() / 127.5 - 1
            small = encode_video(pipe.autoencoder, frames.to(pipe.dtype), pipe.transformer.config.patch_size)
        with timed("refine", seconds):
            refined = refine(
                pipe.refiner,
                pipe.autoencoder,
                small,
                conditions,
                frame,
                request.refinement,
                generator=generator,
                on_step_end=callback_on_step_end,
            )
        with timed("decode", seconds):
            decoded = decode(pipe.autoencoder, refined, frame, num_frames, size=(height, width))
    return Clip(frames=to_pixels(decoded[0]), fps=float(fps), seconds=seconds)
