"""The records a video passes through, in that order. They never leave this package."""

import math
import operator
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypedDict, Unpack, get_args

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from pydantic import ConfigDict, with_config
from torch import Tensor

ImageInput = str | os.PathLike[str] | Image.Image | UInt8[np.ndarray, "H W 3"] | Float[Tensor, "3 H W"]
SolverName = Literal["euler", "dpmsolver++", "unipc"]
RefinerSolverName = Literal["euler", "renoise"]

SMALLEST_SIDE, LARGEST_SIDE = 16, 8192
MOST_FRAMES = 4096
MOST_PIXELS = 2**31  # frames x height x width
MOST_STEPS = 1000
LARGEST_SEED = 2**63 - 1


@with_config(ConfigDict(extra="forbid", strict=True))
@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a pipeline samples when the caller does not say; stored in its model_index.json."""

    num_frames: int
    height: int
    width: int
    fps: float
    num_inference_steps: int
    guidance_scale: float
    shift: float
    solver: SolverName

    def __post_init__(self) -> None:
        settle_video(self)
        check_number("shift", self.shift, 0.01, 100.0)
        if self.solver not in get_args(SolverName):
            raise ValueError(f"`solver` is {self.solver!r}; expected one of {', '.join(get_args(SolverName))}")


@with_config(ConfigDict(extra="forbid", strict=True))
@dataclass(frozen=True, slots=True, kw_only=True)
class Refinement:
    """How a pipeline's refiner samples; stored in its model_index.json.

    Attributes:
        num_inference_steps: few, each of one pass without guidance, at the levels 1, (n - 1)/n, ..., 1/n.
        shift: of these levels.
        solver: `euler`, or `renoise`, which puts fresh noise on the clean estimate of every step.
    """

    num_inference_steps: int
    shift: float
    solver: RefinerSolverName

    def __post_init__(self) -> None:
        check_count("refiner_steps", self.num_inference_steps, 1, MOST_STEPS)
        check_number("shift", self.shift, 0.01, 100.0)
        if self.solver not in get_args(RefinerSolverName):
            raise ValueError(f"`solver` is {self.solver!r}; expected one of {', '.join(get_args(RefinerSolverName))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """What to make: the words, how to sample, and how to refine (None: not at all)."""

    prompt: str
    negative_prompt: str
    sampling: Sampling
    refinement: Refinement | None = None

    def __post_init__(self) -> None:
        check_guided(self.prompt, self.negative_prompt, self.sampling.guidance_scale)


class Overrides(TypedDict, total=False):
    """Sampling values of one call; None: the pipeline's own."""

    num_frames: int | None
    height: int | None
    width: int | None
    fps: float | None
    num_inference_steps: int | None
    guidance_scale: float | None
    shift: float | None
    solver: SolverName | None


