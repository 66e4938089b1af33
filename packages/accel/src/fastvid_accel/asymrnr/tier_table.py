"""Tables of tiers, as the authors of AsymRnR publish them, to our own."""

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastvid_accel.asymrnr.config import Metric
from fastvid_accel.asymrnr.partition import Grid
from fastvid_accel.asymrnr.similarity import Similarities, SimilarityTable

UPSTREAM_FEATURES = {"q": "q", "kv": "v", "h": "h"}
"""Our name, theirs. A tier of `k` has no effect in either: keys go with their values."""

INT64 = 8


def read_tiers(
    path: str | os.PathLike[str],
    *,
    levels: int,
    model: str,
    grid: Grid,
    stride: Grid,
    metric: Metric,
    window: int,
) -> SimilarityTable:
    """A safetensors file of int64 tensors `(blocks, steps)` named q, v, h, with values from 0 to levels - 1.

    Args:
        levels: 10, or 20 for Mochi; tier t becomes the similarity t / levels, so tier 7 is 0.7, or 0.35 of Mochi.
        model, grid, stride, metric, window: what it was measured with; the file does not hold them.
    Raises:
        ValueError: another kind of file, tiers out of range, or tiers that change within a window.
    """
    tensors = _read_int64(Path(path))
    steps = {len(rows[0]) for rows in tensors.values()}
    if not steps or len(steps) > 1:
        raise ValueError(f"`path` {str(path)!r} holds no tables of one number of steps, but {sorted(tensors)}")
    (num_steps,) = steps
    values: dict[str, Similarities | None] = {
        ours: _similarities(tensors[theirs], theirs, levels, window) if theirs in tensors else None
        for ours, theirs in UPSTREAM_FEATURES.items()
    }
    return SimilarityTable(
        model=model,
        grid=grid,
        stride=stride,
        metric=metric,
        num_steps=num_steps,
        window=window,
        q=values["q"],
        kv=values["kv"],
        h=values["h"],
    )


def _similarities(rows: list[list[int]], name: str, levels: int, window: int) -> Similarities:
    out = []
    for row in rows:
        if not all(0 <= tier < levels for tier in row):
            raise ValueError(f"`{name}` has tiers from {min(row)} to {max(row)}; `levels` is {levels}")
        windows = [row[start : start + window] for start in range(0, len(row), window)]
        if any(len(set(tiers)) > 1 for tiers in windows):
            raise ValueError(f"`{name}` changes within a window of {window} steps; `window` is another one")
        out.append(tuple(tiers[0] / levels for tiers in windows))
    return tuple(out)


def _read_int64(path: Path) -> dict[str, list[list[int]]]:
    """By hand: the format is a length, a JSON header and plain numbers, and this package has no dependency for it."""
    try:
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header: Mapping[str, Any] = json.loads(data[8 : 8 + length])
    except (OSError, struct.error, ValueError) as error:
        raise ValueError(f"`path` {str(path)!r} is no safetensors file: {error}") from error
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__" or name not in UPSTREAM_FEATURES.values():
            continue
        if entry["dtype"] != "I64" or len(entry["shape"]) != 2:
            raise ValueError(
                f"`{name}` in {str(path)!r} is {entry['dtype']} {entry['shape']}; expected I64 of two axes"
            )
        first, last = (8 + length + offset for offset in entry["data_offsets"])
        blocks, steps = entry["shape"]
        if last - first != INT64 * blocks * steps or last > len(data):
            raise ValueError(f"`{name}` in {str(path)!r} is cut off")
        flat = struct.unpack(f"<{blocks * steps}q", data[first:last])
        tensors[name] = [list(flat[block * steps : (block + 1) * steps]) for block in range(blocks)]
    return tensors
