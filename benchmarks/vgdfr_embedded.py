"""What does VGDFR cost the embedded model in quality, for the tokens it saves? Against dropping frames evenly.

Each validation photo is asked to hold still and to move slowly, plainly and quickly. PSNR is to the video without
acceleration, and to the exact warp of the photo over the pixels that frame 0 shows; over several videos it is that of
the mean squared error. Dropping leaves a number of latents, evenly spread and where they were, from the same step on,
and fades between the frames that are left. It is compared twice at equal tokens: with the same number left of every
video, which is what dropping can do that does not look at the video (numbers between two lengths by a straight line
between their errors), and with as many left of each video as VGDFR left of it.

    python benchmarks/vgdfr_embedded.py ../shared/data --output benchmarks/results/vgdfr_embedded_<hardware>.json
"""

import argparse
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from embedded_videos import make
from fastvid_accel import VGDFR, AsymRnR, AsymRnRConfig, VGDFRConfig, compose
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
POSITIONS: tuple[Any, ...] = ("local", "global", "centre")
CHOSEN = "centre"
"""Of the rows that even dropping is compared with: the default on this pipeline."""
PREVIEWS = {"a stage less": {"skipped_stages": 1}, "two less": {"skipped_stages": 2}, "refined": {"refining_steps": 2}}
"""Of the middle threshold: smaller previews, and one that costs two more calls of the transformer."""
FRAMES_PER_MOTION = 16
ALL = "all videos"
NUMBERS = ("latents", "error_to_exact", "error_to_truth")
FEWER_TOKENS = AsymRnR(AsymRnRConfig(window=2, min_gain=0.0))


@dataclass(frozen=True, slots=True)
class EvenDrop:
    """After `start_step` steps `num_left` latents stay, evenly spread over the video; a fade fills the gaps."""

    num_left: int
    start_step: int

    def start(self, *, num_steps: int, **others: Any) -> "EvenDropSession":
        return EvenDropSession(self)


@dataclass
class EvenDropSession:
    settings: EvenDrop
    attention: None = None  # the transformer's own
    kept: list[int] = field(default_factory=list)
    num_latents: int = 0

    def begin_step(self, step: Any, /) -> None:
        """Nothing to prepare."""

    def end_step(
        self, latents: Tensor, denoised: Tensor, positions: Tensor, step: Any, /, **others: Any
    ) -> tuple[Tensor, Tensor]:
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
        for positions in POSITIONS:
            clips[f"VGDFR {threshold}, {positions}"] = run(vgdfr(threshold, positions, start_step))
    for name, settings in PREVIEWS.items():
        config = VGDFRConfig(threshold=THRESHOLDS[1], positions=CHOSEN, start_step=start_step, **settings)
        clips[f"VGDFR {THRESHOLDS[1]}, {CHOSEN}, {name}"] = run(VGDFR(config))
    for left in range(clips["none"].latent_frames[-1] - 1, 1, -1):
        clips[f"even drop, {left}"] = run(EvenDrop(left, start_step))
    both = compose(FEWER_TOKENS, vgdfr(THRESHOLDS[1], CHOSEN, start_step))
    return clips | {"AsymRnR": run(FEWER_TOKENS), f"AsymRnR and VGDFR {THRESHOLDS[1]}, {CHOSEN}": run(both)}


def kept(clip: TensorClip) -> list[int] | None:
    """Latents that VGDFR left, alone or inside AsymRnR; None where others or nobody chose."""
    report = clip.acceleration
    found: list[int] | None = report.get("accelerators", [report])[-1].get("kept_latents")
    return found


def score(clip: TensorClip, exact: TensorClip, truth: Tensor, mask: Tensor) -> dict[str, Any]:
    """Latents left, how many and which, and mean squared errors of frames in [-1, 1]."""
    return {
        "latents": clip.latent_frames[-1],
        "kept": kept(clip),
        "error_to_exact": float((clip.frames - exact.frames)[:, :, 1:].square().mean()),
        "error_to_truth": 4 * 10 ** (-masked_psnr(clip.frames[0][:, 1:], truth[:, 1:], mask[1:]) / 10),
    }


