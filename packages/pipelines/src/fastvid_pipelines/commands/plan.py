"""The verb `plan`: what a video would cost on a full-size model, from formulas."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from fastvid_pipelines import discovery
from fastvid_pipelines.commands.arguments import named_as_typed
from fastvid_pipelines.stages.refine import SCALE
from fastvid_pipelines.types import LARGEST_SIDE, MOST_FRAMES, MOST_STEPS, SMALLEST_SIDE, check_count

GUIDED_BRANCHES = 2
FLAGS = {
    "transformer_cost": "--model",
    "num_frames": "--num-frames",
    "height": "--height",
    "width": "--width",
    "steps": "--steps",
    "refiner_steps": "--refiner-steps",
}
"""The flag behind each argument of a call."""


class TransformerCost(Protocol):
    """Of one forward pass."""

    @property
    def tokens(self) -> int: ...
    @property
    def flops(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def activation_bytes(self) -> int: ...


class AutoencoderCost(Protocol):
    """Of decoding one video."""

    @property
    def stride(self) -> tuple[int, int, int]: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def activation_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One line of the plan; `passes` counts network evaluations, both branches of guidance included."""

    name: str
    tokens: int
    passes: int
    flops: int
    weight_bytes: int
    peak_bytes: int


def plan(model: str, *, num_frames: int, height: int, width: int, steps: int, refiner_steps: int) -> dict[str, Any]:
    """The stages of a video made in two steps: base transformer, refiner at twice the size, decoder.

    The upsampler between them (0.07 % of the operations) and the encoders of words and photo are left out.

    Raises:
        ValueError: no such model, or a number out of range.
    """
    with named_as_typed(FLAGS):
        check_count("num_frames", num_frames, 1, MOST_FRAMES)
        check_count("height", height, SMALLEST_SIDE, LARGEST_SIDE)
        check_count("width", width, SMALLEST_SIDE, LARGEST_SIDE)
        check_count("steps", steps, 1, MOST_STEPS)
        check_count("refiner_steps", refiner_steps, 1, MOST_STEPS)
        transformer = discovery.find(discovery.TRANSFORMER_COSTS, model)
        decode = discovery.find(discovery.AUTOENCODER_COSTS, model)
    decoded: AutoencoderCost = decode((num_frames, height, width))
    time, rows, columns = decoded.stride
    frames = 1 + -(-(num_frames - 1) // time)
    small = frames, -(-height // (SCALE * rows)), -(-width // (SCALE * columns))
    large = frames, SCALE * small[1], SCALE * small[2]
    stages = [
        _denoising("base", transformer(small), passes=GUIDED_BRANCHES * steps, batch=GUIDED_BRANCHES),
        _denoising("refiner", transformer(large), passes=refiner_steps, batch=1),
        Stage(
            name="decode",
            tokens=0,
            passes=1,
            flops=0,
            weight_bytes=decoded.weight_bytes,
            peak_bytes=decoded.weight_bytes + decoded.activation_bytes,
        ),
    ]
    return {
        "model": model,
        "num_frames": num_frames,
        "base_size": [small[1] * rows, small[2] * columns],
        "refiner_size": [large[1] * rows, large[2] * columns],
        "latent_frames": frames,
        "stages": [asdict(stage) for stage in stages],
        "flops": sum(stage.flops for stage in stages),
        "weight_bytes": sum(stage.weight_bytes for stage in stages),
    }


def _denoising(name: str, cost: TransformerCost, *, passes: int, batch: int) -> Stage:
    return Stage(
        name=name,
        tokens=cost.tokens,
        passes=passes,
        flops=passes * cost.flops,
        weight_bytes=cost.weight_bytes,
        peak_bytes=cost.weight_bytes + batch * cost.activation_bytes,
    )


def table(report: Mapping[str, Any]) -> str:
    """The plan for people: PFLOP and GB, each stage with its own weights alone."""
    sizes = [f"{height}x{width}" for height, width in (report["base_size"], report["refiner_size"])]
    lines = [
        f"{report['num_frames']} frames, {report['latent_frames']} latent ones; base {sizes[0]}, refiner {sizes[1]}",
        f"{'stage':10s}{'tokens':>8s}{'passes':>8s}{'PFLOP':>9s}{'weights GB':>12s}{'peak GB':>9s}",
    ]
    for stage in report["stages"]:
        work = f"{stage['flops'] / 1e15:9.3f}" if stage["flops"] else " " * 9
        tokens = f"{stage['tokens']:8,d}" if stage["tokens"] else " " * 8
        weights, peak = stage["weight_bytes"] / 1e9, stage["peak_bytes"] / 1e9
        lines.append(f"{stage['name']:10s}{tokens}{stage['passes']:8d}{work}{weights:12.1f}{peak:9.1f}")
    lines.append(f"{'all':10s}{'':16s}{report['flops'] / 1e15:9.3f}{report['weight_bytes'] / 1e9:12.1f}")
    return "\n".join(lines)
