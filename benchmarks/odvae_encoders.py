"""OD-VAE's four encoders against one another, and what groups in time cost and save.

Speed is that of encoding, random weights, as ratios to variant 1 in the same run (the paper's Table 3: 2.15, 2.44, 4.13
and 4.13 videos a second of 81 x 256 x 256 on an A100). Memory is the most a process ever held while a video of so many
frames was encoded and decoded in groups of 33 frames, and, for comparison, whole. What tiling costs in PSNR takes a
trained model: name one that recipes/odvae left, and the data for clips that it has not seen.

    uv run python benchmarks/odvae_encoders.py --device cuda --side 256 --memory-side 256 --memory-divisor 1
    uv run python benchmarks/odvae_encoders.py --model runs/odvae/tail/vae --data ../shared/data \
        --output benchmarks/results/odvae_encoders_<hardware>_<yyyymm>.json
    uv run python benchmarks/odvae_encoders.py --toy
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from fastvid_vae import ODVAE, ODVAE_VARIANT_1, ODVAE_VARIANT_2, ODVAE_VARIANT_3, ODVAE_VARIANT_4, ODVAEConfig, psnr
from provenance import ROOT, provenance
from report import publish
from timing import measure_apart, peak_gigabytes, timed
from torch import Tensor

VARIANTS = {"1": ODVAE_VARIANT_1, "2": ODVAE_VARIANT_2, "3": ODVAE_VARIANT_3, "4": ODVAE_VARIANT_4}
PAPER = {"1": 2.15, "2": 2.44, "3": 4.13, "4": 4.13}
GROUP = 33
LENGTHS = {"grouped": (33, 129, 513), "whole": (33, 129)}
TILINGS = {
    "groups of 33 frames": {"spatial": None, "temporal": GROUP},
    "groups of 9 frames": {"spatial": None, "temporal": 9},
    "groups of 33 frames, tiles of half the side": {"spatial": "half", "temporal": GROUP},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Of one measurement of memory."""

    num_frames: int
    side: int
    divisor: int
    device: str


