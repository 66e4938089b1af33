"""The fused matcher beside its reference; as a script, under Triton's interpreter on the CPU (it has to be known before
Triton is imported), with the disagreements as JSON."""

import json
import sys
from dataclasses import dataclass

import torch
from fastvid_accel.asymrnr.config import Metric
from fastvid_accel.asymrnr.matching import match
from fastvid_accel.asymrnr.partition import Grid, Partition, drawing, partition
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    grid: Grid
    width: int
    dtype: torch.dtype
    metric: Metric
    offset: float = 0.0


CASES = {
    # 90 tokens, 78 of them sources: less than a tile of either
    "one tile": Case(grid=(3, 5, 6), width=8, dtype=torch.float32, metric="dot"),
    # 1,287 sources and 168 destinations: no multiple of a tile
    "remainders": Case(grid=(5, 15, 21), width=64, dtype=torch.float32, metric="euclidean"),
    "padded heads": Case(grid=(5, 9, 13), width=80, dtype=torch.float16, metric="cosine"),
    "wide heads": Case(grid=(5, 9, 13), width=128, dtype=torch.bfloat16, metric="dot"),
    "offset": Case(grid=(8, 14, 15), width=64, dtype=torch.bfloat16, metric="euclidean", offset=30.0),
}


def tokens_of(case: Case) -> Tensor:
    """Smooth in space with a little noise, on an offset common to a head; not contiguous, as from a transformer."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(2, 2 * case.width, *(max(2, size // 3) for size in case.grid), generator=generator)
    fine = torch.nn.functional.interpolate(coarse, case.grid, mode="trilinear").flatten(2).transpose(1, 2)
    noise = 0.3 * torch.randn(fine.shape, generator=generator)
    offset = case.offset * torch.randn(2, 1, 2 * case.width, generator=generator)
    return ((fine + noise).to(case.dtype) + offset.to(case.dtype)).unflatten(2, (2, case.width)).transpose(1, 2)


def exactly(tokens: Tensor, parts: Partition, metric: Metric) -> Tensor:
    """Similarities `b heads s d` in float64."""
    sources, targets = tokens.double()[:, :, parts.sources], tokens.double()[:, :, parts.destinations]
    if metric == "euclidean":
        return -torch.cdist(sources, targets, compute_mode="donot_use_mm_for_euclid_dist").square()
    if metric == "cosine":
        sources, targets = (torch.nn.functional.normalize(x, dim=-1) for x in (sources, targets))
    return sources @ targets.transpose(2, 3)


def compare(name: str, device: torch.device) -> dict[str, float]:
    """Share of sources with the neighbour of float64, of the fused matcher and of torch's; and how far the similarity
    of the fused one is off, over the spread of similarities."""
    case = CASES[name]
    tokens = tokens_of(case)
    parts = partition(case.grid, (2, 2, 2), "random", generator=drawing(0), device=torch.device("cpu"))
    there = Partition(destinations=parts.destinations.to(device), sources=parts.sources.to(device))
    fused = match(tokens.to(device), there, case.metric, generator=drawing(0), matcher="fused")
    reference = match(tokens, parts, case.metric, generator=drawing(0), matcher="torch")
    similarity, index = exactly(tokens, parts, case.metric).max(dim=-1)
    off = (fused.similarity.cpu().double() - similarity).abs().max() / similarity.std()
    return {
        "fused": float((fused.destination.cpu() == index).double().mean()),
        "torch": float((reference.destination == index).double().mean()),
        "off": float(off),
    }


def numbers_of_duplicates(device: torch.device) -> list[int]:
    """Which destinations win where all tokens are the same, and where there are only two kinds of them."""
    grid = (4, 20, 20)  # 200 destinations: several tiles
    parts = partition(grid, (2, 2, 2), "random", generator=drawing(0), device=device)
    same = torch.ones(1, 1, 1600, 16, device=device)
    kinds = torch.ones(1, 1, 1600, 16, device=device)
    kinds[:, :, parts.destinations[:150]] = -1.0  # so that number 150 is the first of the other kind
    found = [match(tokens, parts, "euclidean", generator=drawing(0), matcher="fused") for tokens in (same, kinds)]
    return sorted({int(number) for nearest in found for number in nearest.destination.unique()})


if __name__ == "__main__":
    cpu = torch.device("cpu")
    json.dump({"cases": {name: compare(name, cpu) for name in CASES}, "first": numbers_of_duplicates(cpu)}, sys.stdout)
