"""Memory and time of decoding with FSAE-Lite against FSAE-Standard. The paper: 1.75 to 2 times less memory.

Both decode the same video with the first frame as reference: whole, and in pieces (Standard in tiles, Lite in chunks of
one latent frame). Memory is the resident peak of a process of its own, from the moment before the call; times come from
one process in which the cases take turns. Weights are random, so nothing is said about quality. All widths are the
published ones divided by `--narrow`. The formula's numbers for the full size stand below the table.

    uv run just bench fsae_lite_vs_standard --output benchmarks/results/fsae_lite_vs_standard_<hardware>_<yyyymm>.json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from fastvid_vae import FSAE, FSAE_LITE, FSAE_STANDARD, FSAEConfig
from fastvid_vae.cost import decode_cost
from fastvid_vae.fsae import memory
from fastvid_vae.tiling import Tiling
from provenance import provenance
from report import publish
from torch import Tensor

OURS = "FSAE lite"  # what ratios are relative to
FULL = (121, 1024, 1024)
PAPER = "1.75 to 2"
WHOLE = Tiling(time=None, height=None, width=None, overlap=0.0)
CASES = {
    "FSAE standard": (FSAE_STANDARD, WHOLE),
    OURS: (FSAE_LITE, WHOLE),
    "FSAE standard, tiles": (FSAE_STANDARD, Tiling(time=4, height=3, width=3, overlap=0.25)),
    "FSAE lite, chunks": (FSAE_LITE, Tiling(time=1, height=None, width=None, overlap=0.0)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What every case is given."""

    num_frames: int
    height: int
    width: int
    narrow: int
    runs: int
    dtype: str


