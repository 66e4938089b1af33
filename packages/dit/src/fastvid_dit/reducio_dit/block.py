"""Blocks of ReducioDiT: PixArt-alpha's, whose attention may stay within frames, and the one that goes along time."""

from dataclasses import dataclass
from typing import Literal

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from fastvid_dit.attention import AttentionOp, AttentionSite, merge_heads, split_heads
from fastvid_dit.layers import FeedForward, LayerNorm
from fastvid_dit.modulation import Modulation, add_gated, modulate
from fastvid_dit.reducio_dit.config import ReducioDiTConfig
from fastvid_dit.reducio_dit.cross_attention import Condition, CrossAttention

Reach = Literal["video", "frame", "time"]
"""Which tokens attend to one another: all of them, those of a frame, those of a place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockContext:
    """What every block of one forward pass reads beside the tokens."""

    timestep: Float[Tensor, "b 6 d"]
    condition: Condition
    grid: tuple[int, int, int]
    attention: AttentionOp


class Block(nn.Module):
    """Self-attention, cross-attention (without norm or gate), feed-forward."""

    def __init__(self, config: ReducioDiTConfig, index: int) -> None:
        super().__init__()
        width = config.width
        self.index = index
        self.modulation = Modulation(6, width)
        self.norm_self = LayerNorm(width, config.norm_eps, affine=False)
        self.self_attention = SelfAttention(width, config.num_heads, "frame" if config.temporal_blocks else "video")
        self.cross_attention = CrossAttention(width, config.num_heads)
        self.norm_ffn = LayerNorm(width, config.norm_eps, affine=False)
        self.ffn = FeedForward(width, config.ffn_width, width)

    def forward(self, x: Float[Tensor, "b n d"], context: BlockContext, site: AttentionSite) -> Float[Tensor, "b n d"]:
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = self.modulation(context.timestep)

        hidden = modulate(self.norm_self(x), shift, scale).to(x.dtype)
        x = add_gated(x, self.self_attention(hidden, context, site), gate)

        source = context.condition.keys_values(self.index, self.cross_attention)
        x = x + self.cross_attention(x, source, context.condition.mask)

        hidden = modulate(self.norm_ffn(x), ffn_shift, ffn_scale).to(x.dtype)
        return add_gated(x, self.ffn(hidden), ffn_gate)


class TemporalBlock(nn.Module):
    """Self-attention along time and feed-forward; a fresh one changes nothing. Source: Reducio, section 4.3.2."""

    def __init__(self, config: ReducioDiTConfig) -> None:
        super().__init__()
        self.modulation = Modulation(6, config.width)
        self.norm_self = LayerNorm(config.width, config.norm_eps, affine=False)
        self.self_attention = SelfAttention(config.width, config.num_heads, "time")
        self.norm_ffn = LayerNorm(config.width, config.norm_eps, affine=False)
        self.ffn = FeedForward(config.width, config.ffn_width, config.width)

    def forward(self, x: Float[Tensor, "b n d"], context: BlockContext, site: AttentionSite) -> Float[Tensor, "b n d"]:
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = self.modulation(context.timestep)
        hidden = modulate(self.norm_self(x), shift, scale).to(x.dtype)
        x = add_gated(x, self.self_attention(hidden, context, site), gate)
        hidden = modulate(self.norm_ffn(x), ffn_shift, ffn_scale).to(x.dtype)
        return add_gated(x, self.ffn(hidden), ffn_gate)


class SelfAttention(nn.Module):
    """Attention among the video's tokens, or among those of a frame or a place, which then are a batch of their own."""

    def __init__(self, width: int, num_heads: int, reach: Reach) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.reach = reach
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n d"], context: BlockContext, site: AttentionSite) -> Float[Tensor, "b n d"]:
        q, k, v = (split_heads(part(x), self.num_heads) for part in (self.to_q, self.to_k, self.to_v))
        q, k, v = (self._regroup(part, context.grid) for part in (q, k, v))
        attended = self._restore(context.attention(q, k, v, site), context.grid)
        out: Tensor = self.to_out(merge_heads(attended))
        return out

    def _regroup(self, x: Float[Tensor, "b heads n e"], grid: tuple[int, int, int]) -> Float[Tensor, "g heads m e"]:
        if self.reach == "video":
            return x
        groups = "(b t) heads s e" if self.reach == "frame" else "(b s) heads t e"
        return rearrange(x, f"b heads (t s) e -> {groups}", t=grid[0])

    def _restore(self, x: Float[Tensor, "g heads m e"], grid: tuple[int, int, int]) -> Float[Tensor, "b heads n e"]:
        if self.reach == "video":
            return x
        if self.reach == "frame":
            return rearrange(x, "(b t) heads s e -> b heads (t s) e", t=grid[0])
        return rearrange(x, "(b s) heads t e -> b heads (t s) e", s=grid[1] * grid[2])
