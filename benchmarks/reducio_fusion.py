"""Reducio's Table 5 at toy size: how the content frame should enter the decoder; and its Table 4: how many channels.

A small Reducio-VAE is trained for each row by the recipe, with the same data, seed and steps, each in a process of its
own. Attention learns where to look in the first half of its steps, on clips that stand still (`look_steps` of each
row), and has only the other half for what all other rows do in all of theirs. PSNR and SSIM are those of validation
clips of 16 frames of 128 x 128 that no row has seen. More than one run, each with a seed of its own, shows how far
chance goes. The paper trains 437 M parameters on 400,000 clips, and its rows have one encoder in common; here each row
trains its own. Killed, it goes on in the folder `--work`.

    uv run python benchmarks/reducio_fusion.py ../shared/data --steps 1400 \
        --output benchmarks/results/reducio_fusion_<hardware>_<yyyymm>.json
    uv run python benchmarks/reducio_fusion.py --toy
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

from provenance import ROOT, provenance
from report import publish
from safetensors import safe_open

RECIPE = ROOT / "recipes" / "reducio"
PAPER = {  # table: row: PSNR and SSIM
    5: {"none": (27.91, 0.80), "linear": (30.86, 0.87), "add": (34.17, 0.93), "attention": (35.88, 0.94)},
    4: {"4": (33.17, 0.91), "8": (34.15, 0.93), "16": (35.88, 0.94), "32": (35.24, 0.94)},
}
FLAGS = {5: "--fusion", 4: "--latent-channels"}
KINDS = ("photos", "real clips")


def run_script(name: str, arguments: list[str]) -> None:
    subprocess.run([sys.executable, str(RECIPE / name), *arguments], check=True, stdout=sys.stderr)


def look_steps(row: str, options: argparse.Namespace) -> int:
    """Of the steps of a row, those on clips that stand still; every row of table 4 has attention."""
    return options.steps // 2 if options.table == 4 or row == "attention" else 0


def train(data: Path, folder: Path, row: str, seed: int, options: argparse.Namespace) -> None:
    """One row with one seed."""
    looking = look_steps(row, options)
    steps = ["--steps", str(options.steps - looking), "--look-steps", str(looking)]
    toy = ["--toy"] if options.toy else []
    window = ["--side", str(options.side), "--batch-size", str(options.batch_size)]
    words = [FLAGS[options.table], row, *steps, "--seed", str(seed), "--device", options.device]
    run_script("train_autoencoder.py", [str(data), "--output", str(folder), *words, *window, *toy])


def evaluate(data: Path, folders: list[Path], file: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Scores by folder and by kind of clip."""
    tile = ["--tile", str(options.side)] if options.side < 128 and not options.toy else []
    run_script("evaluate_autoencoder.py", [str(data), *map(str, folders), "--output", str(file), *tile])
    scores: dict[str, Any] = json.loads(file.read_text())["scores"]
    return scores


def training_time(log: Path) -> float | None:
    """In seconds, by the log, which a toy ends too early to have, and a row without such a training never has."""
    return json.loads(log.read_text().splitlines()[-1])["seconds"] if log.exists() else None


def parameters(folder: Path) -> int:
    with safe_open(folder / "vae" / "model.safetensors", "np") as file:
        return sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118  # not a mapping


