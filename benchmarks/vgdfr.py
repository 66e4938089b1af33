"""How much faster is HunyuanVideo with fewer latent frames? Its transformer with random weights, at full size on a GPU.

One forward pass at each forced latent length gives c, its time as a share of that at all 25 latents; from it, and from
the measured cost of the preview, follow the speed-ups for k = 5, 10 and 15 of 50 steps; beside it stands the cost that
operations set, as torch counts them. The same once more with AsymRnR in all steps, which drops 30 % of keys and values;
its matching is in the seconds and not in the operations. Which length a video gets depends on trained weights; nothing
is said of that here. On a CPU the transformer is narrow, has two blocks and sees a seventeenth of the tokens: attention
is half of its work there, at full size three quarters. What a preview costs is left out of it.

    python benchmarks/vgdfr.py --device cuda --output benchmarks/results/vgdfr_h200_202611.json
    python benchmarks/vgdfr.py --output benchmarks/results/vgdfr_xeon_2core_202611.json
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from asymrnr_cases import Case as ReducingCase
from asymrnr_cases import hunyuan, over_video, unscheduled
from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import AutoencoderKLHunyuanVideo
from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoTransformer3DModel
from fastvid_accel.integrations.diffusers.codecs import codec_of
from provenance import provenance
from report import publish
from timing import timed
from torch.utils.flop_counter import FlopCounterMode

STEPS, STARTS = 50, (5, 10, 15)
DROPPED_KEYS = 0.3
LINEAR = ("aten.addmm", "aten.mm", "aten.convolution")
"""Operations whose cost grows with the tokens; that of the others, attention, with their square."""
PAPER = {5: "1.31 to 2.92", 10: "1.27 to 2.33", 15: "1.24 to 1.96"}
"""Speed-ups of the paper's Table 1 on an A100, thresholds 0.9 to 0.5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model, a size and the lengths to force; the first is the whole video. Without `vae` previews cost nothing."""

    name: str
    transformer: Callable[[], Any]
    vae: Callable[[], Any] | None
    text: int
    rows: int
    columns: int
    lengths: tuple[int, ...]


LENGTHS = (25, 21, 17, 14, 9)
"""Of 97 frames. 14: every pair of latents merged; 9: every four."""


def small(heads: int, head_width: int, text: int, axes: tuple[int, int, int]) -> Any:
    """HunyuanVideo with a block of each kind; `axes` are the channels of a head that turn with time, row and column."""
    return HunyuanVideoTransformer3DModel(
        num_attention_heads=heads,
        attention_head_dim=head_width,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=text,
        rope_axes_dim=axes,
    )


FULL = Case(
    name="HunyuanVideo, 97x544x960",
    transformer=HunyuanVideoTransformer3DModel,
    vae=AutoencoderKLHunyuanVideo,
    text=4096,
    rows=68,
    columns=120,
    lengths=LENGTHS,
)
NARROW = Case(
    name="HunyuanVideo's blocks, 2 of 256 channels, 97x128x240",
    transformer=lambda: small(4, 64, 64, (16, 24, 24)),
    vae=None,  # beside so small a transformer its cost says nothing
    text=64,
    rows=16,
    columns=30,
    lengths=LENGTHS,
)
TOY = Case(
    name="a toy of HunyuanVideo",
    transformer=lambda: small(2, 16, 16, (4, 6, 6)),
    vae=lambda: AutoencoderKLHunyuanVideo(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4),
    text=16,
    rows=4,
    columns=6,
    lengths=(5, 4, 3),
)


def median_seconds(call: Callable[[], object], device: str, runs: int) -> float:
    """After one call that does not count."""
    call()
    return statistics.median(timed(call, device) for _ in range(runs))


@torch.inference_mode()
def count(case: Case, length: int) -> tuple[int, int]:
    """Operations of one forward pass: of its linear layers, and of its attention."""
    with torch.device("meta"):
        model, given = case.transformer().eval(), hunyuan((length, case.rows, case.columns), text=case.text)
        with FlopCounterMode(display=False) as counter:
            model(**given)
    counts = counter.get_flop_counts()["Global"]
    linear = sum(number for operation, number in counts.items() if str(operation) in LINEAR)
    return linear, counter.get_total_flops() - linear


