"""The one place where self-attention can be replaced from outside; and what every attention does around it."""

from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSite:
    """Where in the network, and on which token grid, an attention call happens."""

    block: int
    num_blocks: int
    grid: tuple[int, int, int]  # tokens along t, h, w; their product is n, order is t, h, w with w fastest


class AttentionOp(Protocol):
    """Self-attention over video tokens; queries and keys arrive after their norm and after RoPE.

    Pass the same function (or bound method) at every step: a fresh closure makes a compiled model recompile.
    """

    def __call__(
        self,
        q: Float[Tensor, "b heads n e"],
        k: Float[Tensor, "b heads n e"],
        v: Float[Tensor, "b heads n e"],
        site: AttentionSite,
        /,
    ) -> Float[Tensor, "b heads n e"]: ...


def sdpa(
    q: Float[Tensor, "b heads n e"],
    k: Float[Tensor, "b heads m e"],
    v: Float[Tensor, "b heads m e"],
    site: AttentionSite,
    /,
) -> Float[Tensor, "b heads n e"]:
    """Exact attention by torch; the default, and the reference for every other `AttentionOp`."""
    return F.scaled_dot_product_attention(q, k, v)


def split_heads(x: Float[Tensor, "b n d"], num_heads: int) -> Float[Tensor, "b heads n e"]:
    """Channels of a head are adjacent."""
    return rearrange(x, "b n (heads e) -> b heads n e", heads=num_heads)


def merge_heads(x: Float[Tensor, "b heads n e"]) -> Float[Tensor, "b n d"]:
    """The inverse of `split_heads`."""
    return rearrange(x, "b heads n e -> b n (heads e)")


def key_mask(counts: Bool[Tensor, "b m"]) -> Bool[Tensor, "b 1 1 m"]:
    """Broadcast over heads and queries; a row without any token attends to all: softmax over none is NaN."""
    empty = ~counts.any(dim=1, keepdim=True)
    return (counts | empty)[:, None, None, :]
