"""How much faster do transformers run with AsymRnR? Blocks of diffusers' models at full size, random weights, on a GPU.

What a block takes depends on how many tokens stay, and on whether it matches; a schedule has few such pairs of rates.
So each pair is timed once in a model of few blocks, in a step that matches and in one that does not, and the times are
summed over the blocks and steps of a whole video. They do not depend on what the weights are; quality does, and nothing
is said of it here. Beside them the parts, alone: attention of all tokens, a matching by torch and by the fused kernel,
the selection, the gathers of each feature; and the rate from which reducing a feature pays.

    python benchmarks/asymrnr.py --device cuda --output benchmarks/results/asymrnr_h200_202611.json
"""

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from asymrnr_cases import CASES, TOY, Case
from fastvid_accel import AsymRnR, AsymRnRConfig
from fastvid_accel.asymrnr.config import Rates, exact
from fastvid_accel.asymrnr.cost import Shape
from fastvid_accel.asymrnr.matching import match, matcher_for
from fastvid_accel.asymrnr.partition import drawing, partition
from fastvid_accel.asymrnr.reduction import num_kept, reduce_tokens, restore_tokens, select
from fastvid_accel.asymrnr.schedule import Plan, make_plan, predict
from fastvid_accel.integrations.diffusers import accelerate
from provenance import provenance
from report import publish
from timing import timed
from torch.nn.attention import SDPBackend, sdpa_kernel

Pair = tuple[float, float]
"""Rates of queries, and of keys and values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Of how, in the order of a run.

    Attributes:
        device: `cpu` or `cuda`.
        runs: timed calls after one that does not count; their median does.
    """

    device: str
    dtype: torch.dtype
    runs: int

    def median(self, call: Callable[[], object]) -> float:
        """Seconds."""
        call()
        return statistics.median(timed(call, self.device) for _ in range(self.runs))

    def kernel(self, backend: SDPBackend) -> AbstractContextManager[Any]:
        """Attention of torch by this kernel and no other, on a GPU."""
        return sdpa_kernel([backend]) if self.device == "cuda" else nullcontext()


def parts(case: Case, timing: Timing) -> dict[str, Any]:
    """Milliseconds of attention without text, and of each thing that a reduction of 0.3 does, for each feature."""
    batch, heads, width, grid = case.shape
    n = grid[0] * grid[1] * grid[2]
    m = n - 3 * n // 10
    stride = next(iter(case.settings.values())).config.stride
    q = torch.randn(batch, heads, n, width, device=timing.device, dtype=timing.dtype)
    where = partition(grid, stride, "random", generator=drawing(0), device=q.device)
    chosen = matcher_for(q.device)
    matchers = sorted({"torch", chosen})
    seconds = {
        f"matching_{name}": timing.median(
            lambda name=name: match(q, where, "euclidean", generator=drawing(0), matcher=name)
        )
        for name in matchers
    }
    nearest = match(q, where, "euclidean", generator=drawing(0))
    kept = select(nearest, where, m)
    with timing.kernel(SDPBackend.FLASH_ATTENTION):
        seconds["attention"] = timing.median(lambda: F.scaled_dot_product_attention(q, q, q))
    seconds |= {
        "selection": timing.median(lambda: select(nearest, where, m)),
        "gathers_q": timing.median(lambda: restore_tokens(reduce_tokens(q, kept, "discard"), kept)),
        "gathers_kv": timing.median(lambda: [reduce_tokens(q, kept, "discard") for _ in "kv"]),
    }
    a_match = (seconds[f"matching_{chosen}"] + seconds["selection"]) / case.window
    return {f"{name}_ms": 1000 * value for name, value in seconds.items()} | {
        "matcher": chosen,
        "matching_share": a_match / seconds["attention"],
        "break_even_q": (a_match + seconds["gathers_q"]) / seconds["attention"],
        "break_even_kv": (a_match + seconds["gathers_kv"]) / seconds["attention"],
    }


def plan_of(case: Case, setting: AsymRnR) -> Plan:
    blocks = setting.table.num_blocks if setting.table is not None else case.scale
    return make_plan(setting.config, setting.table, grid=case.shape[3], num_blocks=blocks, num_steps=case.steps)


def pairs_of(case: Case, setting: AsymRnR) -> Counter[tuple[Pair, int]]:
    """How often each pair of rates holds over a window of so many steps, in a model of `scale` times few blocks."""
    plan = plan_of(case, setting)

    def rate(kept: int, rates: Rates) -> float:
        if kept == plan.num_tokens:
            return 0.0
        given = {num_kept(plan.num_tokens, plan.num_destinations, exact(rate)): rate for _, rate in rates}
        return given[kept]

    counts: Counter[tuple[Pair, int]] = Counter()
    for row in plan.cells:
        for window, cell in enumerate(row):
            length = min(plan.window, plan.num_steps - window * plan.window)
            counts[(rate(cell.q, setting.config.q), rate(cell.kv, setting.config.kv)), length] += 1
    return counts


