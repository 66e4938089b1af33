"""How much faster do transformers run with AsymRnR? Full-size models of diffusers with random weights, on a GPU.

Transformer time of one video: a forward pass of every window of steps, once with matching and once without, times their
number. Times do not depend on what the weights are; quality does, and nothing is said of it here. Beside it the parts,
alone: attention of all tokens, one matching, the gathers of one feature; and the rate at which a reduction of keys and
values pays for its matching.

    python benchmarks/asymrnr.py --device cuda --output benchmarks/results/asymrnr_h200_202611.json
"""

import argparse
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from asymrnr_cases import CASES, TOY, Case, over_video
from fastvid_accel.asymrnr.matching import match
from fastvid_accel.asymrnr.partition import drawing, partition
from fastvid_accel.asymrnr.reduction import reduce_tokens, select
from provenance import provenance
from report import publish
from timing import timed


def median_seconds(call: Any, device: str, runs: int) -> float:
    """After one call that does not count."""
    call()
    return statistics.median(timed(call, device) for _ in range(runs))


def parts(case: Case, device: str, dtype: torch.dtype, runs: int) -> dict[str, float]:
    """Milliseconds of attention, a matching and a reduction of 0.3, and the rate that breaks even."""
    batch, heads, width, grid = case.shape
    n = grid[0] * grid[1] * grid[2]
    stride = next(iter(case.settings.values())).config.stride
    q = torch.randn(batch, heads, n, width, device=device, dtype=dtype)
    where = partition(grid, stride, "random", generator=drawing(0), device=q.device)
    nearest = match(q, where, "euclidean", generator=drawing(0))
    kept = select(nearest, where, n - 3 * n // 10)
    seconds = {
        "attention": median_seconds(lambda: F.scaled_dot_product_attention(q, q, q), device, runs),
        "matching": median_seconds(
            lambda: select(match(q, where, "euclidean", generator=drawing(0)), where, n - 3 * n // 10), device, runs
        ),
        "gathers": median_seconds(lambda: [reduce_tokens(q, kept, "discard") for _ in "kv"], device, runs),
    }
    each = seconds["matching"] / case.window + seconds["gathers"]
    return {f"{name}_ms": 1000 * value for name, value in seconds.items()} | {
        "break_even_rate": each / seconds["attention"],
        "matching_share": seconds["matching"] / case.window / seconds["attention"],
    }


@torch.inference_mode()
def measure(name: str, case: Case, device: str, dtype: torch.dtype, runs: int) -> list[dict[str, Any]]:
    with torch.device(device):
        model = case.build().to(dtype).eval()
        default = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            run = partial(median_seconds, device=device, runs=runs)
            dense, _ = over_video(case, model, None, run)
            rows = [{"case": f"{name}: none", "seconds": dense, "speed_up": 1.0, "paper": None, "flops_gain": 0.0}]
            rows[0] |= parts(case, device, dtype, runs)
            for setting, accelerator in case.settings.items():
                seconds, gain = over_video(case, model, accelerator, run)
                facts = {"seconds": seconds, "speed_up": dense / seconds, "paper": case.paper.get(setting)}
                rows.append({"case": f"{name}: {setting}"} | facts | {"flops_gain": gain})
                print(rows[-1], file=sys.stderr)
        finally:
            torch.set_default_dtype(default)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "Transformer time of one video, random weights. `possible` is the speed-up if time followed operations.\n",
        "| model and setting | seconds | speed-up | possible | the paper's, A100 | attention, matching, gathers: ms"
        " | a rate pays from |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        paper = "" if row["paper"] is None else f"{row['paper']:.2f}x"
        alone = even = ""
        if "attention_ms" in row:
            alone = ", ".join(f"{row[f'{name}_ms']:.2f}" for name in ("attention", "matching", "gathers"))
            even = f"{row['break_even_rate']:.3f}"
        possible = f"{1 / (1 - row['flops_gain']):.2f}x"
        speed = f"({row['speed_up']:.2f}x)"
        lines.append(f"| {row['case']} | {row['seconds']:.2f} | {speed} | {possible} | {paper} | {alone} | {even} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--runs", type=int, default=5, help="timed calls after the first one")
    parser.add_argument("--toy", action="store_true", help="tiny models: only to see that it runs")
    parser.add_argument("--only", help="cases whose name holds this")
    parser.add_argument("--output", type=Path, help="JSON to write; the table appears beside it as .md")
    options = parser.parse_args()
    cases = {name: case for name, case in (TOY if options.toy else CASES).items() if (options.only or "") in name}
    if not cases or (options.device == "cpu" and not options.toy):
        parser.error("full-size models need --device cuda; --toy runs anywhere; --only must name a case")
    dtype = torch.float32 if options.device == "cpu" else torch.bfloat16
    rows = []
    for name, case in cases.items():
        rows += measure(name, case, options.device, dtype, options.runs)
        if options.device == "cuda":
            torch.cuda.empty_cache()
    facts = provenance("asymrnr", ("torch", "diffusers", "fastvid-accel"), options.device)
    publish(facts | {"dtype": str(dtype), "runs": options.runs, "results": rows}, table(rows), options.output)


if __name__ == "__main__":
    main()
