"""Cross-attention from the decoder to the first frame's encoder features. Source: FSVideo, section 2.2."""

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from fastvid_vae.layers.linear_attention import relu_linear_attention
from fastvid_vae.layers.norm import PixelNorm

DenseKind = Literal["content", "relative", "linear"]


class FirstFrameAttention(nn.Module):
    """x + out(attention from every position of every frame to the first frame's positions).

    `content` matches by features alone and `linear` is its cheap form (ReLU linear attention). `relative` adds a 2-D
    rotary term with a learned, location-seeking part, so that a position looks at its own place first and at a learned
    offset from it when the scene moves. The paper does not say which; `content` is our reading for the full-size model.
    """

    def __init__(self, channels: int, *, head_width: int, kind: DenseKind, affine_norm: bool) -> None:
        super().__init__()
        self.kind = kind
        self.heads = channels // head_width
        self.norm_x = PixelNorm(channels, affine=affine_norm)
        self.norm_first = PixelNorm(channels, affine=affine_norm)
        self.q = nn.Conv3d(channels, channels, 1, bias=False)
        self.k = nn.Conv3d(channels, channels, 1, bias=False)
        self.v = nn.Conv3d(channels, channels, 1, bias=False)
        self.out = nn.Conv3d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]  # the layer is built with a bias
        self.here = nn.Parameter(_seek_here(self.heads, head_width)) if kind == "relative" else None

    def forward(self, x: Tensor, first: Tensor) -> Tensor:
        """x: b c t h w; first: b c 1 h w, the encoder's features of frame 0 at this stage."""
        normed = self.norm_first(first)
        q, k, v = self.q(self.norm_x(x)), self.k(normed), self.v(normed)
        q, k, v = (rearrange(y, "b (n e) t h w -> b n (t h w) e", n=self.heads) for y in (q, k, v))
        if self.here is not None:
            q = _rotate(q + self.here[0, :, None], _angles(x, q.shape[-1]))
            k = _rotate(k + self.here[1, :, None], _angles(first, k.shape[-1]))
        if self.kind == "linear":
            mixed = relu_linear_attention(q.mT, k.mT, v.mT).mT.to(x.dtype)
        else:
            # Only channels that lie side by side get a kernel that never holds the (t h w) x (h w) weights.
            mixed = functional.scaled_dot_product_attention(q.contiguous(), k.contiguous(), v.contiguous())
        mixed = rearrange(mixed, "b n (t h w) e -> b (n e) t h w", h=x.shape[3], w=x.shape[4])
        out: Tensor = x + self.out(mixed)
        return out


def _seek_here(heads: int, head_width: int) -> Tensor:
    """(2, heads, e): a constant part of q and of k whose rotated product peaks where the two places are equal."""
    here = torch.zeros(2, heads, head_width)
    here[..., : head_width // 2] = 2.0
    return here


def _angles(x: Tensor, head_width: int) -> Tensor:
    """(t h w, e/2) angles; wavelengths run from 2 to 128 cells, half of them along each axis."""
    t, h, w = x.shape[2:]
    frequencies = torch.pi * (1 / 64) ** torch.linspace(0, 1, head_width // 4, device=x.device, dtype=torch.float32)
    rows = torch.arange(h, device=x.device, dtype=torch.float32)[:, None] * frequencies
    columns = torch.arange(w, device=x.device, dtype=torch.float32)[:, None] * frequencies
    grid = torch.cat([rows[:, None].expand(h, w, -1), columns[None].expand(h, w, -1)], dim=-1)
    return rearrange(grid.expand(t, h, w, -1), "t h w f -> (t h w) f")


def _rotate(x: Tensor, angles: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    a, b = x[..., :half].float(), x[..., half:].float()
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)
