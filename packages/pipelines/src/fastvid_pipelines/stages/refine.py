"""Latents of a small video to those of one twice as high and wide: upsampled, then made anew by the refiner."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from fastvid_pipelines.interfaces import Autoencoder
from fastvid_pipelines.parts import Refiner
from fastvid_pipelines.sampling.schedules import euler_sigmas
from fastvid_pipelines.sampling.solvers import euler, renoise
from fastvid_pipelines.stages.denoise import denoise, draw_noise
from fastvid_pipelines.stages.finite import check_finite
from fastvid_pipelines.stages.walk import StepCallback
from fastvid_pipelines.types import Conditions, LatentVideo, Refinement

SCALE = 2
"""How much higher and wider the upsampler makes a video."""


def pad_frame(reference: Float[Tensor, "b 3 H W"], stride: tuple[int, int, int]) -> Float[Tensor, "b 3 H2 W2"]:
    """The large first frame, padded until half of it divides by the autoencoder's stride.

    Padding repeats the border, as the autoencoder does, and is cropped away when the video is decoded. With a stride of
    64, 720 x 1280 becomes 768 x 1280, whose half is 384 x 640; the paper does not say how it gets there.
    """
    height, width = reference.shape[-2:]
    down, right = (-size % (SCALE * step) for size, step in zip((height, width), stride[1:], strict=True))
    return functional.pad(reference.float(), (0, right, 0, down), mode="replicate").to(reference.dtype)


def halve_frame(frame: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 half_h half_w"]:
    """The first frame of the small video."""
    small = functional.interpolate(frame.float(), scale_factor=1 / SCALE, mode="bicubic", antialias=True)
    return small.clamp(-1, 1).to(frame.dtype)


def refine(  # noqa: PLR0913  # the parts and their inputs
    refiner: Refiner,
    autoencoder: Autoencoder,
    video: LatentVideo,
    conditions: Conditions,
    frame: Float[Tensor, "b 3 H W"],
    refinement: Refinement,
    *,
    generator: torch.Generator,
    on_step_end: StepCallback | None = None,
) -> LatentVideo:
    """A few steps from noise, without guidance, shown the large first frame and the upsampled small video.

    Args:
        video, conditions: of the small video.
        frame: the large first frame, padded.
        refinement: how to sample.
        generator: on the CPU.
        on_step_end: called after each step; what it raises ends the run.
    Raises:
        NonFiniteError: NaN or infinity in the upsampled latents, or after a step.
    """
    image_latents = autoencoder.encode(frame.unsqueeze(2))
    upsampled = refiner.upsampler(video.latents.to(image_latents.dtype))
    check_finite("upsample", upsampled)
    upsampled_image = refiner.upsampler(conditions.image_latents)
    condition = refiner.transformer.refiner_condition(upsampled, image_latents, upsampled_image)
    large = replace(conditions, negative_text=None, image_latents=image_latents)
    noise = draw_noise(large, video.latents.shape[2], refiner.transformer.config.patch_size, generator)
    positions = noise.positions.clone()
    positions[0] = video.times.view(-1, 1, 1)  # an accelerator may have thinned the small video out
    return denoise(
        refiner.transformer,
        LatentVideo(latents=noise.latents, positions=positions),
        large,
        euler_sigmas(refinement.num_inference_steps, refinement.shift),
        euler if refinement.solver == "euler" else renoise(generator),
        guidance_scale=1.0,
        frame_condition=lambda _: condition,
        on_step_end=on_step_end,
    )
