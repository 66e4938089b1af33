"""Tokens to fewer tokens, and back: one gather each way."""

from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fastvid_accel.asymrnr.config import Reduction
from fastvid_accel.asymrnr.matching import Nearest
from fastvid_accel.asymrnr.partition import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Which tokens stay, and who stands for whom; int32, in each row of the batch and each head.

    Attributes:
        positions: of the reduced tokens in the whole sequence: kept sources, then destinations.
        rows: for each position of the whole sequence, the row of the reduced one that stands for it.
    """

    positions: Int[Tensor, "b heads m"]
    rows: Int[Tensor, "b heads n"]


def num_kept(num_tokens: int, num_destinations: int, rate: Fraction) -> int:
    """floor(num_tokens (1 - rate)), exactly; never fewer than the destinations.

    Source: the published code rounds the same product in floating point, which loses a token at some rates.
    """
    return max(num_destinations, int(num_tokens * (1 - rate)))


def select(nearest: Nearest, parts: Partition, num_tokens_kept: int) -> Kept:
    """Keep the destinations and, of the sources, the least similar ones; of equal ones the first.

    Args:
        num_tokens_kept: from the number of destinations to that of all tokens.
    """
    b, heads, s = nearest.similarity.shape
    d = len(parts.destinations)
    kept_sources = num_tokens_kept - d
    assert 0 <= kept_sources <= s
    is_kept = _smallest(nearest.similarity, kept_sources)
    own = is_kept.cumsum(-1) - 1
    # one row more than there are takes what is dropped, and is cut off: no size depends on what the tokens hold
    stay = torch.zeros(b, heads, kept_sources + 1, dtype=torch.int64, device=own.device)
    stay.scatter_(-1, torch.where(is_kept, own, kept_sources), parts.sources.expand(b, heads, s))
    positions = torch.cat((stay[..., :kept_sources], parts.destinations.expand(b, heads, d)), dim=-1)
    rows = torch.empty(b, heads, s + d, dtype=torch.int32, device=own.device)
    # each dropped source points at the row of its destination, each kept one at its own
    rows[..., parts.sources] = torch.where(is_kept, own, nearest.destination + kept_sources).to(torch.int32)
    rows[..., parts.destinations] = torch.arange(
        kept_sources, num_tokens_kept, dtype=torch.int32, device=own.device
    ).expand(b, heads, d)
    return Kept(positions=positions.to(torch.int32), rows=rows)


def _smallest(values: Float[Tensor, "b heads s"], count: int) -> Bool[Tensor, "b heads s"]:
    """Of each row so many; of equal ones the first. Without sorting, of which the order would be of no use."""
    if count == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    bound = values.topk(count, largest=False, sorted=False).values.amax(-1, keepdim=True)
    is_below, is_equal = values < bound, values == bound
    left = count - is_below.sum(-1, keepdim=True)
    return is_below | (is_equal & (is_equal.cumsum(-1) <= left))


def reduce_tokens(
    tokens: Float[Tensor, "b heads n e"], kept: Kept, reduction: Reduction
) -> Float[Tensor, "b heads m e"]:
    """The kept tokens; with `mean` each destination is the mean of itself and all that it stands for, in float32."""
    if reduction == "discard":
        return _rows(tokens, kept.positions)
    b, heads, _, e = tokens.shape
    rows = kept.rows.long()
    m = kept.positions.shape[-1]
    sums = torch.zeros(b, heads, m, e, dtype=torch.float32, device=tokens.device)
    sums.scatter_add_(2, rows.unsqueeze(-1).expand_as(tokens), tokens.float())
    counts = torch.zeros(b, heads, m, dtype=torch.float32, device=tokens.device)
    counts.scatter_add_(2, rows, torch.ones_like(rows, dtype=torch.float32))
    return (sums / counts.unsqueeze(-1)).to(tokens.dtype)


def restore_tokens(reduced: Float[Tensor, "b heads m e"], kept: Kept) -> Float[Tensor, "b heads n e"]:
    """The whole sequence: a dropped token gets what its destination got. The inverse where nothing was dropped."""
    return _rows(reduced, kept.rows)


def _rows(tokens: Tensor, index: Tensor) -> Tensor:
    return tokens.gather(2, index.long().unsqueeze(-1).expand(*index.shape, tokens.shape[-1]))
