"""Self-attention as graphs have it: turned by tables that are inputs, over the tokens that indices name."""

from collections.abc import Collection, Mapping
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from fastvid_export.interfaces import AttentionOp, AttentionSite


@final
class RotaryAttention:
    """Turns queries and keys by tables of its own, one for all blocks or one for each, before it attends."""

    def __init__(
        self,
        cos: Float[Tensor, "n pairs"] | Float[Tensor, "blocks n pairs"],
        sin: Float[Tensor, "n pairs"] | Float[Tensor, "blocks n pairs"],
        attend: AttentionOp,
    ) -> None:
        self._cos, self._sin = cos, sin
        self._attend = attend

    def __call__(
        self,
        q: Float[Tensor, "b heads n e"],
        k: Float[Tensor, "b heads n e"],
        v: Float[Tensor, "b heads n e"],
        site: AttentionSite,
        /,
    ) -> Float[Tensor, "b heads n e"]:
        cos, sin = (table[site.block] if table.dim() > 2 else table for table in (self._cos, self._sin))
        return self._attend(rotate(q, cos, sin), rotate(k, cos, sin), v, site)


@final
class ReducedAttention:
    """Exact attention of the tokens that stay; every token copies the result of the one that stands for it.

    Args:
        indices: for block i that keeps fewer keys and values `keep_kv_i`, for one that keeps fewer queries `keep_q_i`
            (int32, b heads kept: places in the whole sequence) and `restore_i` (int32, b heads t h w: for each token,
            the row of the kept queries whose result it takes). A block without is dense.
    """

    def __init__(self, indices: Mapping[str, Tensor]) -> None:
        self._indices = indices

    def __call__(
        self,
        q: Float[Tensor, "b heads n e"],
        k: Float[Tensor, "b heads n e"],
        v: Float[Tensor, "b heads n e"],
        site: AttentionSite,
        /,
    ) -> Float[Tensor, "b heads n e"]:
        keys, queries = (self._indices.get(f"{name}_{site.block}") for name in ("keep_kv", "keep_q"))
        if keys is not None:
            k, v = take(k, keys), take(v, keys)
        if queries is None:
            return F.scaled_dot_product_attention(q, k, v)
        attended = F.scaled_dot_product_attention(take(q, queries), k, v)
        return take(attended, self._indices[f"restore_{site.block}"].flatten(2))


@final
class WatchedAttention:
    """Exact attention that leaves behind what tokens are matched by: `query_i` after norm and turn, and `value_i`."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self.seen: dict[str, Tensor] = {}

    def __call__(
        self,
        q: Float[Tensor, "b heads n e"],
        k: Float[Tensor, "b heads n e"],
        v: Float[Tensor, "b heads n e"],
        site: AttentionSite,
        /,
    ) -> Float[Tensor, "b heads n e"]:
        found = {f"query_{site.block}": q, f"value_{site.block}": v}
        self.seen |= {name: tensor for name, tensor in found.items() if name in self._names}
        return F.scaled_dot_product_attention(q, k, v)


def take(tokens: Float[Tensor, "b heads n e"], places: Int[Tensor, "b heads k"]) -> Float[Tensor, "b heads k e"]:
    """The tokens at these places.

    As rows of one matrix, which engines read with one Gather and 32-bit places; an index for each channel would be a
    64-bit tensor as large as the tokens, and advanced indexing costs engines more operations.
    """
    b, heads, n, _ = tokens.shape
    starts = torch.arange(0, b * heads, dtype=places.dtype, device=places.device).view(b, heads, 1) * n
    rows: Tensor = tokens.flatten(0, 2).index_select(0, (starts + places).flatten())
    return rows.view(*places.shape, tokens.shape[-1])


def rotate(
    x: Float[Tensor, "b heads n e"], cos: Float[Tensor, "n pairs"], sin: Float[Tensor, "n pairs"]
) -> Float[Tensor, "b heads n e"]:
    """Turn the adjacent channel pair (2i, 2i + 1) of each token by the angle in column i, in float32."""
    pairs = x.float().unflatten(-1, (-1, 2))
    even, odd = pairs[..., 0], pairs[..., 1]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x.dtype)