def times(case: Case, model: Any, pair: Pair, setting: AsymRnRConfig, timing: Timing) -> tuple[float, float]:
    """Seconds of a forward pass with these rates in every block: of one that matches, and of one that does not."""
    inputs = case.inputs()
    q, kv = (((0.0, rate),) if rate else () for rate in pair)
    config = AsymRnRConfig(q=q, kv=kv, stride=setting.stride, metric=setting.metric, window=2, min_gain=0.0)
    pipe = SimpleNamespace(transformer=model, scheduler=SimpleNamespace(timesteps=torch.linspace(999, 0, 2)))
    seconds: tuple[list[float], list[float]] = ([], [])
    with accelerate(pipe, AsymRnR(config)) as acceleration:
        for _ in range(timing.runs + 1):  # the first one does not count; each begins another video
            for step in (0, 1):
                with model.cache_context("cond", step_index=step):
                    seconds[step].append(timed(lambda: model(**inputs), timing.device))
        matchings = acceleration.report()["matchings"]
        assert matchings == acceleration.num_layers * sum(map(bool, pair))  # of the last video: the first step's
    return statistics.median(seconds[0][1:]), statistics.median(seconds[1][1:])


@torch.inference_mode()
def measure(name: str, case: Case, timing: Timing) -> list[dict[str, Any]]:
    default = torch.get_default_dtype()
    torch.set_default_dtype(timing.dtype)
    try:
        with torch.device(timing.device), timing.kernel(case.attention):
            model = case.few().eval()
            inputs = case.inputs()
            dense = timing.median(lambda: model(**inputs))
            whole = case.branches * case.steps * case.scale * dense
            rows = [{"case": f"{name}: none", "seconds": whole, "speed_up": 1.0, "paper": None, "flops_gain": 0.0}]
            known: dict[Pair, tuple[float, float]] = {(0.0, 0.0): (dense, dense)}
            for setting, accelerator in case.settings.items():
                counts = pairs_of(case, accelerator)
                for pair in {pair for pair, _ in counts} - known.keys():
                    known[pair] = times(case, model, pair, accelerator.config, timing)
                blocks = sum(count * length for (_, length), count in counts.items()) / case.steps
                passes = sum(
                    count * (known[pair][0] + (length - 1) * known[pair][1]) for (pair, length), count in counts.items()
                )
                seconds = case.branches * case.scale * passes / blocks
                rows.append(
                    {
                        "case": f"{name}: {setting}",
                        "seconds": seconds,
                        "speed_up": whole / seconds,
                        "paper": case.paper.get(setting),
                        "flops_gain": flops_gain(case, accelerator),
                        "block_ms": {
                            f"q {q}, kv {kv}": [1000 * each / blocks_of(model) for each in known[q, kv]]
                            for q, kv in sorted({pair for pair, _ in counts})
                        },
                    }
                )
                print(rows[-1], file=sys.stderr)
            del model, inputs
        rows[0] |= parts(case, timing)
    finally:
        torch.set_default_dtype(default)
    return rows


def blocks_of(model: Any) -> int:
    config = model.config
    return int(config.num_layers + config.get("num_single_layers", 0))


def flops_gain(case: Case, setting: AsymRnR) -> float:
    batch, heads, width, grid = case.shape
    tokens = grid[0] * grid[1] * grid[2]
    shape = Shape(batch=batch, heads=heads, head_width=width, num_tokens=tokens, num_text=case.text)
    return predict(plan_of(case, setting), shape, metric=setting.config.metric).gain


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "Transformer time of one video, from the times of its blocks; random weights. `possible` is the speed-up if"
        " time followed operations.\n",
        "| model and setting | seconds | speed-up | possible | the paper's, A100 |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        paper = "" if row["paper"] is None else f"{row['paper']:.2f}x"
        possible = f"{1 / (1 - row['flops_gain']):.2f}x"
        lines.append(f"| {row['case']} | {row['seconds']:.2f} | ({row['speed_up']:.2f}x) | {possible} | {paper} |")
    names = ("attention", "matching_fused", "matching_torch", "selection", "gathers_q", "gathers_kv")
    lines += [
        "\nThe parts alone, in milliseconds, at a rate of 0.3; and matching with its selection, spread over a window,"
        " as a share of attention.\n",
        "| " + " | ".join(["model", *names, "matching's share", "q pays from", "kv pays from"]) + " |",
        "|---" * (len(names) + 4) + "|",
    ]
    for row in rows:
        if "attention_ms" in row:
            times_of = [f"{row[f'{name}_ms']:.2f}" if f"{name}_ms" in row else "not here" for name in names]
            shares = [
                f"{100 * row['matching_share']:.1f} %",
                f"{row['break_even_q']:.3f}",
                f"{row['break_even_kv']:.3f}",
            ]
            lines.append("| " + " | ".join([row["case"].removesuffix(": none"), *times_of, *shares]) + " |")
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
    timing = Timing(device=options.device, dtype=dtype, runs=options.runs)
    rows = []
    for name, case in cases.items():
        rows += measure(name, case, timing)
        if options.device == "cuda":
            torch.cuda.empty_cache()
    facts = provenance("asymrnr", ("torch", "diffusers", "fastvid-accel"), options.device)
    publish(facts | {"dtype": str(dtype), "runs": options.runs, "results": rows}, table(rows), options.output)


if __name__ == "__main__":
    main()
