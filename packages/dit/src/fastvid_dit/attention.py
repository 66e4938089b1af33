"""The one place where self-attention can be replaced from outside."""

from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F
from jaxtyping import Float
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
