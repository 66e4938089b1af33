"""A block of FSVideoDiT: attention over tokens, text and image tokens, modulated by the timestep."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fastvid_dit.attention import AttentionOp, AttentionSite, merge_heads, split_heads
from fastvid_dit.config import FSVideoDiTConfig
from fastvid_dit.layer_memory import States, mix, route
from fastvid_dit.layers import FeedForward, LayerNorm, RMSNorm
from fastvid_dit.modulation import Modulation, add_gated, modulate
from fastvid_dit.rope import RotaryTables, rotate


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockContext:
    """What every block of one forward pass reads beside the tokens."""

    timestep: Float[Tensor, "b 6 d"]
    text: Float[Tensor, "b l d"]
    text_mask: Bool[Tensor, "b 1 1 l"] | None
    image: Float[Tensor, "b m d"] | None
    rotary: RotaryTables
    attention: AttentionOp


class Block(nn.Module):
    """Self-attention (keys and values from the layer memory), cross-attention, feed-forward."""

    def __init__(self, config: FSVideoDiTConfig, index: int) -> None:
        super().__init__()
        width, heads, eps = config.width, config.num_heads, config.norm_eps
        self.memory_norm = config.memory_norm
        self.modulation = Modulation(6, width)
        self.norm_self = LayerNorm(width, eps, affine=False)
        has_router = config.layer_memory and index > 0
        self.memory_router = nn.Linear(width, index + 1) if has_router else None
        self.self_attention = SelfAttention(width, heads, eps)
        self.norm_cross = LayerNorm(width, eps, affine=True)
        self.cross_attention = CrossAttention(width, heads, eps, image=config.image_width is not None)
        self.norm_ffn = LayerNorm(width, eps, affine=False)
        self.ffn = FeedForward(width, config.ffn_width, width)

    def forward(
        self, x: Float[Tensor, "b n d"], states: States, context: BlockContext, site: AttentionSite
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n states"] | None]:
        """The next state of the residual stream, and the router's weights if the block has a router."""
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = self.modulation(context.timestep)

        hidden = modulate(self.norm_self(x), shift, scale).to(x.dtype)
        source, weights = hidden, None
        if self.memory_router is not None:
            weights = route(self.memory_router, hidden)
            mixed = mix(states, weights)
            normed = self.norm_self(mixed) if self.memory_norm == "post" else mixed
            source = modulate(normed, shift, scale).to(x.dtype)
        x = add_gated(x, self.self_attention(hidden, source, context, site), gate)

        x = x + self.cross_attention(self.norm_cross(x).to(x.dtype), context)

        hidden = modulate(self.norm_ffn(x), ffn_shift, ffn_scale).to(x.dtype)
        x = add_gated(x, self.ffn(hidden), ffn_gate)
        return x, weights

    def memory_entry(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """What later blocks (and this one) remember of the state that enters here: itself, or its norm."""
        return x if self.memory_norm == "post" else self.norm_self(x).to(x.dtype)


class SelfAttention(nn.Module):
    """Queries from one tensor, keys and values from another; RMS norm over all heads, then RoPE."""

    def __init__(self, width: int, num_heads: int, eps: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.Linear(width, width)
        self.norm_q = RMSNorm(width, eps)
        self.norm_k = RMSNorm(width, eps)

    def forward(
        self, query: Float[Tensor, "b n d"], source: Float[Tensor, "b n d"], context: BlockContext, site: AttentionSite
    ) -> Float[Tensor, "b n d"]:
        q = rotate(split_heads(self.norm_q(self.to_q(query)), self.num_heads), context.rotary)
        k = rotate(split_heads(self.norm_k(self.to_k(source)), self.num_heads), context.rotary)
        v = split_heads(self.to_v(source), self.num_heads)
        out: Tensor = self.to_out(merge_heads(context.attention(q, k, v, site)))
        return out


class CrossAttention(nn.Module):
    """Attention to text and, with keys and values of its own, to the image; both use the same queries."""

    def __init__(self, width: int, num_heads: int, eps: float, *, image: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.Linear(width, width)
        self.norm_q = RMSNorm(width, eps)
        self.norm_k = RMSNorm(width, eps)
        self.image_to_k = nn.Linear(width, width) if image else None
        self.image_to_v = nn.Linear(width, width) if image else None
        self.image_norm_k = RMSNorm(width, eps) if image else None

    def forward(self, x: Float[Tensor, "b n d"], context: BlockContext) -> Float[Tensor, "b n d"]:
        q = split_heads(self.norm_q(self.to_q(x)), self.num_heads)
        k = split_heads(self.norm_k(self.to_k(context.text)), self.num_heads)
        v = split_heads(self.to_v(context.text), self.num_heads)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=context.text_mask)
        if self.image_to_k is not None and self.image_to_v is not None and self.image_norm_k is not None:
            image_k = split_heads(self.image_norm_k(self.image_to_k(context.image)), self.num_heads)
            image_v = split_heads(self.image_to_v(context.image), self.num_heads)
            attended = attended + F.scaled_dot_product_attention(q, image_k, image_v)
        out: Tensor = self.to_out(merge_heads(attended))
        return out
