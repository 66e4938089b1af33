"""What does VGDFR cost the embedded model in quality, for the tokens it saves? Against dropping frames evenly.

Each validation photo is asked to hold still and to move slowly, plainly and quickly. PSNR is to the video without
acceleration, and to the exact warp of the photo over the pixels that frame 0 shows. Dropping keeps as many latents as
VGDFR did for the same video, evenly spread and where they were, from the same step on, and fades between the frames
that are left. Seconds are those of denoising, the preview included.

    python benchmarks/vgdfr_embedded.py ../shared/data --output benchmarks/results/vgdfr_embedded_<hardware>.json
"""

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from embedded_videos import make, psnr
from fastvid_accel import VGDFR, AsymRnR, AsymRnRConfig, NoAcceleration, VGDFRConfig, compose
from fastvid_accel.interfaces import Session
from fastvid_pipelines import FSVideoPipeline, TensorClip
from provenance import provenance
from report import publish
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "embedded"))

from camera_motion import MOTIONS, STILL, canonical
from data import Photos
from evaluate import masked_psnr

SPEEDS = {"holds still": 0.0, "slowly": 0.5, "plainly": 1.0, "quickly": 1.5}
THRESHOLDS = (0.9, 0.75, 0.5)
FRAMES_PER_MOTION = 16
FEWER_TOKENS = AsymRnR(AsymRnRConfig(window=2, min_gain=0.0))


@dataclass(frozen=True, slots=True)
class EvenDrop:
    """After `start_step` steps `num_left` latents stay, evenly spread over the video; a fade fills the gaps."""

    num_left: int
    start_step: int

    def start(self, *, num_steps: int, **others: Any) -> "EvenDropSession":
        return EvenDropSession(self, NoAcceleration().start(num_steps=num_steps))


@dataclass
class EvenDropSession:
    settings: EvenDrop
    inner: Session
    kept: list[int] = field(default_factory=list)
    num_latents: int = 0

    def begin_step(self, step: Any, /) -> None:
        """Nothing to prepare."""

    def attention(self, q: Tensor, k: Tensor, v: Tensor, site: Any, /) -> Tensor:
        return self.inner.attention(q, k, v, site)

    def end_step(self, latents: Tensor, denoised: Tensor, positions: Tensor, step: Any, /) -> tuple[Tensor, Tensor]:
        if step.index + 1 != self.settings.start_step:
            return latents, positions
        self.num_latents = latents.shape[2]
        self.kept = torch.linspace(0, self.num_latents - 1, self.settings.num_left).round().int().tolist()
        return latents[:, :, self.kept], positions[:, self.kept]

    def finish(self, frames: Tensor, /) -> Tensor:
        times = [0] + [4 * latent - 3 + step for latent in self.kept[1:] for step in range(4)]
        whole = []
        for time in range(4 * (self.num_latents - 1) + 1):
            after = next(index for index, known in enumerate(times) if known >= time)
            before = after if times[after] == time else after - 1
            share = (time - times[before]) / max(1, times[after] - times[before])
            whole.append(torch.lerp(frames[:, :, before], frames[:, :, after], share))
        return torch.stack(whole, dim=2)

    def report(self) -> dict[str, Any]:
        return {}


def vgdfr(threshold: float, positions: Any, start_step: int) -> VGDFR:
    return VGDFR(VGDFRConfig(threshold=threshold, positions=positions, start_step=start_step))


def videos(run: Callable[[Any], TensorClip], start_step: int) -> dict[str, TensorClip]:
    """The same video in every way."""
    clips = {"none": run(None)}
    for threshold in THRESHOLDS:
        for positions in ("local", "global"):
            clips[f"VGDFR {threshold}, {positions}"] = ours = run(vgdfr(threshold, positions, start_step))
        clips[f"even drop, as VGDFR {threshold}"] = run(EvenDrop(ours.latent_frames[-1], start_step))
    both = compose(FEWER_TOKENS, vgdfr(THRESHOLDS[1], "global", start_step))
    return clips | {"AsymRnR alone": run(FEWER_TOKENS), f"AsymRnR and VGDFR {THRESHOLDS[1]}, global": run(both)}


