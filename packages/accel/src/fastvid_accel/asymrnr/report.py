"""What a video with AsymRnR saved, in numbers that JSON knows."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from fastvid_accel.asymrnr.config import Metric
from fastvid_accel.asymrnr.cost import Shape, attention_flops, linear_flops, matching_flops
from fastvid_accel.asymrnr.matching import Matcher
from fastvid_accel.asymrnr.schedule import Plan, Prediction


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was done: shape, queries and keys by branch, block and step; matchings by their shape, and what made them;
    tokens that stayed.

    A step that runs again, as after an engine that refused it, counts once.
    """

    done: dict[tuple[str, int, int], tuple[Shape, int, int]] = field(default_factory=dict)
    matchings: Counter[tuple[Shape, int]] = field(default_factory=Counter)
    matcher: Matcher | None = None
    stayed: dict[tuple[int, int], tuple[float, float]] = field(default_factory=dict)

    @property
    def calls(self) -> Counter[tuple[Shape, int, int]]:
        """How many calls there were of each shape."""
        return Counter(self.done.values())


def report(plan: Plan, prediction: Prediction, tally: Tally, metric: Metric) -> dict[str, Any]:
    """Counts of what ran, not of what was planned.

    Keys:
        predicted_gain: share of the transformer's operations that the plan saves.
        clamped: rates that the cells of the grid do not allow.
        tokens: of the video, of the destinations among them, and the mean share of queries and keys that stayed.
        matcher: `fused`, `torch`, or None where nothing was compared.
        flops: of attention without reduction, with it, and of matching, by formula; `removed` is what went, matching
            paid for, and `removed_share` its share of the transformer, whose linear layers are estimated.
        counted: the same three by torch's counter, on the shapes that ran.
        matching_share: of the operations of matching in those of matching and attention.
        heat_map: a line for each block, a digit for each step: tenths of the tokens dropped, `.` where none was.
    """
    flops = _flops(tally, metric)
    dense, attention, matching, linear = (flops[name] for name in ("dense", "attention", "matching", "linear"))
    removed = dense - attention - matching
    calls = tally.calls.total()
    return {
        "predicted_gain": prediction.gain,
        "clamped": [asdict(clamp) for clamp in plan.clamps],
        "tokens": {
            "video": plan.num_tokens,
            "destinations": plan.num_destinations,
            "query_share": sum(count * q / shape.num_tokens for (shape, q, _), count in tally.calls.items()) / calls,
            "key_share": sum(count * k / shape.num_tokens for (shape, _, k), count in tally.calls.items()) / calls,
        },
        "attention_calls": calls,
        "matchings": tally.matchings.total(),
        "matcher": None if metric == "random" else tally.matcher,
        "flops": flops | {"removed": removed, "removed_share": removed / (dense + linear)},
        "counted": _counted(tally, metric),
        "matching_share": matching / max(1, matching + attention),
        "heat_map": {"q": _heat_map(plan, tally, 0), "kv": _heat_map(plan, tally, 1)},
    }


def _flops(tally: Tally, metric: Metric) -> dict[str, int]:
    total = {"dense": 0, "attention": 0, "matching": 0, "linear": 0}
    for (shape, queries, keys), count in tally.calls.items():
        total["dense"] += count * attention_flops(shape, shape.num_tokens, shape.num_tokens)
        total["attention"] += count * attention_flops(shape, queries, keys)
        total["linear"] += count * linear_flops(shape)
    if metric != "random":
        for (shape, destinations), count in tally.matchings.items():
            total["matching"] += count * matching_flops(shape, destinations)
    return total


def _counted(tally: Tally, metric: Metric) -> dict[str, int]:
    total = {"dense": 0, "attention": 0, "matching": 0}
    for (shape, queries, keys), count in tally.calls.items():
        total["dense"] += count * _count_attention(shape, shape.num_tokens, shape.num_tokens)
        total["attention"] += count * _count_attention(shape, queries, keys)
    if metric != "random":
        for (shape, destinations), count in tally.matchings.items():
            total["matching"] += count * _count_products(shape, destinations)
    return total | {"removed": total["dense"] - total["attention"] - total["matching"]}


def _count_attention(shape: Shape, queries: int, keys: int) -> int:
    q, k = (_meta(shape, tokens + shape.num_text) for tokens in (queries, keys))
    with FlopCounterMode(display=False) as counter:
        F.scaled_dot_product_attention(q, k, k)
    return int(counter.get_total_flops())


def _count_products(shape: Shape, destinations: int) -> int:
    sources, targets = (_meta(shape, tokens) for tokens in (shape.num_tokens - destinations, destinations))
    with FlopCounterMode(display=False) as counter:
        torch.matmul(sources, targets.transpose(2, 3))
    return int(counter.get_total_flops())


def _meta(shape: Shape, tokens: int) -> torch.Tensor:
    return torch.empty(shape.batch, shape.heads, tokens, shape.head_width, device="meta")


def _heat_map(plan: Plan, tally: Tally, which: int) -> list[str]:
    return [
        "".join(_digit(tally.stayed.get((block, step)), which) for step in range(plan.num_steps))
        for block in range(len(plan.cells))
    ]


def _digit(stayed: tuple[float, float] | None, which: int) -> str:
    if stayed is None:
        return " "
    return "." if stayed[which] == 1 else str(int(10 * (1 - stayed[which]) + 0.5))
