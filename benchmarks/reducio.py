"""Sixteen frames of 1024 x 1024 by Reducio, stage by stage, against diffusers' image-to-video models of similar size.

Random weights; each case runs in a process of its own. Reducio: look at the content frame (OpenCLIP ViT-H and Stable
Diffusion's encoder), project the conditions, 20 guided steps of DPM-Solver++, decode in tiles. The others: 50 guided
steps on latents of 128 x 128, of which one pass is timed and multiplied by 100, and 16 pictures to decode. Not counted
on either side: the text encoder, and where the first picture comes from. All run torch's scaled_dot_product_attention.
Operations are torch's own count, on the meta device. MFU is the share of a matrix product measured just before.
The paper reports 15.4 s on an A100, 16.6 times faster than Lavie, whose network is, as AnimateDiff's,
Stable Diffusion's with layers over time; and by formulas 288 TFLOP for the steps, 7,480 for Lavie's.

    uv run python benchmarks/reducio.py --device cuda --output benchmarks/results/reducio_<gpu>_<yyyymm>.json
    uv run python benchmarks/reducio.py --toy
"""

import argparse
import json
import statistics
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from provenance import provenance
from reducio_cases import (
    ANIMATEDIFF,
    BUILDERS,
    CACHE,
    DECODE,
    DENOISE,
    I2VGEN,
    LOOK,
    ONE_GRID,
    ONE_GRID_UNCACHED,
    PICTURES,
    UNCACHED,
    Setting,
)
from report import publish
from timing import matmul_ceiling, measure_apart, peak_gigabytes, timed
from torch.utils.flop_counter import FlopCounterMode

REDUCIO = (LOOK, CACHE, DENOISE, DECODE)
GUIDED_PASSES = 100
WARM_UP = 2
PAPER = {"paper_seconds_a100": 15.4, "paper_times_faster_than_lavie": 16.6}


@torch.inference_mode()
def measure(name: str, setting: Setting) -> dict[str, Any]:
    """Seconds, operations and memory of one call, in this process."""
    torch.manual_seed(0)
    call = BUILDERS[name](setting)
    if setting.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(WARM_UP):
        out = call()
    if not out.isfinite().all():
        raise RuntimeError(f"{name}: the result is not finite")
    seconds = [timed(call, setting.device) for _ in range(setting.runs)]
    return {
        "case": name,
        "calls": GUIDED_PASSES if name in (ANIMATEDIFF, I2VGEN) else 1,
        "flops_of_a_call": operations(name, setting),
        "seconds_of_a_call": statistics.median(seconds),
        "seconds_min": min(seconds),
        "seconds_max": max(seconds),
        "memory_peak_gb": peak_gigabytes(setting.device),
    }


def operations(name: str, setting: Setting) -> int:
    """Two for each multiplication with its addition, in products, convolutions and attention; nothing is allocated."""
    call = BUILDERS[name](replace(setting, device="meta"))
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def summary(results: list[dict[str, Any]], ceiling: float) -> dict[str, float]:
    """Seconds and operations of whole videos, and how many times faster Reducio's is."""
    found = {row["case"]: row["calls"] * row["seconds_of_a_call"] for row in results}
    flops = {row["case"]: row["calls"] * row["flops_of_a_call"] for row in results}
    ours, work = (sum(part[name] for name in REDUCIO) for part in (found, flops))
    totals = {"reducio_seconds": ours, "reducio_tflop": work / 1e12}
    for key, name in (("animatediff", ANIMATEDIFF), ("i2vgen", I2VGEN)):
        seconds, operations_of_it = (part[name] + part[PICTURES] for part in (found, flops))
        totals |= {
            f"{key}_seconds": seconds,
            f"times_faster_than_{key}": seconds / ours,
            f"times_fewer_operations_than_{key}": operations_of_it / work,
        }
    steps = {name: found[name] / found[DENOISE] for name in (UNCACHED, ONE_GRID, ONE_GRID_UNCACHED)}
    return totals | PAPER | {"matmul_ceiling_tflops": ceiling / 1e12, "steps_over_cached_four_grids": steps}  # type: ignore[dict-item]


def table(results: list[dict[str, Any]], totals: dict[str, Any]) -> str:
    """Markdown."""
    ceiling = totals["matmul_ceiling_tflops"]
    lines = ["| case | s a call | TFLOP a call | MFU | peak GB | s a video |", "|---|---|---|---|---|---|"]
    for row in results:
        tera, seconds = row["flops_of_a_call"] / 1e12, row["seconds_of_a_call"]
        lines.append(
            f"| {row['case']} | {seconds:.4f} | {tera:,.4g} | {100 * tera / seconds / ceiling:.0f} % "
            f"| {row['memory_peak_gb']:.1f} | {row['calls'] * seconds:.4g} |"
        )
    lines += [
        "",
        f"A video: Reducio {totals['reducio_seconds']:.4g} s ({', '.join(REDUCIO)}), "
        f"{totals['times_faster_than_animatediff']:.1f} times faster than AnimateDiff "
        f"({totals['times_fewer_operations_than_animatediff']:.1f} times fewer operations) and "
        f"{totals['times_faster_than_i2vgen']:.1f} times faster than I2VGen-XL "
        f"({totals['times_fewer_operations_than_i2vgen']:.1f}). The paper: {PAPER['paper_seconds_a100']} s "
        f"on an A100, {PAPER['paper_times_faster_than_lavie']} times faster than Lavie. "
        f"Matrix products reach {ceiling:.4g} TFLOP/s here. Random weights.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="tiny models, 128 x 128 pixels; the numbers mean nothing")
    parser.add_argument("--runs", type=int, default=5, help="timed calls after the warm-up")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--output", type=Path, help="JSON to write; the table appears beside it as .md")
    parser.add_argument("--case", choices=BUILDERS, help=argparse.SUPPRESS)
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.case, Setting(**json.loads(options.setting)))))
        return
    if options.device == "cpu" and not options.toy:
        parser.error("16 x 1024 x 1024 needs a GPU: --device cuda, or --toy")
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    setting = Setting(toy=options.toy, runs=options.runs, device=options.device)
    results = []
    for name in BUILDERS:
        print(name, file=sys.stderr)
        # A toy's memory says nothing, so it need not wait for ten processes to import torch.
        results.append(measure(name, setting) if setting.toy else measure_apart(__file__, name, setting))
    totals = summary(results, matmul_ceiling(setting.device, setting.dtype))
    facts = provenance("reducio", ("torch", "diffusers", "fastvid-dit", "fastvid-vae"), setting.device) | {
        "warm_up": WARM_UP,
        "setting": asdict(setting) | {"dtype": str(setting.dtype)},
    }
    publish(facts | totals | {"results": results}, table(results, totals), options.output)


if __name__ == "__main__":
    main()