def score(clip: TensorClip, exact: TensorClip, truth: Tensor, mask: Tensor) -> dict[str, float]:
    return {
        "latents": clip.latent_frames[-1],
        "psnr_to_exact": psnr(clip.frames[0], exact.frames[0]),
        "psnr_to_truth": masked_psnr(clip.frames[0][:, 1:], truth[:, 1:], mask[1:]),
        "seconds": clip.seconds["denoise"],
    }


def measure(
    pipe: FSVideoPipeline, data: Path, num_photos: int, num_frames: int, start_step: int
) -> list[dict[str, Any]]:
    photos = Photos(data, "validation")
    moving = [name for name in MOTIONS if name != STILL]
    times = [frame / FRAMES_PER_MOTION for frame in range(num_frames)]
    found: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for index in range(min(num_photos, len(photos.names))):
        name = moving[index % len(moving)]
        for speed, strength in SPEEDS.items():
            prompt = canonical(name, strength) if strength else canonical(STILL, 1.0)
            truth, mask = photos.centred(index, MOTIONS[name].times(strength), times, pipe.sampling.height)
            run = partial(make, pipe, truth[:, 0], prompt, num_frames=num_frames)
            clips = videos(run, start_step)
            for case, clip in clips.items():
                found[case, speed].append(score(clip, clips["none"], truth, mask))
        print(f"photo {index + 1} of {num_photos}", file=sys.stderr)
    return [
        {"case": case, "speed": speed, "videos": len(rows)}
        | {key: statistics.mean(row[key] for row in rows) for key in rows[0]}
        for (case, speed), rows in found.items()
    ]


def table(facts: dict[str, Any]) -> str:
    """One row a case: latents left and both PSNRs for each speed."""
    rows = {(row["case"], row["speed"]): row for row in facts["results"]}
    cases = list(dict.fromkeys(row["case"] for row in facts["results"]))
    lines = [
        f"{facts['setting']['num_frames']} frames, {facts['setting']['photos']} validation photos, merged after step"
        f" {facts['setting']['start_step']} of {facts['setting']['steps']}; latents left | PSNR to the unaccelerated"
        " video (60: equal) | PSNR to the true clip, in dB",
        "",
        "| case | " + " | ".join(SPEEDS) + " | seconds, of none |",
        "|---" * (len(SPEEDS) + 2) + "|",
    ]
    dense = statistics.mean(rows["none", speed]["seconds"] for speed in SPEEDS)
    for case in cases:
        cells = [
            f"{row['latents']:.1f} | {row['psnr_to_exact']:.2f} | {row['psnr_to_truth']:.2f}".replace(" | ", " / ")
            for row in (rows[case, speed] for speed in SPEEDS)
        ]
        share = statistics.mean(rows[case, speed]["seconds"] for speed in SPEEDS) / dense
        lines.append(f"| {case} | " + " | ".join(cells) + f" | {share:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with photos/")
    parser.add_argument("--photos", type=int, default=8, help="validation photos, one motion each")
    parser.add_argument("--num-frames", type=int, default=33)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--start-step", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()

    pipe = FSVideoPipeline.default()
    pipe.sampling = replace(pipe.sampling, num_inference_steps=options.steps)
    results = measure(pipe, options.data, options.photos, options.num_frames, options.start_step)
    setting = {
        "photos": options.photos,
        "num_frames": options.num_frames,
        "steps": options.steps,
        "start_step": options.start_step,
    }
    facts = provenance("vgdfr_embedded", ("torch", "fastvid-accel", "fastvid-dit"), "cpu") | {
        "weights": "embedded",
        "setting": setting,
        "results": results,
    }
    publish(facts, table(facts), options.output)


if __name__ == "__main__":
    main()
