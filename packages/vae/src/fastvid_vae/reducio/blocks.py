"""The blocks of Stable Diffusion's autoencoder, on pictures and on videos. Source: Reducio, section 3.1 (its networks
follow that autoencoder); names and paddings as in the released code."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

Dims = Literal[2, 3]
EPS = 1e-6


def conv(dims: Dims, in_channels: int, out_channels: int, kernel: int = 3) -> nn.Conv2d | nn.Conv3d:
    """A convolution of stride one that keeps the size, with zeros around picture and video (in time as well)."""
    kind = nn.Conv2d if dims == 2 else nn.Conv3d
    return kind(in_channels, out_channels, kernel, padding=kernel // 2)


class ResnetBlock(nn.Module):
    """norm, SiLU, convolution, twice; added to the input. The statistics of a norm span the whole clip."""

    def __init__(self, dims: Dims, in_channels: int, out_channels: int, *, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, eps=EPS)
        self.conv1 = conv(dims, in_channels, out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps=EPS)
        self.conv2 = conv(dims, out_channels, out_channels)
        self.nin_shortcut = None if in_channels == out_channels else conv(dims, in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.conv1(F.silu(self.norm1(x)))
        branch = self.conv2(F.silu(self.norm2(branch)))
        out: Tensor = (x if self.nin_shortcut is None else self.nin_shortcut(x)) + branch
        return out


class SelfAttention(nn.Module):
    """x + attention among all positions of a picture, or of all frames of a clip."""

    def __init__(self, dims: Dims, channels: int, *, num_heads: int, groups: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.GroupNorm(groups, channels, eps=EPS)
        self.q = conv(dims, channels, channels, 1)
        self.k = conv(dims, channels, channels, 1)
        self.v = conv(dims, channels, channels, 1)
        self.proj_out = conv(dims, channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        q, k, v = (
            rearrange(project(normed).flatten(2), "b (heads e) n -> b heads n e", heads=self.num_heads)
            for project in (self.q, self.k, self.v)
        )
        mixed = rearrange(F.scaled_dot_product_attention(q, k, v), "b heads n e -> b (heads e) n")
        out: Tensor = x + self.proj_out(mixed.unflatten(2, x.shape[2:]))
        return out


class Middle(nn.Module):
    """Block, self-attention, block."""

    def __init__(self, dims: Dims, channels: int, *, num_heads: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(dims, channels, channels, groups=groups)
        self.attn_1 = SelfAttention(dims, channels, num_heads=num_heads, groups=groups)
        self.block_2 = ResnetBlock(dims, channels, channels, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return out


class Downsample(nn.Module):
    """Half the height and width, and half the time if asked; zeros are added at the end of each of these axes only."""

    def __init__(self, dims: Dims, channels: int, *, halves_time: bool) -> None:
        super().__init__()
        time = 2 if halves_time else 1
        if dims == 2:
            self.conv: nn.Conv2d | nn.Conv3d = nn.Conv2d(channels, channels, 3, stride=2)
        else:
            self.conv = nn.Conv3d(channels, channels, (2 * time - 1, 3, 3), stride=(time, 2, 2))
        self.padding = (0, 1, 0, 1) if dims == 2 else (0, 1, 0, 1, 0, time - 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x, self.padding))
        return out


class Upsample(nn.Module):
    """Twice the height and width, and twice the time if asked, by repetition; then a convolution."""

    def __init__(self, channels: int, *, doubles_time: bool) -> None:
        super().__init__()
        self.time = 2 if doubles_time else 1
        self.conv = conv(3, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        # By repetition and not by `interpolate`, whose counterpart some engines lack in bfloat16.
        out: Tensor = self.conv(repeat(x, "b c t h w -> b c (t dt) (h dy) (w dx)", dt=self.time, dy=2, dx=2))
        return out


def resnet_blocks(dims: Dims, channels: Sequence[int], *, groups: int) -> nn.ModuleList:
    """One block from each of `channels` to the next."""
    return nn.ModuleList(ResnetBlock(dims, before, after, groups=groups) for before, after in pairwise(channels))