def narrowed(config: ODVAEConfig, divisor: int) -> ODVAEConfig:
    """With a fraction of the channels, and as many in a group of a norm."""
    return replace(
        config,
        widths=tuple(width // divisor for width in config.widths),
        norm_groups=max(1, config.norm_groups // divisor),
    )


def built(config: ODVAEConfig, device: str) -> ODVAE:
    torch.manual_seed(0)
    return ODVAE(config).to(device).eval().requires_grad_(False)


@torch.inference_mode()
def speeds(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Medians over runs in which all variants take turns, so that what else the machine does meets each alike.

    On a CPU, of the time that it worked for this process.
    """
    frames = torch.rand(1, 3, options.frames, options.side, options.side, device=options.device) * 2 - 1
    models = {name: built(narrowed(config, options.divisor), options.device) for name, config in VARIANTS.items()}

    def encode(model: ODVAE) -> None:
        with model.tiled(spatial=None, temporal=None):
            model.encode(frames)

    for model in models.values():  # warm-up
        encode(model)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(options.runs):
        for name, model in models.items():
            seconds[name].append(worked(lambda model=model: encode(model), options.device))
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    return [
        {
            "case": f"variant {name}",
            "encoder_parameters": sum(p.numel() for p in models[name].encoder.parameters()),
            "seconds": medians[name],
            "ratio": medians["1"] / medians[name],
            "paper_ratio": PAPER[name] / PAPER["1"],
        }
        for name in models
    ]


def worked(call: Callable[[], object], device: str) -> float:
    """Seconds of a call."""
    if device != "cpu":
        return timed(call, device)
    start = time.process_time()
    call()
    return time.process_time() - start


def chunks(shape: tuple[int, ...], count: int, device: str) -> Iterator[Tensor]:
    for _ in range(count):
        yield torch.zeros(shape, device=device)


@torch.inference_mode()
def one_memory(case: str, setting: Setting) -> dict[str, Any]:
    """There and back, in a process of its own; nothing of the video is kept."""
    model = built(narrowed(ODVAE_VARIANT_4, setting.divisor), setting.device)
    side, latents = setting.side, model.num_latent_frames(setting.num_frames)
    if case == "grouped":
        with model.tiled(spatial=None, temporal=GROUP):
            for _ in model.encode_chunks(chunks((1, 3, 1, side, side), setting.num_frames, setting.device)):
                pass
            for _ in model.decode_chunks(chunks((1, 4, 1, side // 8, side // 8), latents, setting.device)):
                pass
    else:
        with model.tiled(spatial=None, temporal=None):
            model.encode(torch.zeros(1, 3, setting.num_frames, side, side, device=setting.device))
            model.decode(torch.zeros(1, 4, latents, side // 8, side // 8, device=setting.device))
    return {"gigabytes": peak_gigabytes(setting.device)}


def memory(options: argparse.Namespace) -> dict[str, dict[int, float]]:
    """Gigabytes by way and number of frames."""
    return {
        case: {
            frames: measure_apart(
                __file__,
                case,
                Setting(
                    num_frames=frames,
                    side=options.memory_side,
                    divisor=options.memory_divisor,
                    device=options.device,
                ),
            )["gigabytes"]
            for frames in (lengths[:1] if options.toy else lengths)
        }
        for case, lengths in LENGTHS.items()
    }


@torch.inference_mode()
def tiling_cost(options: argparse.Namespace) -> dict[str, float]:
    """Mean PSNR in dB of the reconstructions of validation clips, whole and tiled."""
    sys.path.append(str(ROOT / "recipes" / "odvae"))
    from odvae_clips import validation_clips

    model = ODVAE.from_pretrained(options.model, device=options.device)
    found = validation_clips(options.data, options.clip_frames)
    clips = [clip[None] for some in found.values() for clip in some if clip.shape[1] == options.clip_frames]
    clips = clips[:: max(1, len(clips) // options.clips)][: options.clips]
    side = clips[0].shape[-1]
    settings: dict[str, Any] = {"whole": {"spatial": None, "temporal": None}} | TILINGS
    scores = {}
    for name, words in settings.items():
        spatial = side // 2 if words["spatial"] == "half" else None
        with model.tiled(spatial=spatial, temporal=words["temporal"]):
            pairs = [(model.decode(model.encode(clip.to(options.device))).cpu().clamp(-1, 1), clip) for clip in clips]
        scores[name] = statistics.mean(float(psnr(*pair)) for pair in pairs)
    return scores


def table_of(results: list[dict[str, Any]], peaks: dict[str, dict[int, float]], cost: dict[str, float] | None) -> str:
    """Markdown."""
    lines = ["| encoder | parameters | seconds | speed | paper |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['case']} | {row['encoder_parameters'] / 1e6:.1f} M | {row['seconds']:.3f} | ({row['ratio']:.2f}x) "
        f"| {row['paper_ratio']:.2f}x |"
        for row in results
    ]
    held = "; ".join(
        f"{case}: {', '.join(f'{value:.2f} GB at {frames} frames' for frames, value in some.items())}"
        for case, some in peaks.items()
    )
    lines += ["", f"Peak memory there and back with variant 4, {held}."]
    if cost is not None:
        lost = ", ".join(f"{name} {value - cost['whole']:+.2f} dB" for name, value in cost.items() if name != "whole")
        lines += ["", f"PSNR on validation clips: {cost['whole']:.2f} dB whole; {lost}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=81, help="of the videos that are encoded for speed")
    parser.add_argument("--side", type=int, default=16, help="of them, in pixels")
    parser.add_argument("--divisor", type=int, default=1, help="of all channels, for speed")
    parser.add_argument("--memory-side", type=int, default=64, help="of the videos whose memory is measured")
    parser.add_argument("--memory-divisor", type=int, default=8, help="of all channels, for memory")
    parser.add_argument("--runs", type=int, default=5, help="whose median counts")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--model", type=Path, help="folder of a trained OD-VAE; without it PSNR is left out")
    parser.add_argument("--data", type=Path, help="folder with photos/ and clips/, for PSNR")
    parser.add_argument("--clips", type=int, default=6, help="validation clips for PSNR")
    parser.add_argument("--clip-frames", type=int, default=65, help="of each")
    parser.add_argument("--toy", action="store_true", help="few channels and frames; the numbers mean nothing")
    parser.add_argument("--output", type=Path, help="JSON to write; the table appears beside it as .md")
    parser.add_argument("--case", choices=tuple(LENGTHS), help=argparse.SUPPRESS)
    parser.add_argument("--setting", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(one_memory(options.case, Setting(**options.setting))))
        return
    if (options.model is None) != (options.data is None):
        parser.error("--model and --data go together")
    if options.toy:
        options.frames, options.side, options.divisor, options.memory_side, options.memory_divisor = 5, 16, 16, 16, 16
    results, peaks = speeds(options), memory(options)
    cost = tiling_cost(options) if options.model else None
    names = ("frames", "side", "divisor", "memory_side", "memory_divisor", "runs", "clips", "clip_frames", "toy")
    facts = provenance("odvae_encoders", ("torch", "fastvid-vae"), options.device) | {
        "weights": "random; for PSNR those of --model",
        "dtype": "float32",
        "setting": {name: getattr(options, name) for name in names},
        "gigabytes": peaks,
        "psnr": cost,
    }
    publish(facts | {"results": results}, table_of(results, peaks, cost), options.output)


if __name__ == "__main__":
    main()
