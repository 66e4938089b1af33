"""OD-VAE's initialisations at toy size: PSNR over steps on validation clips, as in the paper's figure 4 (d).

An image autoencoder is trained on the photos and clips of the recipe, then one small OD-VAE for each initialisation,
with the same data, seed and steps; the curve is that of the moving average of its weights, on clips that no training
sees, and the mean over the seeds. The paper trains 239 M parameters for 150,000 steps and finds tail best, then
average, then random; `center` is in the report of version 1.0. Killed, it goes on in the folder `--work`.

    uv run python benchmarks/odvae_initialisation.py ../shared/data --steps 1500 \
        --output benchmarks/results/odvae_initialisation_<hardware>_<yyyymm>.json
    uv run python benchmarks/odvae_initialisation.py --toy
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from curves import draw
from provenance import ROOT, provenance
from report import publish

RECIPE = ROOT / "recipes" / "odvae"
INITIALISATIONS = ("tail", "average", "center", "random")
PAPER_ORDER = ("tail", "average", "random")


def run_script(name: str, data: Path, folder: Path, steps: int, options: argparse.Namespace, *words: str) -> None:
    toy = ["--toy"] if options.toy else []
    shared = ["--output", str(folder), "--steps", str(steps), "--side", str(options.side), "--device", options.device]
    command = [sys.executable, str(RECIPE / name), str(data), *shared, *toy, *words]
    subprocess.run(command, check=True, stdout=sys.stderr)


def curves(data: Path, work: Path, options: argparse.Namespace) -> dict[str, list[tuple[int, float]]]:
    """Steps and PSNR, by initialisation."""
    run_script("train_image_autoencoder.py", data, work / "image", options.image_steps, options)
    found = {}
    for name in options.initialisations:
        runs = []
        for seed in range(options.runs):
            words = ["--image-vae", str(work / "image" / "image_vae"), "--initialisation", name, "--seed", str(seed)]
            words += ["--validate-every", str(options.validate_every), "--batch-size", str(options.batch_size)]
            folder = work / f"{name}_seed{seed}"
            run_script("train_autoencoder.py", data, folder, options.steps, options, *words)
            runs.append(json.loads((folder / "curve.json").read_text()))
        steps = sorted(runs[0], key=int)
        found[name] = [(int(step), statistics.mean(run[step]["average"] for run in runs)) for step in steps]
    return found


def verdict(found: dict[str, list[tuple[int, float]]], steps: int) -> str:
    """What the numbers say, in a sentence."""
    last = {name: points[-1][1] for name, points in found.items()}
    shared = [name for name in PAPER_ORDER if name in last]
    holds = all(last[a] > last[b] for a, b in pairwise(shared))
    values = ", ".join(f"{name} {last[name]:.2f} dB" for name in sorted(last, key=lambda name: -last[name]))
    return (
        f"After {steps} steps: {values}. The paper's order, {' > '.join(shared)}, "
        f"{'holds' if holds else 'does not hold'}."
    )


def table_of(found: dict[str, list[tuple[int, float]]], sentence: str) -> str:
    """Markdown."""
    steps = [step for step, _ in next(iter(found.values()))]
    shown = steps[:: max(1, len(steps) // 6)]
    lines = [f"| PSNR in dB at step | {' | '.join(map(str, shown))} |", "|---" * (len(shown) + 1) + "|"]
    for name, points in found.items():
        by_step = dict(points)
        lines.append(f"| {name} | {' | '.join(f'{by_step[step]:.2f}' for step in shown)} |")
    return "\n".join([*lines, "", sentence]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder with photos/ and clips/; --toy makes up its own")
    parser.add_argument("--steps", type=int, default=1500, help="of each OD-VAE")
    parser.add_argument("--image-steps", type=int, default=2000, help="of the image autoencoder")
    parser.add_argument("--side", type=int, default=64, help="of the windows to train on, in pixels")
    parser.add_argument("--batch-size", type=int, default=2, help="clips of a step")
    parser.add_argument("--validate-every", type=int, default=100, help="steps between two points")
    parser.add_argument(
        "--initialisations", nargs="+", default=INITIALISATIONS, choices=INITIALISATIONS, help="which to compare"
    )
    parser.add_argument("--runs", type=int, default=1, help="seeds, from 0 on")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--work", type=Path, default=Path("runs/odvae_initialisation"), help="folder for checkpoints and logs"
    )
    parser.add_argument("--toy", action="store_true", help="two steps of a tiny model; the numbers mean nothing")
    parser.add_argument("--output", type=Path, help="JSON to write; table and figure appear beside it as .md and .svg")
    options = parser.parse_args()
    if options.toy:
        options.steps, options.image_steps, options.validate_every, options.side = 2, 1, 1, 32
    elif options.data is None:
        parser.error("name the folder with photos/ and clips/, or try --toy")
    with tempfile.TemporaryDirectory() as scratch:
        data, work = options.data, options.work
        if options.toy:
            sys.path.append(str(ROOT / "recipes" / "reducio"))
            from toy_material import write_material

            data, work = Path(scratch) / "data", Path(scratch) / "work"
            write_material(data)
        found = curves(data, work, options)
    sentence = verdict(found, options.steps)
    names = ("steps", "image_steps", "side", "batch_size", "validate_every", "runs", "toy")
    facts: dict[str, Any] = provenance("odvae_initialisation", ("torch", "fastvid-vae"), options.device) | {
        "weights": "trained for this by recipes/odvae",
        "setting": {name: getattr(options, name) for name in names},
        "verdict": sentence,
    }
    results = [{"case": name, "psnr": points[-1][1], "curve": points} for name, points in found.items()]
    publish(facts | {"results": results}, table_of(found, sentence), options.output)
    if options.output:
        figure = draw(found, x="training step", y="PSNR on validation clips, dB")
        options.output.with_suffix(".svg").write_text(figure)


if __name__ == "__main__":
    main()
