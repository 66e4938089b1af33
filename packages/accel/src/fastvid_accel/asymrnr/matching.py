"""Bipartite soft matching: the nearest destination of every source."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from fastvid_accel.asymrnr.config import Metric
from fastvid_accel.asymrnr.partition import CPU, Partition, sent

WORKSPACE = 2**28
"""Bytes that a matching may take beside its input and its result."""

Matcher = Literal["torch", "fused"]
"""Products by torch, in chunks; or all in one kernel, written in Triton."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """For each source the nearest destination, by its number in `Partition.destinations`, and how alike they are.

    `similarity` is the larger the more alike; for `euclidean` it is minus the squared distance.
    """

    destination: Int[Tensor, "b heads s"]
    similarity: Float[Tensor, "b heads s"]


def match(
    tokens: Float[Tensor, "b heads n e"],
    parts: Partition,
    metric: Metric,
    *,
    generator: torch.Generator,
    workspace: int = WORKSPACE,
    matcher: Matcher | None = None,
) -> Nearest:
    """Compare every source with every destination, within each row of the batch and each head.

    Products are summed in float32 whatever the dtype of the tokens, and the euclidean distance is taken from the mean
    token: it does not depend on where the origin lies, but rounding does. Of equal destinations the first one counts.

    Args:
        tokens: any float dtype.
        generator: on the CPU; used by `random` only, which draws one matching for all rows and heads.
        workspace: bytes; torch takes heads and sources in chunks that fit. The result does not depend on it.
        matcher: None: `matcher_for` the device. Both find the same, but for neighbours that are equally near as far as
            rounding can tell.
    Source: AsymRnR, section 3.1, "Bipartite Soft Matching", and section 3.2, "Similarity Metrics". The published code
        computes distances in the dtype of the model, from the origin: where a head has a large common offset, 16 bits
        then confuse a good part of the neighbours.
    """
    b, heads, n, e = tokens.shape
    d, s = len(parts.destinations), len(parts.sources)
    if metric == "random":
        drawn = torch.randint(d, (s,), generator=generator, dtype=torch.int32, device=CPU)
        order = torch.randperm(s, generator=generator, device=CPU).float()
        return Nearest(
            destination=sent(drawn, tokens.device).expand(b, heads, s),
            similarity=sent(order, tokens.device).expand(b, heads, s),
        )
    if (matcher or matcher_for(tokens.device)) == "fused":
        from fastvid_accel.asymrnr.fused_matching import nearest_destinations

        destination, similarity = nearest_destinations(tokens, parts, metric)
        return Nearest(destination=destination, similarity=similarity)
    rows = tokens.flatten(0, 1)
    nearest = torch.empty(b * heads, s, dtype=torch.int32, device=tokens.device)
    similarity = torch.empty(b * heads, s, dtype=torch.float32, device=tokens.device)
    group = max(1, workspace // (4 * 4 * n * e))  # a float32 copy, another while it is made, and both parts of it
    for start in range(0, b * heads, group):
        features = _features(rows[start : start + group], metric)
        targets = features[:, parts.destinations]
        offset = -0.5 * targets.float().square().sum(-1).unsqueeze(1) if metric == "euclidean" else None
        chunk = max(1, workspace // (2 * 4 * len(features) * d))
        for first in range(0, s, chunk):
            last = min(first + chunk, s)
            sources = features[:, parts.sources[first:last]]
            best, index = _products(sources, targets, offset).max(dim=-1)
            if metric == "euclidean":
                best = 2 * best - sources.float().square().sum(-1)
            nearest[start : start + group, first:last] = index.to(torch.int32)
            similarity[start : start + group, first:last] = best
    return Nearest(destination=nearest.unflatten(0, (b, heads)), similarity=similarity.unflatten(0, (b, heads)))


def matcher_for(device: torch.device) -> Matcher:
    """`fused` on a GPU for which Triton compiles, which torch brings along on Linux; `torch` anywhere else.

    Not a setting: settings go from machine to machine. What ran stands in the report.
    """
    if device.type != "cuda" or find_spec("triton") is None:
        return "torch"
    return "fused" if torch.cuda.get_device_capability(device) >= (8, 0) else "torch"


def _features(rows: Float[Tensor, "g n e"], metric: Metric) -> Float[Tensor, "g n e"]:
    """What is multiplied: float32, but for 16-bit tokens on a GPU, whose products are summed in float32 anyway."""
    features = rows.float()
    if metric == "euclidean":
        features = features - features.mean(dim=1, keepdim=True)
    elif metric == "cosine":
        features = F.normalize(features, dim=-1)
    return features.to(rows.dtype) if rows.is_cuda else features


def _products(
    sources: Float[Tensor, "g s e"], targets: Float[Tensor, "g d e"], offset: Float[Tensor, "g 1 d"] | None
) -> Float[Tensor, "g s d"]:
    """s . d, plus an offset of each destination; float32."""
    transposed = targets.transpose(1, 2)
    if sources.dtype == torch.float32:
        return torch.bmm(sources, transposed) if offset is None else torch.baddbmm(offset, sources, transposed)
    products = torch.bmm(sources, transposed, out_dtype=torch.float32)
    return products if offset is None else products.add_(offset)
