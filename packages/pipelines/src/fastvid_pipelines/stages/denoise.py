"""Noise to the latents of a video: the transformer, guided, along the noise levels."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from fastvid_pipelines.interfaces import Accelerator, AcceleratorSession, Transformer, VideoCodec
from fastvid_pipelines.sampling.guidance import guide, join_branches
from fastvid_pipelines.sampling.schedules import Sigmas
from fastvid_pipelines.sampling.solvers import Solver, denoised_from_velocity
from fastvid_pipelines.stages.walk import StepCallback, walk
from fastvid_pipelines.types import Conditions, LatentVideo, Step

FrameCondition = Callable[[int], Float[Tensor, "b k t h w"]]
"""Number of latent frames -> what the transformer is shown of them."""


def draw_noise(
    conditions: Conditions, num_latent_frames: int, patch_size: tuple[int, int, int], generator: torch.Generator
) -> LatentVideo:
    """Float32 noise from a generator on the CPU, so that a seed means the same video on every device."""
    b, c, _, h, w = conditions.image_latents.shape
    return noise_of((b, c, num_latent_frames, h, w), patch_size, generator, conditions.image_latents.device)


def noise_of(
    shape: tuple[int, ...], patch_size: tuple[int, int, int], generator: torch.Generator, device: torch.device
) -> LatentVideo:
    """Float32 noise of a shape `b c t h w`, drawn on the CPU."""
    noise = torch.randn(shape, generator=generator, dtype=torch.float32).to(device)
    return LatentVideo(latents=noise, positions=token_positions(noise, patch_size))


def token_positions(latents: Float[Tensor, "b c t h w"], patch_size: tuple[int, int, int]) -> Tensor:
    """Coordinates (3, nt, nh, nw) of the tokens of whole latents: 0, 1, 2, ... along each axis."""
    tokens = [-(-size // patch) for size, patch in zip(latents.shape[2:], patch_size, strict=True)]
    axes = [torch.arange(size, dtype=torch.float32, device=latents.device) for size in tokens]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def checked_generator(generator: torch.Generator | None) -> torch.Generator:
    """The caller's generator, which has to be on the CPU; a fresh one, seeded at random, where there is none."""
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    if not isinstance(generator, torch.Generator):
        raise ValueError(
            f"`generator` is {generator!r}; expected a torch.Generator, as torch.Generator().manual_seed(0), or None"
        )
    if generator.device.type != "cpu":
        raise ValueError(
            f"`generator` is on {generator.device}; expected one on the CPU, so that a seed means the same everywhere"
        )
    return generator


def check_callback(callback: StepCallback | None) -> None:
    """Refuse what cannot be called before the first step is made."""
    if callback is not None and not callable(callback):
        raise ValueError(f"`callback_on_step_end` is {callback!r}; expected a function of a step and latents, or None")


def start_session(accelerator: Accelerator | None, num_steps: int, codec: VideoCodec) -> AcceleratorSession | None:
    """The accelerator at work on one video; None where there is none.

    Raises:
        ValueError: nothing that can be started; a name and a class are not.
    """
    if accelerator is None:
        return None
    if isinstance(accelerator, type) or not callable(getattr(accelerator, "start", None)):
        raise ValueError(f"`accelerator` is {accelerator!r}; expected an object with a method `start`, or None")
    return accelerator.start(num_steps=num_steps, codec=codec)


def with_attention(transformer: Callable[..., Tensor], session: AcceleratorSession | None) -> Callable[..., Tensor]:
    """The transformer, with the session's attention in the place of its own where there is one."""
    attention = None if session is None else session.attention
    return transformer if attention is None else partial(transformer, attention=attention)


def denoise(  # noqa: PLR0913  # what the loop needs, no more
    transformer: Transformer,
    video: LatentVideo,
    conditions: Conditions,
    sigmas: Sigmas,
    solver: Solver,
    *,
    guidance_scale: float,
    frame_condition: FrameCondition | None = None,
    session: AcceleratorSession | None = None,
    on_step_end: StepCallback | None = None,
) -> LatentVideo:
    """Walk down the noise levels.

    Latents stay in float32; the transformer works in the dtype of the conditions. Where an accelerator changes the
    number of latent frames, the condition is laid out anew and a multistep solver starts again at first order.

    Args:
        frame_condition: None shows the transformer the photo as first frame, and nothing of the others.
        session: of an accelerator; None runs the transformer as it is.
        on_step_end: called after each step; what it raises ends the run.
    Raises:
        NonFiniteError: NaN or infinity after a step.
    """
    joined = join_branches(conditions)
    shown = frame_condition or partial(transformer.first_frame_condition, conditions.image_latents)

    def estimate(video: LatentVideo, step: Step) -> Tensor:
        predict = _Velocity(transformer, video, joined, shown(video.latents.shape[2]), step, session)
        return denoised_from_velocity(video.latents, guide(predict, video.latents, guidance_scale), step.sigma)

    return walk(video, sigmas, solver, estimate, session=session, on_step_end=on_step_end)


class _Velocity:
    """The transformer at one step, as a function of the latents alone."""

    def __init__(
        self,
        transformer: Transformer,
        video: LatentVideo,
        conditions: Conditions,
        condition: Float[Tensor, "b k t h w"],
        step: Step,
        session: AcceleratorSession | None,
    ) -> None:
        self.network = with_attention(transformer, session)
        branches = len(conditions.text.tokens) // len(condition)
        self.condition = condition.repeat(branches, 1, 1, 1, 1)
        self.conditions = conditions
        self.positions = video.positions
        self.sigma = step.sigma

    def __call__(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        dtype = self.conditions.image_latents.dtype
        timestep = torch.full((len(latents),), 1000 * self.sigma, dtype=torch.float32, device=latents.device)
        text = self.conditions.text
        velocity = self.network(
            latents.to(dtype),
            timestep,
            text.tokens,
            text.mask,
            condition=self.condition,
            image_tokens=self.conditions.image_tokens,
            positions=self.positions,
        )
        return velocity.float()