def result(row: str, folders: list[Path], scores: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Medians over the seeds, and each seed's own numbers."""
    runs = [scores[str(folder)] for folder in folders]
    medians = {
        f"{measure}_{kind.replace(' ', '_')}": statistics.median(run[kind][measure] for run in runs)
        for kind in KINDS
        for measure in ("psnr", "ssim")
    }
    paper = dict(zip(("paper_psnr", "paper_ssim"), PAPER[options.table][row], strict=True))
    spent = {
        "training_time": [training_time(folder / "log.jsonl") for folder in folders],
        "look_steps": look_steps(row, options),
        "look_time": [training_time(folder / "look.jsonl") for folder in folders],
    }
    return {"case": row, "parameters": parameters(folders[0])} | medians | paper | spent | {"runs": runs}


def order_holds(results: list[dict[str, Any]], kind: str) -> bool:
    """Whether our PSNR puts the rows into the paper's order."""
    ordered = sorted(results, key=lambda row: row["paper_psnr"])
    return all(a[f"psnr_{kind}"] < b[f"psnr_{kind}"] for a, b in pairwise(ordered))


def table_of(results: list[dict[str, Any]], sentence: str) -> str:
    """Markdown."""
    lines = [
        "| row | parameters | photos dB | SSIM | real clips dB | SSIM | paper dB | SSIM |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['case']} | {row['parameters'] / 1e6:.2f} M | {row['psnr_photos']:.2f} | {row['ssim_photos']:.3f} "
        f"| {row['psnr_real_clips']:.2f} | {row['ssim_real_clips']:.3f} | {row['paper_psnr']} | {row['paper_ssim']} |"
        for row in results
    ]
    return "\n".join([*lines, "", sentence]) + "\n"


def verdict(results: list[dict[str, Any]], steps: int, still: dict[str, dict[str, float]]) -> str:
    """What the numbers say, in a sentence; and what a decoder would reach that only repeats the content frame."""
    rows = " < ".join(row["case"] for row in sorted(results, key=lambda row: row["paper_psnr"]))
    found = [
        f"{'holds' if order_holds(results, kind.replace(' ', '_')) else 'does not hold'} on {kind}" for kind in KINDS
    ]
    looked = [row["case"] for row in results if row["look_steps"]]
    of_these = f" (half of those of {', '.join(looked)} on clips that stand still)" if looked else ""
    repeated = ", ".join(f"{still[kind]['psnr']:.2f} dB on {kind}" for kind in KINDS)
    return (
        f"After {steps} steps{of_these} the paper's order by PSNR, {rows}, {' and '.join(found)}. The content frame "
        f"alone, repeated: {repeated}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder with photos/ and clips/; --toy makes up its own")
    parser.add_argument("--table", type=int, default=5, choices=sorted(PAPER), help="of the paper")
    parser.add_argument("--steps", type=int, default=1400, help="of each training")
    parser.add_argument("--side", type=int, default=32, help="of the windows to train on; other sizes decode in tiles")
    parser.add_argument("--batch-size", type=int, default=8, help="windows a step")
    parser.add_argument("--runs", type=int, default=1, help="seeds, from 0 on")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--work", type=Path, default=Path("runs/reducio_fusion"), help="folder for checkpoints and logs"
    )
    parser.add_argument("--toy", action="store_true", help="two steps of a tiny model; the numbers mean nothing")
    parser.add_argument("--output", type=Path, help="JSON to write; the table appears beside it as .md")
    options = parser.parse_args()
    if options.toy:
        options.steps, options.side, options.batch_size = 2, 32, 2
    elif options.data is None:
        parser.error("name the folder with photos/ and clips/, or try --toy")
    if options.runs < 1 or options.steps < 1:
        parser.error("--runs and --steps must be at least 1")
    with tempfile.TemporaryDirectory() as scratch:
        data, work = options.data, options.work
        if options.toy:
            sys.path.append(str(RECIPE))
            from toy_material import write_material

            data, work = Path(scratch) / "data", Path(scratch) / "work"
            write_material(data)
        stem = f"table{options.table}_side{options.side}_batch{options.batch_size}_steps{options.steps}"
        folders = {
            row: [work / f"{stem}_{row}_seed{seed}" for seed in range(options.runs)] for row in PAPER[options.table]
        }
        for row, some in folders.items():
            for seed, folder in enumerate(some):
                train(data, folder, row, seed, options)
        every = [folder for some in folders.values() for folder in some]
        scores = evaluate(data, every, work / f"{stem}.json", options)
        results = [result(row, some, scores, options) for row, some in folders.items()]
    sentence = verdict(results, options.steps, scores["content frame, still"])
    facts = provenance("reducio_fusion", ("torch", "fastvid-vae"), options.device) | {
        "weights": "trained for this by recipes/reducio/train_autoencoder.py",
        "setting": {name: getattr(options, name) for name in ("table", "steps", "side", "batch_size", "runs", "toy")},
        "verdict": sentence,
    }
    publish(facts | {"results": results}, table_of(results, sentence), options.output)


if __name__ == "__main__":
    main()
