"""The records of Reducio: how it samples, what it is asked for, what its transformer is told."""

from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

from jaxtyping import Float
from pydantic import ConfigDict, with_config
from torch import Tensor

from fastvid_pipelines.types import MOST_STEPS, TextFeatures, check_count, check_guided, settle_video


@with_config(ConfigDict(extra="forbid", strict=True))
@dataclass(frozen=True, slots=True, kw_only=True)
class ReducioSampling:
    """How a `ReducioPipeline` samples when the caller does not say; stored in its model_index.json."""

    num_frames: int
    height: int
    width: int
    fps: float
    num_inference_steps: int
    guidance_scale: float

    def __post_init__(self) -> None:
        settle_video(self)
        check_count("num_inference_steps", self.num_inference_steps, 1, MOST_STEPS - 1)


REDUCIO_SAMPLING = ReducioSampling(
    num_frames=16, height=256, width=256, fps=16.0, num_inference_steps=20, guidance_scale=2.5
)
"""The paper's, at the size of its first stage. Source: Reducio, section 4.1 and appendix A."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReducioRequest:
    """What to make: the words, and how to sample."""

    prompt: str
    negative_prompt: str
    sampling: ReducioSampling

    def __post_init__(self) -> None:
        check_guided(self.prompt, self.negative_prompt, self.sampling.guidance_scale)


class ReducioOverrides(TypedDict, total=False):
    """Sampling values of one call; None: the pipeline's own."""

    num_frames: int | None
    height: int | None
    width: int | None
    fps: float | None
    num_inference_steps: int | None
    guidance_scale: float | None


def build_reducio_request(
    defaults: ReducioSampling,
    *,
    prompt: str,
    negative_prompt: str | None = None,
    **overrides: Unpack[ReducioOverrides],
) -> ReducioRequest:
    """The whole request of a call: `defaults` where a value is None, checked.

    Raises:
        ValueError: a value out of range.
    """
    given: dict[str, Any] = {name: value for name, value in overrides.items() if value is not None}
    return ReducioRequest(
        prompt=prompt,
        negative_prompt="" if negative_prompt is None else negative_prompt,
        sampling=replace(defaults, **given),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentConditions:
    """What Reducio-DiT is told. `negative_text` is there exactly when guidance is in use.

    Attributes:
        semantic: tokens of the content frame: what is seen.
        content: its latents, of an image autoencoder, unscaled: where, and how exactly it looks.
    """

    text: TextFeatures
    negative_text: TextFeatures | None
    semantic: Float[Tensor, "b m e"]
    content: Float[Tensor, "b k H W"]
