"""What does AsymRnR cost the embedded model in quality, for what it saves? Against ToMe and against chance.

All ways save the same share of the transformer's operations, by formula and matching paid for. Each makes the same
videos of validation photos; PSNR is to the video without acceleration, and to the exact warp of the photo over the
pixels that frame 0 shows. The schedule is measured on one training photo. ToMe reduces queries, keys and values
together; the paper's also spares the projections of dropped tokens, which the second row of it credits, so that it may
keep more tokens.

    python benchmarks/asymrnr_embedded.py ../shared/data --output benchmarks/results/asymrnr_embedded_202611.json
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from embedded_videos import make, psnr
from fastvid_accel import AsymRnR, AsymRnRConfig, Calibrator
from fastvid_accel.asymrnr.cost import Shape
from fastvid_accel.asymrnr.schedule import make_plan, predict
from fastvid_pipelines import FSVideoPipeline
from provenance import provenance
from report import publish

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "embedded"))

from camera_motion import MOTIONS, STILL
from data import Photos
from evaluate import TIMES, masked_psnr

WINDOW, STRIDE = 2, (2, 2, 2)
CALIBRATED_ON = "the camera pans left"
Rates = tuple[tuple[float, float], ...]


def everywhere(rate: float, features: str, **settings: Any) -> AsymRnR:
    rates: dict[str, Rates] = {name: ((0.0, rate),) if name in features.split() else () for name in ("q", "kv", "h")}
    return AsymRnR(AsymRnRConfig(**rates, window=WINDOW, stride=STRIDE, min_gain=0.0, **settings))


UNSCHEDULED: dict[str, Callable[[float], AsymRnR]] = {
    "asymmetric": lambda rate: everywhere(rate, "q kv"),
    "queries only": lambda rate: everywhere(rate, "q"),
    "keys and values only": lambda rate: everywhere(rate, "kv"),
    "ToMe": lambda rate: everywhere(rate, "h", metric="cosine", reduction="mean"),
    "ToMe, projections credited": lambda rate: everywhere(rate, "h", metric="cosine", reduction="mean"),
    "random": lambda rate: everywhere(rate, "q kv", metric="random"),
}


def saved(accelerator: AsymRnR, shape: Shape, grid: tuple[int, int, int], blocks: int, steps: int, name: str) -> float:
    plan = make_plan(accelerator.config, accelerator.table, grid=grid, num_blocks=blocks, num_steps=steps)
    cost = predict(plan, shape, metric=accelerator.config.metric)
    credit = 0.0
    if "credited" in name:  # four projections of the 24 that linear layers are counted with, for each dropped token
        dropped = 1 - plan.cells[0][0].h / plan.num_tokens
        credit = 8 / 24 * dropped * cost.linear / (cost.dense_attention + cost.linear)
    return cost.gain + credit


def at_saving(build: Callable[[float], AsymRnR], saving: float, measure: Callable[[AsymRnR], float]) -> AsymRnR:
    """The lowest rate, in thousandths, that saves as much."""
    low, high = 1, 875
    if measure(build(high / 1000)) < saving:
        raise ValueError(f"a saving of {saving} is out of reach")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if measure(build(middle / 1000)) >= saving else (middle + 1, high)
    return build(low / 1000)


def accelerators(pipe: FSVideoPipeline, data: Path, savings: list[float]) -> dict[tuple[str, float], AsymRnR]:
    """Every way at every saving; the schedule from the first training photo."""
    photo, _ = Photos(data, "train").centred(0, MOTIONS[CALIBRATED_ON], TIMES, pipe.sampling.height)
    calibrator = Calibrator(stride=STRIDE, window=WINDOW)
    report = dict(make(pipe, photo[:, 0], CALIBRATED_ON, calibrator).acceleration)
    shape, steps = Shape(**report["shape"]), pipe.sampling.num_inference_steps
    blocks = len(report["distances"]["q"])
    grid = (report["grid"][0], report["grid"][1], report["grid"][2])
    chosen = {}
    for saving in savings:
        chosen["asymmetric, scheduled", saving] = calibrator.accelerator(report, model="embedded", saving=saving)
        chosen["queries only, scheduled", saving] = calibrator.accelerator(
            report, model="embedded", saving=saving, kv_rate=0.0
        )
        for name, build in UNSCHEDULED.items():
            chosen[name, saving] = at_saving(
                build, saving, lambda one, name=name: saved(one, shape, grid, blocks, steps, name)
            )
    return chosen


def measure(pipe: FSVideoPipeline, data: Path, num_photos: int, savings: list[float]) -> list[dict[str, Any]]:
    ways = accelerators(pipe, data, savings)
    photos = Photos(data, "validation")
    moving = [name for name in MOTIONS if name != STILL]
    rows = {key: {"exact": [], "truth": [], "removed": []} for key in [("none", 0.0), *ways]}
    for index in range(min(num_photos, len(photos.names))):
        prompt = moving[index % len(moving)]
        truth, mask = photos.centred(index, MOTIONS[prompt], TIMES, pipe.sampling.height)
        exact = make(pipe, truth[:, 0], prompt, None).frames[0]
        for key, row in rows.items():
            clip = make(pipe, truth[:, 0], prompt, ways[key]) if key in ways else None
            frames = exact if clip is None else clip.frames[0]
            row["exact"].append(psnr(frames, exact))
            row["truth"].append(masked_psnr(frames[:, 1:], truth[:, 1:], mask[1:]))
            row["removed"].append(0.0 if clip is None else clip.acceleration["flops"]["removed_share"])
        print(f"photo {index + 1} of {num_photos}", file=sys.stderr)
    return [
        {
            "case": f"{name}, {saving:.0%}" if saving else name,
            "way": name,
            "saving": saving,
            "videos": len(row["exact"]),
        }
        | {
            "removed_share": mean(row["removed"]),
            "psnr_to_exact": mean(row["exact"]),
            "psnr_to_truth": mean(row["truth"]),
        }
        | {"settings": ways[name, saving].config.to_json() if saving else None}
        for (name, saving), row in rows.items()
    ]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"Mean of {rows[0]['videos']} videos, each of another validation photo, eight camera motions in turn.\n",
        "| way | operations saved | PSNR to the unaccelerated video | PSNR to the true clip |",
        "|---|---|---|---|",
    ]
    for row in rows:
        exact = "" if row["way"] == "none" else f"{row['psnr_to_exact']:.2f}"
        lines.append(f"| {row['way']} | {100 * row['removed_share']:.1f} % | {exact} | {row['psnr_to_truth']:.2f} |")
    lines += ["", *(order(rows, saving) for saving in sorted({row["saving"] for row in rows if row["saving"]}))]
    lines.append(
        "\nThe row of ToMe with projections credited drops as many tokens as save the share named there where their"
        " projections are spared too; a session cannot spare them, so what it saved here is less."
    )
    return "\n".join(lines) + "\n"


def order(rows: list[dict[str, Any]], saving: float) -> str:
    """Whether the paper's order holds."""
    value = {row["way"]: row["psnr_to_exact"] for row in rows if row["saving"] == saving}
    claimed = ("asymmetric, scheduled", "asymmetric", "ToMe", "random")
    found = sorted(claimed, key=lambda way: -value[way])
    said = "holds" if tuple(found) == claimed else f"does not hold: {' > '.join(found)}"
    best = max(value, key=lambda way: value[way])
    return f"At {saving:.0%}: the paper's order, {' > '.join(claimed)}, {said}. The best of all is {best}.\n"


