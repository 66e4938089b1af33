"""Noise to the latents of a clip: Reducio-DiT, guided, along its variance-preserving schedule."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from fastvid_pipelines.interfaces import AcceleratorSession, ContentTransformer
from fastvid_pipelines.reducio_types import ContentConditions
from fastvid_pipelines.sampling.guidance import guide, join_texts
from fastvid_pipelines.sampling.schedules import vp_sigmas
from fastvid_pipelines.sampling.solvers import denoised_from_noise, dpmsolver, vp_alpha
from fastvid_pipelines.stages.denoise import with_attention
from fastvid_pipelines.stages.walk import StepCallback, walk
from fastvid_pipelines.types import LatentVideo, Step


def denoise_content(  # noqa: PLR0913  # what the loop needs, no more
    transformer: ContentTransformer,
    video: LatentVideo,
    conditions: ContentConditions,
    num_steps: int,
    *,
    size: tuple[int, int],
    guidance_scale: float,
    session: AcceleratorSession | None = None,
    on_step_end: StepCallback | None = None,
) -> LatentVideo:
    """DPM-Solver++(2M). The keys and values of text and content frame are computed once, for all steps.

    Args:
        video: noise in float32, all the latent frames of a clip.
        num_steps: 1 to 999.
        size: height and width of what the latents hold, in pixels.
        session: of an accelerator; None runs the transformer as it is.
        on_step_end: called after each step; what it raises ends the run.
    Raises:
        NonFiniteError: NaN or infinity after a step.
        ValueError: the accelerator changes the number of latent frames.
    Source: Reducio, section 4.1; guidance leaves text and content frame out together (ours, the paper is silent).
    """
    sigmas, timesteps = vp_sigmas(num_steps)
    joined = join_content(conditions)
    cache = transformer.condition_cache(
        joined.text.tokens, joined.text.mask, semantic=joined.semantic, content=joined.content
    )
    network = with_attention(transformer, session)
    pixels = torch.tensor([size], dtype=torch.float32, device=video.latents.device)
    channels = video.latents.shape[1]

    def estimate(video: LatentVideo, step: Step) -> Tensor:
        def predict(latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
            batch = len(latents)
            predicted: Tensor = network(
                latents,
                torch.full((batch,), timesteps[step.index], dtype=torch.float32, device=latents.device),
                cache=cache,
                size=pixels.expand(batch, 2) if transformer.config.size_embedding else None,
                positions=video.positions,
            )
            return predicted[:, :channels].float()  # behind it, the variance

        return denoised_from_noise(video.latents, guide(predict, video.latents, guidance_scale), step.sigma)

    num_latent_frames = video.latents.shape[2]

    def check_step(step: Step, video: LatentVideo) -> None:
        if video.latents.shape[2] != num_latent_frames:
            raise ValueError(
                f"`accelerator` made {video.latents.shape[2]} of {num_latent_frames} latent frames; clips are decoded "
                f"whole: use one that keeps all {num_latent_frames}, or none"
            )
        if on_step_end is not None:
            on_step_end(step, video)

    return walk(video, sigmas, partial(dpmsolver, alpha=vp_alpha), estimate, session=session, on_step_end=check_step)


def join_content(conditions: ContentConditions) -> ContentConditions:
    """Conditions of the doubled batch, the negative half first: another text, and zeros, which leave the frame out.

    Without a negative text: the conditions as they are.
    """
    if conditions.negative_text is None:
        return conditions
    semantic, content = conditions.semantic, conditions.content
    return ContentConditions(
        text=join_texts(conditions.negative_text, conditions.text),
        negative_text=None,
        semantic=torch.cat((torch.zeros_like(semantic), semantic)),
        content=torch.cat((torch.zeros_like(content), content)),
    )