def build_request(
    defaults: Sampling,
    refinement: Refinement | None = None,
    *,
    prompt: str,
    negative_prompt: str | None = None,
    refiner_steps: int | None = None,
    **overrides: Unpack[Overrides],
) -> GenerationRequest:
    """The whole request of a call: `defaults` where a value is None, checked.

    Args:
        defaults: of the pipeline, whose size is that of its base model.
        refinement: of a pipeline with a refiner.
        refiner_steps: 0 leaves the refiner out; None takes the pipeline's number where the video is nearer to four
            times the area of the base model than to that area itself, and leaves the refiner out where it is not.
    Raises:
        ValueError: a value out of range, or steps for a refiner that is not there.
    """
    given: dict[str, Any] = {name: value for name, value in overrides.items() if value is not None}
    sampling = replace(defaults, **given)
    if refiner_steps is not None:
        check_count("refiner_steps", refiner_steps, 0, MOST_STEPS)
        if refinement is None:
            raise ValueError(f"`refiner_steps` is {refiner_steps}, which has no effect: the pipeline has no refiner")
        refinement = replace(refinement, num_inference_steps=refiner_steps) if refiner_steps else None
    elif sampling.height * sampling.width <= 2 * defaults.height * defaults.width:
        refinement = None
    return GenerationRequest(
        prompt=prompt,
        negative_prompt="" if negative_prompt is None else negative_prompt,
        sampling=sampling,
        refinement=refinement,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFeatures:
    """Text-encoder tokens; `mask` is true where a token counts, None where the model attends to all of them."""

    tokens: Float[Tensor, "b l d"]
    mask: Bool[Tensor, "b l"] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the transformer is told. `negative_text` is there exactly when guidance is in use."""

    text: TextFeatures
    negative_text: TextFeatures | None
    image_latents: Float[Tensor, "b c 1 h w"]
    image_tokens: Float[Tensor, "b m e"] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentVideo:
    """Latents in float32, and the coordinates of the transformer's tokens, for all blocks or for each its own."""

    latents: Float[Tensor, "b c t h w"]
    positions: Float[Tensor, "3 nt nh nw"] | Float[Tensor, "blocks 3 nt nh nw"]

    @property
    def times(self) -> Float[Tensor, " nt"]:
        """Of the tokens, as the first block sees them."""
        return self.positions.reshape(-1, *self.positions.shape[-3:])[0, :, 0, 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a solver: from noise level `sigma` down to `next_sigma`."""

    index: int
    num_steps: int
    sigma: float
    next_sigma: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A finished video.

    Attributes:
        frames: RGB.
        fps: frames a second.
        seconds: how long each stage took, in order; empty for a clip that no pipeline made.
        latent_frames: latent frames at the end of each step; fewer than at first where an accelerator thinned them.
        acceleration: what the accelerator reports of this video, as JSON knows it; empty where there was none.
    """

    frames: UInt8[np.ndarray, "T H W 3"]
    fps: float
    seconds: Mapping[str, float] = field(default_factory=dict)
    latent_frames: tuple[int, ...] = ()
    acceleration: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorClip:
    """A finished video before it becomes bytes: frames in [-1, 1]; the rest as in `Clip`."""

    frames: Float[Tensor, "b 3 T H W"]
    fps: float
    seconds: Mapping[str, float]
    latent_frames: tuple[int, ...]
    acceleration: Mapping[str, Any] = field(default_factory=dict)


def settle_video(sampling: Any) -> None:
    """Refuse numbers of a record, frozen, that are out of range; Python's own take the place of NumPy's whole ones."""
    for name, least, most in (
        ("num_frames", 1, MOST_FRAMES),
        ("height", SMALLEST_SIDE, LARGEST_SIDE),
        ("width", SMALLEST_SIDE, LARGEST_SIDE),
        ("num_inference_steps", 1, MOST_STEPS),
    ):
        check_count(name, getattr(sampling, name), least, most)
        # Python's own: NumPy's small ones overflow in products, and JSON takes none of them.
        object.__setattr__(sampling, name, operator.index(getattr(sampling, name)))
    check_pixels(sampling.num_frames, sampling.height, sampling.width)
    check_number("fps", sampling.fps, 0.01, 1000.0)
    check_number("guidance_scale", sampling.guidance_scale, 1.0, 100.0)


def check_guided(prompt: Any, negative_prompt: Any, guidance_scale: float) -> None:
    """Refuse prompts that are no text, and a negative one that guidance does not use."""
    check_prompt("prompt", prompt)
    check_prompt("negative_prompt", negative_prompt)
    if negative_prompt and guidance_scale == 1:
        raise ValueError(
            f"`negative_prompt` is {negative_prompt[:40]!r}, which has no effect at `guidance_scale` 1; "
            "raise `guidance_scale` above 1 or leave `negative_prompt` out"
        )


def check_count(name: str, value: Any, least: int, most: int) -> None:
    """Refuse what is not a whole number in [least, most]."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise ValueError(f"`{name}` is {_shown(value)}; expected a whole number from {least} to {most}")
    if not least <= number <= most:
        nearest = (least, least + 1) if number < least else (most - 1, most)
        raise ValueError(
            f"`{name}` is {_shown(number)}; expected {least} to {most} "
            f"(nearest legal values: {nearest[0]} and {nearest[1]})"
        )


def check_number(name: str, value: Any, least: float, most: float) -> None:
    """Refuse what is not a finite number in [least, most]."""
    if isinstance(value, bool | str) or not _is_real(value) or not math.isfinite(value):
        raise ValueError(f"`{name}` is {_shown(value)}; expected a number from {least:g} to {most:g}")
    if not least <= value <= most:
        nearest = least if value < least else most
        raise ValueError(f"`{name}` is {value:g}; expected {least:g} to {most:g} (nearest legal value: {nearest:g})")


def check_pixels(num_frames: int, height: int, width: int) -> None:
    """Refuse a video too large for any machine before something tries to hold it."""
    pixels = num_frames * height * width
    if pixels > MOST_PIXELS:
        frames = max(1, MOST_PIXELS // (height * width))
        raise ValueError(
            f"`num_frames` x `height` x `width` is {num_frames} x {height} x {width} = {pixels} pixels; "
            f"at most {MOST_PIXELS}, at this size at most {frames} frames"
        )


def check_prompt(name: str, value: Any) -> None:
    """Refuse what is no text, or cannot be written as UTF-8."""
    if not isinstance(value, str):
        raise ValueError(f"`{name}` is of type {type(value).__name__}; expected one string")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"`{name}` holds {value[error.start]!r} at {error.start}, which no UTF-8 text can") from error


def _is_real(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _shown(value: Any) -> str:
    """`repr`, but for whole numbers with more digits than anybody reads; Python refuses to write the longest."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"
    return repr(value)
