"""EfficientViT block: multi-scale ReLU linear attention per frame, then a gated convolution over space and time."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from fastvid_vae.layers.noise import Noise
from fastvid_vae.layers.norm import PixelNorm
from fastvid_vae.layers.precision import without_autocast
from fastvid_vae.layers.stream import Stream
from fastvid_vae.layers.temporal_conv import ConvBuilder


class EfficientViTBlock(nn.Module):
    """Source: DC-AE (EViTS5_GLU); attention stays within a frame, FSVideo section 2.2."""

    def __init__(self, channels: int, *, head_width: int, conv: ConvBuilder, affine_norm: bool) -> None:
        super().__init__()
        self.attention = LinearAttention(channels, head_width=head_width, affine_norm=affine_norm)
        self.glu = GLUConv(channels, conv=conv, affine_norm=affine_norm)

    def forward(self, x: Tensor, stream: Stream, noise: Noise) -> Tensor:
        # Noise belongs to convolution blocks alone; the argument is here so that a stage can hold either kind.
        out: Tensor = self.glu(self.attention(x), stream)
        return out


class LinearAttention(nn.Module):
    """x + norm(out(ReLU linear attention)); frames do not see one another."""

    def __init__(self, channels: int, *, head_width: int, affine_norm: bool) -> None:
        super().__init__()
        self.head_width = head_width
        groups = 3 * channels // head_width
        wide = 3 * channels
        # Kernels of depth 1: three-dimensional so that one memory format serves the whole model.
        self.qkv = nn.Conv3d(channels, wide, 1, bias=False)
        self.scale_depthwise = nn.Conv3d(wide, wide, (1, 5, 5), padding=(0, 2, 2), groups=wide, bias=False)
        self.scale_pointwise = nn.Conv3d(wide, wide, 1, groups=groups, bias=False)
        self.out = nn.Conv3d(2 * channels, channels, 1, bias=False)
        self.norm = PixelNorm(channels, affine=affine_norm)

    def forward(self, x: Tensor) -> Tensor:  # b c t h w
        qkv = self.qkv(x)
        qkv = torch.cat([qkv, self.scale_pointwise(self.scale_depthwise(qkv))], dim=1)
        # Rows come in groups of 3 head widths: the query, key and value of one head.
        q, k, v = rearrange(qkv, "b (heads s e) t h w -> s b t heads e (h w)", s=3, e=self.head_width)
        mixed = relu_linear_attention(q, k, v).to(x.dtype)
        mixed = rearrange(mixed, "b t heads e (h w) -> b (heads e) t h w", h=x.shape[3])
        out: Tensor = x + self.norm(self.out(mixed))
        return out


def relu_linear_attention(q: Tensor, k: Tensor, v: Tensor, eps: float = 1e-15) -> Tensor:
    """sum_j relu(q_i).relu(k_j) v_j over its normaliser, in fp32; q is (..., e, n), k and v are (..., e, m)."""
    with without_autocast(q.device.type):
        q, k, v = functional.relu(q).float(), functional.relu(k).float(), v.float()
        context = v @ k.transpose(-1, -2)
        normaliser = k.sum(dim=-1, keepdim=True).transpose(-1, -2) @ q
        return (context @ q) / (normaliser + eps)


class GLUConv(nn.Module):
    """x + norm(pointwise(a * SiLU(b))), with a and b the halves of an inverted depthwise convolution."""

    def __init__(self, channels: int, *, conv: ConvBuilder, affine_norm: bool, expand: int = 4) -> None:
        super().__init__()
        hidden = channels * expand
        self.inverted = nn.Conv3d(channels, 2 * hidden, 1)
        self.depthwise = conv(2 * hidden, 2 * hidden, groups=2 * hidden)
        self.pointwise = nn.Conv3d(hidden, channels, 1, bias=False)
        self.norm = PixelNorm(channels, affine=affine_norm)
        self.hidden = hidden

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        gated = self.depthwise(functional.silu(self.inverted(x)), stream)
        value, gate = gated[:, : self.hidden], gated[:, self.hidden :]
        out: Tensor = x + self.norm(self.pointwise(value * functional.silu(gate)))
        return out
