"""Cross-attention to image and text tokens, whose keys and values can be computed once for all steps."""

from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fastvid_dit.attention import merge_heads, split_heads


class KeysValues(NamedTuple):
    """What one block's cross-attention reads."""

    k: Float[Tensor, "b heads m e"]
    v: Float[Tensor, "b heads m e"]


class CrossAttention(nn.Module):
    """Plain multi-head attention; no norm on queries or keys."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.Linear(width, width)

    def project(self, tokens: Float[Tensor, "b m d"]) -> KeysValues:
        """Keys and values of the condition tokens."""
        k, v = (split_heads(part(tokens), self.num_heads) for part in (self.to_k, self.to_v))
        return KeysValues(k, v)

    def forward(
        self, x: Float[Tensor, "b n d"], source: KeysValues, mask: Bool[Tensor, "b 1 1 m"] | None
    ) -> Float[Tensor, "b n d"]:
        q = split_heads(self.to_q(x), self.num_heads)
        out: Tensor = self.to_out(merge_heads(F.scaled_dot_product_attention(q, source.k, source.v, attn_mask=mask)))
        return out


class ConditionTokens(NamedTuple):
    """Embedded image and text tokens, before any block's projection.

    Attributes:
        grids: the tokens, image first, then text; block i reads grid i modulo their number.
        mask: true where a token counts; None: all do.
    """

    grids: tuple[Float[Tensor, "b m d"], ...]
    mask: Bool[Tensor, "b 1 1 m"] | None

    @property
    def batch(self) -> int:
        """Number of samples."""
        return self.grids[0].shape[0]

    def keys_values(self, block: int, attention: CrossAttention) -> KeysValues:
        """What this block reads."""
        return attention.project(self.grids[block % len(self.grids)])


class ConditionCache(NamedTuple):
    """The condition after every block's projection: it depends on neither timestep nor latents.

    Made by `ReducioDiT.condition_cache`, held by whoever runs the steps, valid for those weights, words and frame.

    Attributes:
        blocks: keys and values of each block.
        mask: true where a token counts; None: all do.
    """

    blocks: tuple[KeysValues, ...]
    mask: Bool[Tensor, "b 1 1 m"] | None

    @property
    def batch(self) -> int:
        """Number of samples."""
        return self.blocks[0].k.shape[0]

    def keys_values(self, block: int, attention: CrossAttention) -> KeysValues:
        """What this block reads; its `attention` has nothing left to project."""
        return self.blocks[block]


Condition = ConditionTokens | ConditionCache