def measure(
    pipe: FSVideoPipeline, data: Path, num_photos: int, num_frames: int, start_step: int
) -> list[dict[str, Any]]:
    """One row a video and way."""
    photos = Photos(data, "validation")
    moving = [name for name in MOTIONS if name != STILL]
    times = [frame / FRAMES_PER_MOTION for frame in range(num_frames)]
    rows: list[dict[str, Any]] = []
    for index in range(min(num_photos, len(photos.names))):
        name = moving[index % len(moving)]
        for speed, strength in SPEEDS.items():
            prompt = canonical(name, strength) if strength else canonical(STILL, 1.0)
            truth, mask = photos.centred(index, MOTIONS[name].times(strength), times, pipe.sampling.height)
            run = partial(make, pipe, truth[:, 0], prompt, num_frames=num_frames)
            clips = videos(run, start_step)
            scores = {case: score(clip, clips["none"], truth, mask) for case, clip in clips.items()}
            rows += [{"case": case, "speed": speed, "photo": index} | row for case, row in scores.items()]
            rows += [
                {"case": f"even drop, as {case}", "speed": speed, "photo": index}
                | scores[f"even drop, {row['latents']}" if row["latents"] < scores["none"]["latents"] else "none"]
                for case, row in scores.items()
                if case.startswith("VGDFR") and case.endswith(CHOSEN)
            ]
        print(f"photo {index + 1} of {num_photos}", file=sys.stderr)
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the photos, for each speed and for all; of even dropping also at VGDFR's mean number of latents."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        for speed in (row["speed"], ALL):
            groups[row["case"], speed].append(row)
    means = {
        group: {key: statistics.mean(row[key] for row in members) for key in NUMBERS}
        for group, members in groups.items()
    }
    whole = means["none", ALL]["latents"]
    lengths = [means["none", ALL]] + [means[f"even drop, {left}", ALL] for left in range(int(whole) - 1, 1, -1)]
    for case in [case for case, speed in means if speed == ALL and case.startswith("VGDFR") and case.endswith(CHOSEN)]:
        latents = means[case, ALL]["latents"]
        above = max(index for index, row in enumerate(lengths) if row["latents"] >= latents)
        share = lengths[above]["latents"] - latents
        below = lengths[min(above + 1, len(lengths) - 1)]
        means[f"even drop, {latents:.2f} of every video", ALL] = {
            key: (1 - share) * lengths[above][key] + share * below[key] for key in NUMBERS
        }
    return [{"case": case, "speed": speed} | row for (case, speed), row in means.items()]


def same_schedule(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Of the videos, the share whose latents are the same with another preview."""
    chosen = {(row["case"], row["speed"], row["photo"]): row["kept"] for row in rows}
    full = f"VGDFR {THRESHOLDS[1]}, {CHOSEN}"
    shares: dict[str, list[bool]] = defaultdict(list)
    for (case, speed, photo), latents in chosen.items():
        if case.startswith(full + ", "):
            shares[case.removeprefix(full + ", ")].append(latents == chosen[full, speed, photo])
    return {name: statistics.mean(equal) for name, equal in shares.items()}


def table(facts: dict[str, Any]) -> str:
    """One row a case: latents left and both PSNRs for each speed and for all videos."""
    rows = {(row["case"], row["speed"]): row for row in facts["results"]}
    setting = facts["setting"]
    lines = [
        f"{setting['num_frames']} frames, {setting['photos']} validation photos, merged after step"
        f" {setting['start_step']} of {setting['steps']}. Latents left / PSNR to the unaccelerated video / PSNR to the"
        " true clip, in dB.",
        "",
        "| case | " + " | ".join([*SPEEDS, ALL]) + " |",
        "|---" * (len(SPEEDS) + 2) + "|",
    ]
    for case in dict.fromkeys(row["case"] for row in facts["results"]):
        cells = [cell(rows.get((case, speed))) for speed in [*SPEEDS, ALL]]
        lines.append(f"| {case} | " + " | ".join(cells) + " |")
    same = ", ".join(f"{share:.0%} ({name})" for name, share in facts["same_schedule"].items())
    lines += ["", f"Videos whose latents are chosen as with the full preview: {same}."]
    return "\n".join(lines) + "\n"


def cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    exact, truth = (f"{10 * math.log10(4 / row[key]):.2f}" if row[key] else "equal" for key in NUMBERS[1:])
    return f"{row['latents']:.2f} / {exact} / {truth}"


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
    videos_made = measure(pipe, options.data, options.photos, options.num_frames, options.start_step)
    setting = {
        "photos": options.photos,
        "num_frames": options.num_frames,
        "steps": options.steps,
        "start_step": options.start_step,
    }
    facts = provenance("vgdfr_embedded", ("torch", "fastvid-accel", "fastvid-dit"), "cpu") | {
        "weights": "embedded",
        "setting": setting,
        "results": summary(videos_made),
        "same_schedule": same_schedule(videos_made),
        "videos": videos_made,
    }
    publish(facts, table(facts), options.output)


if __name__ == "__main__":
    main()
