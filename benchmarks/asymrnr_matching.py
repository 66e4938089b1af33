"""What does one matching of AsymRnR take, in time and memory, at full size? And does it find the right neighbours?

Time, and memory beside the tokens themselves, in processes of their own, at several sizes of the chunks; and the share
of sources whose neighbour in bfloat16 is that of float64, on features with a large offset common to a head.

    python benchmarks/asymrnr_matching.py --output benchmarks/results/asymrnr_matching_xeon_2core_202611.json
"""

import argparse
import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fastvid_accel.asymrnr.matching import Matcher, match
from fastvid_accel.asymrnr.partition import Grid, Partition, drawing, partition
from provenance import provenance
from report import publish
from timing import measure_apart, peak_gigabytes, timed
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """`heads` None: all; fewer take proportionally less time."""

    device: str
    heads: int | None
    toy: bool


SIZES: dict[str, tuple[int, int, int, Grid]] = {
    "CogVideoX-2B, n = 17550": (2, 30, 64, (13, 30, 45)),
    "Wan-14B 720p, n = 75600": (1, 40, 128, (21, 45, 80)),
}
WORKSPACES = (2**26, 2**28)
CASES: dict[str, tuple[str, Matcher, int]] = {
    f"{name}, {workspace >> 20} MiB": (name, "torch", workspace) for name in SIZES for workspace in WORKSPACES
}
FUSED: dict[str, tuple[str, Matcher, int]] = {f"{name}, fused": (name, "fused", 0) for name in SIZES}
"""On a GPU."""

MATCHERS: tuple[tuple[Matcher, str], ...] = (("torch", ""), ("fused", " fused"))


def tokens_of(name: str, setting: Setting) -> tuple[Tensor, Partition]:
    batch, heads, width, grid = SIZES[name]
    if setting.toy:
        heads, grid = 2, (4, 6, 6)
    heads = min(heads, setting.heads or heads)
    parts = partition(grid, (2, 2, 2), "random", generator=drawing(0), device=torch.device(setting.device))
    return torch.randn(batch, heads, grid[0] * grid[1] * grid[2], width, dtype=torch.bfloat16).to(setting.device), parts


def measure(case: str, setting: Setting) -> dict[str, Any]:
    """One matching, after a small one that does not count; on a GPU after another of the same size, which compiles."""
    name, matcher, workspace = (CASES | FUSED)[case]
    tokens, parts = tokens_of(name, setting)
    small, small_parts = tokens_of(name, replace(setting, toy=True))
    run = partial(match, metric="euclidean", generator=drawing(0), matcher=matcher, workspace=workspace)
    run(small, small_parts)
    before = peak_gigabytes(setting.device)
    if setting.device == "cuda":
        run(tokens, parts)
    seconds = timed(lambda: run(tokens, parts), setting.device)
    all_heads = 2 if setting.toy else SIZES[name][1]
    return {
        "seconds": seconds,
        "heads": tokens.shape[1],
        "seconds_all_heads": seconds * all_heads / tokens.shape[1],
        "extra_gigabytes": max(0.0, peak_gigabytes(setting.device) - before),
    }


def agreement(setting: Setting) -> dict[str, float]:
    """Of one head at the first size: smooth features, a little noise, and an offset 30 times as large as either."""
    name = next(iter(SIZES))
    width, grid = SIZES[name][2], (4, 6, 6) if setting.toy else SIZES[name][3]
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, width, *(max(2, size // 3) for size in grid), generator=generator)
    fine = torch.nn.functional.interpolate(coarse, grid, mode="trilinear").flatten(2).transpose(1, 2)
    noise = 0.3 * torch.randn(fine.shape, generator=generator)
    offset = 30 * torch.randn(1, 1, width, generator=generator)
    parts = partition(grid, (2, 2, 2), "random", generator=drawing(0), device=torch.device("cpu"))
    out = {}
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        tokens = (fine + noise).to(dtype) + offset.to(dtype)
        exact = nearest_exactly(tokens.double(), parts)
        there, name = tokens[None].to(setting.device), str(dtype).removeprefix("torch.")
        for matcher, suffix in MATCHERS if setting.device == "cuda" else MATCHERS[:1]:
            found = match(there, parts_on(parts, setting), "euclidean", generator=drawing(0), matcher=matcher)
            out[name + suffix] = float((found.destination[0, 0].cpu() == exact).double().mean())
    return out


def parts_on(parts: Partition, setting: Setting) -> Partition:
    return Partition(destinations=parts.destinations.to(setting.device), sources=parts.sources.to(setting.device))


def nearest_exactly(tokens: Tensor, parts: Partition) -> Tensor:
    sources, targets = tokens[0, parts.sources], tokens[0, parts.destinations]
    rows = sources.split(1024)
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cat([torch.cdist(row, targets, compute_mode=mode).argmin(dim=1) for row in rows])


def table(rows: list[dict[str, Any]], same: dict[str, float]) -> str:
    lines = [
        "One matching, euclidean, stride (2, 2, 2), bfloat16 tokens.\n",
        "| size and workspace | heads measured | seconds | seconds, all heads | extra memory, GB |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['case']} | {row['heads']} | {row['seconds']:.3g} | {row['seconds_all_heads']:.3g} |"
        f" {row['extra_gigabytes']:.2f} |"
        for row in rows
    ]
    shares = ", ".join(f"{name} {100 * share:.2f} %" for name, share in same.items())
    return "\n".join(lines) + f"\n\nSources with the neighbour of float64, beside a large common offset: {shares}.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--heads", type=int, help="measure with fewer heads, where all take too long")
    parser.add_argument("--toy", action="store_true", help="tiny grids: only to see that it runs")
    parser.add_argument("--output", type=Path, help="JSON to write; the table appears beside it as .md")
    parser.add_argument("--case", choices=[*CASES, *FUSED], help=argparse.SUPPRESS)
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.case, Setting(**json.loads(options.setting)))))
        return
    setting = Setting(device=options.device, heads=options.heads, toy=options.toy)
    cases = [*CASES, *FUSED] if setting.device == "cuda" else [*CASES]
    rows = [{"case": case} | measure_apart(__file__, case, setting) for case in cases]
    same = agreement(setting)
    facts = provenance("asymrnr_matching", ("torch", "fastvid-accel"), options.device) | {"setting": asdict(setting)}
    publish(facts | {"results": rows, "same_neighbour_as_float64": same}, table(rows, same), options.output)


if __name__ == "__main__":
    main()
