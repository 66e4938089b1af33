"""How many operations does AsymRnR leave of CogVideoX? Every row of the paper that can be recomputed, by our formulas.

The paper counts the transformer alone, for one video of 49 x 480 x 720 in 50 steps, both branches of guidance. Its
euclidean matching carries squared norms in two more channels a head than ours does; these rows count them. Its ToMe
drops tokens before the projections, which spares those too, and compares by cosine. `other` is what is left beside
attention and the linear layers of blocks: embeddings, modulation and head, counted by torch on the meta device.

With --count, torch's counter watches diffusers' model on the meta device as well, reduced by the code that users run.

    python benchmarks/asymrnr_flops.py --count CVX-2B --output benchmarks/results/asymrnr_flops_202611.json
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from asymrnr_cases import CASES, over_video
from fastvid_accel import AsymRnR, AsymRnRConfig
from fastvid_accel.asymrnr.cost import Shape
from fastvid_accel.asymrnr.released import released
from fastvid_accel.asymrnr.schedule import Plan, make_plan, predict
from provenance import provenance
from report import publish
from torch.utils.flop_counter import FlopCounterMode

GRID, STEPS = (13, 30, 45), 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    blocks: int
    shape: Shape
    other: float


def cogvideox(blocks: int, heads: int, other: float) -> Model:
    shape = Shape(batch=2, heads=heads, head_width=64, num_tokens=17550, num_text=226)
    return Model(blocks=blocks, shape=shape, other=other)


MODELS = {"CVX-2B": cogvideox(30, 30, 0.0013e15), "CVX-5B": cogvideox(42, 48, 0.0021e15)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One number of the paper, in 10^15 operations; `note` says where it cannot be right."""

    table: int
    name: str
    paper: float
    accelerator: AsymRnR
    model: str = "CVX-2B"
    note: str = ""


def everywhere(**settings: Any) -> AsymRnR:
    return AsymRnR(AsymRnRConfig(**({"kv": ((0.0, 0.3),)} | settings)))


def scheduled(q: tuple[tuple[float, float], ...] = (), kv: tuple[tuple[float, float], ...] = ()) -> AsymRnR:
    base = released("cogvideox-2b")
    return replace(base, config=replace(base.config, q=q, kv=kv))


MISPRINT = "the paper's number fits no count of matchings"
NOTHING = everywhere(kv=())
ROWS = [
    Row(table=1, name="dense", paper=12.000, accelerator=NOTHING),
    Row(table=1, name="ToMe", paper=10.549, accelerator=everywhere(kv=(), h=((0.0, 0.10),), metric="cosine")),
    Row(table=1, name="ToMe fast", paper=10.120, accelerator=everywhere(kv=(), h=((0.0, 0.13),), metric="cosine")),
    Row(table=1, name="AsymRnR", paper=10.342, accelerator=released("cogvideox-2b", "base")),
    Row(table=1, name="AsymRnR fast", paper=9.976, accelerator=released("cogvideox-2b", "fast")),
    Row(table=1, name="dense", paper=33.220, accelerator=NOTHING, model="CVX-5B"),
    Row(table=1, name="AsymRnR", paper=29.876, accelerator=released("cogvideox-5b", "base"), model="CVX-5B"),
    Row(table=1, name="AsymRnR fast", paper=29.190, accelerator=released("cogvideox-5b", "fast"), model="CVX-5B"),
    Row(table=2, name="Q everywhere", paper=10.204, accelerator=everywhere(kv=(), q=((0.0, 0.26),))),
    Row(table=2, name="V everywhere", paper=10.276, accelerator=everywhere(kv=((0.0, 0.25),))),
    Row(table=2, name="Q scheduled", paper=10.620, accelerator=scheduled(q=((0.6, 0.6), (0.7, 0.8)))),
    Row(table=2, name="V scheduled", paper=10.403, accelerator=scheduled(kv=((0.5, 0.4),))),
    Row(table=2, name="Q and V scheduled", paper=10.342, accelerator=released("cogvideox-2b", "base")),
    Row(table=3, name="Q and V", paper=9.9755, accelerator=released("cogvideox-2b", "fast")),
    *(
        Row(
            table=4,
            name=f"s = {s}",
            paper=paper,
            accelerator=everywhere(window=s + 1),
            note=MISPRINT if s in (1, 3) else "",
        )
        for s, paper in enumerate((10.210, 10.161, 9.968, 9.943, 9.917, 9.909))
    ),
    Row(table=5, name="random", paper=9.843, accelerator=everywhere(metric="random")),
    Row(table=5, name="dot", paper=9.914, accelerator=everywhere(metric="dot")),
    Row(table=5, name="cosine", paper=9.914, accelerator=everywhere(metric="cosine")),
    Row(table=5, name="euclidean", paper=9.917, accelerator=everywhere()),
    Row(table=5, name="euclidean, mean", paper=9.917, accelerator=everywhere(reduction="mean")),
    *(
        Row(table=6, name=f"stride {stride}", paper=paper, accelerator=everywhere(stride=stride))
        for stride, paper in (
            ((1, 2, 2), 9.979),
            ((2, 2, 2), 9.917),
            ((3, 2, 2), 9.894),
            ((4, 2, 2), 9.882),
            ((2, 3, 3), 9.879),
            ((2, 4, 4), 9.862),
        )
    ),
]