@torch.inference_mode()
def measure(case: Case, device: str, dtype: torch.dtype, runs: int) -> dict[str, Any]:
    with torch.device(device):
        torch.set_default_dtype(dtype)
        try:
            model = case.transformer().eval()
            seconds = {
                length: median_seconds(lambda given=given: model(**given), device, runs)
                for length in case.lengths
                for given in [hunyuan((length, case.rows, case.columns), text=case.text)]
            }
            reduced = {length: reduced_seconds(case, model, length, device, runs) for length in case.lengths}
            del model
            previews = {
                kind: preview_seconds(case.vae, case, skipped, device, runs)
                for kind, skipped in (("full", 0), ("truncated", 1))
                if case.vae is not None
            }
        finally:
            torch.set_default_dtype(torch.float32)
    whole = case.lengths[0]
    operations = {length: count(case, length) for length in case.lengths}
    results = []
    for name, found, keys in (("latents", seconds, 1.0), ("latents, AsymRnR", reduced, 1 - DROPPED_KEYS)):
        for length in case.lengths:
            row = {"case": f"{length} {name}", "seconds": found[length], "cost": found[length] / seconds[whole]}
            linear, attention = operations[length]
            row |= {"cost_by_operations": (linear + keys * attention) / sum(operations[whole])}
            preview = previews.get("truncated", 0.0) * (length < whole)
            for start in STARTS:
                spent = start * found[whole] + preview + (STEPS - start) * found[length]
                row[f"speed_up_from_{start}"] = STEPS * seconds[whole] / spent
            results.append(row)
            print(row, file=sys.stderr)
    return {"preview_steps": {kind: value / seconds[whole] for kind, value in previews.items()}, "results": results}


def reduced_seconds(case: Case, model: Any, length: int, device: str, runs: int) -> float:
    """Of a step with fewer keys and values, the mean over one that matches and those that go by its matching."""
    setting = unscheduled()["values"]
    window = setting.config.window
    reducing = ReducingCase(
        build=case.transformer,
        few=case.transformer,
        scale=1,  # all blocks are timed
        inputs=lambda: hunyuan((length, case.rows, case.columns), text=case.text),
        steps=window,
        window=window,
        settings={},
        shape=(1, 1, 1, (length, case.rows // 2, case.columns // 2)),
    )
    seconds, _ = over_video(reducing, model, setting, lambda call: median_seconds(call, device, runs))
    return seconds / window


def preview_seconds(build: Callable[[], Any], case: Case, skipped_stages: int, device: str, runs: int) -> float:
    """Of decoding all latents and encoding all frames again, in tiles where they do not fit."""
    vae = build().eval()
    vae.enable_tiling()
    codec = codec_of(vae, 4)
    if skipped_stages:
        codec = codec.truncated(skipped_stages)
    latents = torch.randn(1, vae.config.latent_channels, case.lengths[0], case.rows, case.columns)
    return median_seconds(lambda: codec.encode(codec.decode(latents)), device, runs)


def table(facts: dict[str, Any]) -> str:
    cost = facts["preview_steps"]
    preview = "The preview is not counted."
    if cost:
        truncated = f"{cost['truncated']:.2f} with a stage of the autoencoder left out"
        preview = f"A preview costs {cost['full']:.2f} steps, {truncated}."
    lines = [
        f"{facts['model']}, {facts['dtype'].removeprefix('torch.')}, random weights.",
        "",
        preview,
        "",
        "| latents | seconds | cost | by operations | " + " | ".join(f"k = {k}" for k in STARTS) + " |",
        "|---" * (4 + len(STARTS)) + "|",
    ]
    for row in facts["results"]:
        speeds = " | ".join(f"({row[f'speed_up_from_{start}']:.2f}x)" for start in STARTS)
        lines.append(
            f"| {row['case']} | {row['seconds']:.3f} | {row['cost']:.3f} | {row['cost_by_operations']:.3f} | {speeds} |"
        )
    lines.append("| the paper, A100 | | | | " + " | ".join(f"{PAPER[start]}x" for start in STARTS) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--runs", type=int, default=5, help="timed calls after the first one")
    parser.add_argument("--toy", action="store_true", help="a tiny model: only to see that it runs")
    parser.add_argument("--output", type=Path, help="JSON to write; the table appears beside it as .md")
    options = parser.parse_args()
    case = TOY if options.toy else FULL if options.device == "cuda" else NARROW
    dtype = torch.float32 if options.device == "cpu" else torch.bfloat16
    facts = provenance("vgdfr", ("torch", "diffusers", "fastvid-accel"), options.device)
    facts |= {"model": case.name, "dtype": str(dtype), "runs": options.runs}
    facts |= measure(case, options.device, dtype, options.runs)
    publish(facts, table(facts), options.output)


if __name__ == "__main__":
    main()