def figure(rows: list[dict[str, Any]]) -> str:
    """PSNR to the unaccelerated video over operations saved, as SVG."""
    points = [row for row in rows if row["saving"]]
    ways = list(dict.fromkeys(row["way"] for row in points))
    colours = ("#1b6ca8", "#5aa9e6", "#c0392b", "#e67e22", "#8e44ad", "#27ae60", "#2ecc71", "#7f8c8d")
    xs, ys = ([row[key] for row in points] for key in ("removed_share", "psnr_to_exact"))
    x_high, (low, high) = 1.1 * max(xs), (min(ys) - 1, max(ys) + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        return 60 + 400 * x / x_high, 20 + 300 * (high - y) / (high - low)

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 370" font-family="sans-serif" font-size="12">',
        '<rect width="700" height="370" fill="white"/>',
        '<path d="M60 20V320H460" fill="none" stroke="black"/>',
        '<text x="260" y="360" text-anchor="middle">share of operations saved</text>',
        '<text x="16" y="170" text-anchor="middle" transform="rotate(-90 16 170)">PSNR to the unaccelerated, dB</text>',
    ]
    for tick in range(5):
        x, y = tick * x_high / 4, low + tick * (high - low) / 4
        parts.append(f'<text x="{place(x, low)[0]:.0f}" y="338" text-anchor="middle">{100 * x:.1f} %</text>')
        parts.append(f'<text x="54" y="{place(0, y)[1] + 4:.0f}" text-anchor="end">{y:.1f}</text>')
    for number, (way, colour) in enumerate(zip(ways, colours, strict=False)):
        line = [place(row["removed_share"], row["psnr_to_exact"]) for row in points if row["way"] == way]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in line]
        parts.append(f'<text x="480" y="{40 + 22 * number}" fill="{colour}">{way}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with photos/ and clips/")
    parser.add_argument("--photos", type=int, default=8, help="how many validation photos, one video of each")
    parser.add_argument("--savings", type=float, nargs="+", default=[0.04, 0.08], help="shares of operations")
    parser.add_argument("--model", type=Path, help="a pipeline folder; the embedded model where it is not given")
    parser.add_argument("--steps", type=int, help="of the solver; the pipeline's own where it is not given")
    parser.add_argument("--output", type=Path, help="JSON to write; a table and a figure appear beside it")
    options = parser.parse_args()
    pipe = FSVideoPipeline.from_pretrained(options.model) if options.model else FSVideoPipeline.default()
    if options.steps:
        pipe.sampling = replace(pipe.sampling, num_inference_steps=options.steps)
    rows = measure(pipe, options.data, options.photos, options.savings)
    facts = provenance("asymrnr_embedded", ("torch", "fastvid-accel", "fastvid-dit"), "cpu") | {"weights": "embedded"}
    publish(facts | {"results": rows}, table(rows), options.output)
    if options.output:
        options.output.with_suffix(".svg").write_text(figure(rows))


if __name__ == "__main__":
    main()