def operations(row: Row) -> float:
    """Of the whole transformer in one video."""
    model, config = MODELS[row.model], row.accelerator.config
    plan = make_plan(config, row.accelerator.table, grid=GRID, num_blocks=model.blocks, num_steps=STEPS)
    extra = 2 if config.metric == "euclidean" else 0
    costs = predict(plan, model.shape, metric=config.metric, extra_channels=extra)
    return costs.attention + costs.matching + costs.linear + model.other - spared_projections(plan, model.shape)


def spared_projections(plan: Plan, shape: Shape) -> int:
    """Four projections of each token that symmetric reduction drops before them."""
    dropped = sum(
        min(plan.window, plan.num_steps - window * plan.window) * (plan.num_tokens - cell.h)
        for row in plan.cells
        for window, cell in enumerate(row)
    )
    return 8 * shape.batch * shape.width**2 * dropped


def count(model: str) -> dict[str, float]:
    """10^15 operations of the video, dense and with each released setting, as torch counts them; minutes."""
    name = {"CVX-2B": "CogVideoX-2B, 49x480x720", "CVX-5B": "CogVideoX-5B, 49x480x720"}[model]
    case = CASES[name]

    def counted(call: Callable[[], object]) -> float:
        with FlopCounterMode(display=False) as counter:
            call()
        return float(counter.get_total_flops())

    with torch.inference_mode(), torch.device("meta"):
        transformer = case.build().eval()
        settings = {"dense": None} | case.settings
        return {setting: over_video(case, transformer, each, counted)[0] / 1e15 for setting, each in settings.items()}


def table(results: list[dict[str, Any]], counts: dict[str, dict[str, float]]) -> str:
    lines = [
        "Operations of the transformer for one video, in 10^15; `off` is ours over the paper's, less one.\n",
        "| paper's table | model | row | paper | ours | off | |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['table']} | {row['model']} | {row['name']} | {row['paper']:.3f} | {row['ours']:.3f} |"
        f" {100 * row['off']:+.3f} % | {row['note']} |"
        for row in results
    ]
    for model, found in counts.items():
        said = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
        lines.append(f"\nBy torch's counter on the meta device, {model}: {said}.")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON to write; the table appears beside it as .md")
    parser.add_argument("--count", nargs="*", default=[], choices=list(MODELS), help="models to count as well; minutes")
    options = parser.parse_args()
    results = []
    for row in ROWS:
        ours = operations(row) / 1e15
        facts = {"table": row.table, "model": row.model, "name": row.name, "paper": row.paper, "ours": ours}
        results.append(facts | {"off": ours / row.paper - 1, "note": row.note})
    counts = {model: count(model) for model in options.count}
    facts = provenance("asymrnr_flops", ("torch", "fastvid-accel"), "cpu") | {"results": results, "counted": counts}
    publish(facts, table(results, counts), options.output)


if __name__ == "__main__":
    main()