class Case:
    """A model with random weights and the call that is measured."""

    def __init__(self, name: str, setting: Setting) -> None:
        published, self.tiling = CASES[name]
        self.config = narrowed(published, setting.narrow)
        dtype = getattr(torch, setting.dtype)
        torch.manual_seed(0)
        self.model = FSAE(self.config).to(dtype).eval()
        self.video = (setting.num_frames, setting.height, setting.width)
        time_stride, rows, columns = self.config.stride
        cells = ((self.video[0] - 1) // time_stride + 1, self.video[1] // rows, self.video[2] // columns)
        self.latents = torch.randn(1, self.config.latent_channels, *cells).to(dtype)
        self.reference = (torch.rand(1, 3, *self.video[1:]) * 2 - 1).to(dtype)

    @torch.inference_mode()
    def decode(self) -> Tensor:
        """Pieces are given in cells, since `--height` and `--width` may be smaller than a tile."""
        time_stride, rows, columns = self.config.stride
        tiling = self.tiling
        with self.model.tiled(
            spatial=(tiling.height * rows, tiling.width * columns) if tiling.height and tiling.width else None,
            temporal=1 + (tiling.time - 1) * time_stride if tiling.time else None,
            overlap=tiling.overlap,
        ):
            frames = self.model.decode(self.latents, reference=self.reference)
        if frames.shape != (1, 3, *self.video) or not frames.isfinite().all():
            raise RuntimeError(f"decoded {tuple(frames.shape)}; expected {self.video}, all finite")
        return frames

    def formula(self) -> int:
        return bytes_by_formula(self.config, self.tiling, self.video, itemsize=self.latents.element_size())


def narrowed(config: FSAEConfig, narrow: int) -> FSAEConfig:
    names = ("encoder_widths", "decoder_widths")
    return replace(config, **{name: tuple(width // narrow for width in getattr(config, name)) for name in names})


def bytes_by_formula(config: FSAEConfig, tiling: Tiling, video: tuple[int, int, int], *, itemsize: int) -> int:
    footprint = memory.decoder_footprint(config, itemsize=itemsize, batch=1)
    exact = config.decoder_mode != "standard"
    return memory.bytes_needed(footprint, tiling, video, strides=config.stride, exact_in_time=exact)


def measure_memory(name: str, setting: Setting) -> dict[str, Any]:
    """The resident peak of one decoding in this process, which has decoded once before."""
    case = Case(name, setting)
    case.decode()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again at what is resident now
    before = resident("VmRSS")
    case.decode()
    return {
        "memory_of_the_call_mib": resident("VmHWM") - before,
        "memory_by_formula_mib": case.formula() / 2**20,
        "parameters": sum(parameter.numel() for parameter in case.model.parameters()),
    }


def resident(field: str) -> float:
    """MiB, from a field of Linux's /proc/self/status."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 2**10


def measure_apart(name: str, setting: Setting) -> dict[str, Any]:
    """The same in a process of its own, whose allocator gives every larger block back at once."""
    command = [sys.executable, __file__, "--case", name, "--setting", json.dumps(asdict(setting))]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    measured: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return measured


def measure_seconds(setting: Setting) -> dict[str, list[float]]:
    """Seconds of every case, taken in turns so that a busy moment meets them all; the first turn is not counted."""
    cases = {name: Case(name, setting) for name in CASES}
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(1 + setting.runs):
        for name, case in cases.items():
            start = time.perf_counter()
            case.decode()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def full_size() -> dict[str, float]:
    """GB in half precision for `FULL`, by the formula: the whole video at once, and in the pieces of `decode`."""
    sizes = {}
    for name, config in (("standard", FSAE_STANDARD), ("lite", FSAE_LITE)):
        cost = decode_cost(config, FULL)
        sizes[f"{name}_whole"] = bytes_by_formula(config, WHOLE, FULL, itemsize=2) / 1e9
        sizes[f"{name}_pieces"] = cost.activation_bytes / 1e9
        sizes[f"{name}_weights"] = cost.weight_bytes / 1e9
    return sizes


def table(results: list[dict[str, Any]], sizes: dict[str, float]) -> str:
    """Markdown; in brackets multiples of Lite's."""
    ours = next(result for result in results if result["model"] == OURS)
    lines = ["| model | decode s | decode MiB | MiB by formula |", "|---|---|---|---|"]
    for result in results:
        fields = ("seconds_median", "memory_of_the_call_mib", "memory_by_formula_mib")
        forms = (".3f", ",.0f", ",.0f")
        cells = [
            f"{result[field]:{form}} ({result[field] / ours[field]:.2f}x)"
            for field, form in zip(fields, forms, strict=True)
        ]
        lines.append(f"| {result['model']} | {' | '.join(cells)} |")
    ratio = sizes["standard_whole"] / sizes["lite_whole"]
    totals = {name: sizes[f"{name}_pieces"] + sizes[f"{name}_weights"] for name in ("standard", "lite")}
    lines.append(
        f"\nFull size, 121 x 1024 x 1024 in half precision, by the formula: decoding the whole video at once takes "
        f"{sizes['standard_whole']:.0f} GB (standard) and {sizes['lite_whole']:.0f} GB (lite), {ratio:.2f} times less "
        f"(the paper: {PAPER}). As `decode` does it, weights included: {totals['standard']:.1f} GB in tiles "
        f"(standard), {totals['lite']:.1f} GB in chunks (lite)."
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-frames", type=int, default=17, help="1 + 4k")
    parser.add_argument("--height", type=int, default=128, help="a multiple of 64")
    parser.add_argument("--width", type=int, default=256, help="a multiple of 64")
    parser.add_argument("--narrow", type=int, default=4, choices=(1, 2, 4, 8), help="divisor of all published widths")
    parser.add_argument("--runs", type=int, default=5, help="timed turns after the first one")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--toy", action="store_true", help="9 frames of 64 x 64, an eighth of the widths")
    parser.add_argument("--output", type=Path, help="JSON to write; the table appears beside it as .md")
    parser.add_argument("--case", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure_memory(options.case, Setting(**json.loads(options.setting)))))
        return
    if (options.num_frames - 1) % 4 or options.height % 64 or options.width % 64 or options.runs < 1:
        parser.error("--num-frames must be 1 + 4k, --height and --width multiples of 64, --runs at least 1")
    setting = Setting(**{name: getattr(options, name) for name in Setting.__dataclass_fields__})
    if options.toy:
        setting = replace(setting, num_frames=9, height=64, width=64, narrow=8)
    seconds = measure_seconds(setting)
    results = [
        {
            "model": name,
            "seconds_median": statistics.median(seconds[name]),
            "seconds_min": min(seconds[name]),
            "seconds_max": max(seconds[name]),
        }
        | measure_apart(name, setting)
        for name in CASES
    ]
    sizes = full_size()
    facts = provenance("fsae_lite_vs_standard", ("torch", "fastvid-vae"), "cpu") | {
        "warm_up": 1,
        "setting": asdict(setting),
    }
    publish(facts | {"results": results, "full_size_gb_by_formula": sizes}, table(results, sizes), options.output)


if __name__ == "__main__":
    main()
