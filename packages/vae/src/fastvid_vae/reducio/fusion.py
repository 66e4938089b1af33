"""How content features enter the decoder. Source: Reducio, section 4.3.1 and Table 5; the released code for the form.

All three take x (b c t h w), the features of the content frame (b k h' w') and `trained_length`: whether the clip is as
long as those of the training, so that tables over time apply as they are.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from fastvid_vae.reducio.blocks import EPS, conv


class AttentionFusion(nn.Module):
    """x plus its place in time, plus attention from every position of every frame to the content features."""

    def __init__(self, channels: int, context_channels: int, *, frames: int, head_width: int) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(frame_table(frames, channels).float()[None, :, None], requires_grad=False)
        self.norm = nn.LayerNorm(channels)
        self.attn = CrossAttention(channels, context_channels, head_width=head_width)

    def forward(self, x: Tensor, context: Tensor, *, trained_length: bool) -> Tensor:
        table = self.pos_embed if trained_length else self._rebuilt(x)
        tokens = rearrange(x, "b c t h w -> b t (h w) c") + table
        tokens = tokens.flatten(1, 2)
        tokens = tokens + self.attn(self.norm(tokens), rearrange(context, "b k h w -> b (h w) k"))
        out: Tensor = rearrange(tokens, "b (t h w) c -> b c t h w", h=x.shape[3], w=x.shape[4])
        return out

    def _rebuilt(self, x: Tensor) -> Tensor:
        """The table for as many frames as there are; in float32, which some engines know no better than."""
        table = frame_table(x.shape[2], x.shape[1], dtype=torch.float32, device=x.device)
        return table[None, :, None].to(x.dtype)


class CrossAttention(nn.Module):
    """Queries from the video, keys and values from the content frame; only the output projection has a bias."""

    def __init__(self, channels: int, context_channels: int, *, head_width: int) -> None:
        super().__init__()
        self.num_heads = channels // head_width
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_channels, channels, bias=False)
        self.to_v = nn.Linear(context_channels, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (
            rearrange(tokens, "b n (heads e) -> b heads n e", heads=self.num_heads)
            for tokens in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.to_out(rearrange(mixed, "b heads n e -> b n (heads e)"))
        return out


class AddFusion(nn.Module):
    """x plus a convolution over x, the content features at every frame and a learned place in time."""

    def __init__(self, channels: int, context_channels: int, *, frames: int, groups: int) -> None:
        super().__init__()
        self.conv_context = conv(2, context_channels, channels)
        self.temp_embed = nn.Parameter(torch.zeros(1, channels, frames, 1, 1))
        self.conv = conv(3, channels, channels)
        self.norm = _starts_silent(nn.GroupNorm(groups, channels, eps=EPS))
        nn.init.trunc_normal_(self.temp_embed, std=0.02)

    def forward(self, x: Tensor, context: Tensor, *, trained_length: bool) -> Tensor:
        assert trained_length  # the caller refuses other lengths by name
        branch = self.conv(x + self.conv_context(context).unsqueeze(2) + self.temp_embed)
        out: Tensor = x + F.silu(self.norm(branch))
        return out


class LinearFusion(nn.Module):
    """x plus a mixture over time of its frames and the content features, taken as one more frame."""

    def __init__(self, channels: int, context_channels: int, *, frames: int, groups: int) -> None:
        super().__init__()
        self.conv_context = conv(2, context_channels, channels)
        self.conv = conv(3, frames + 1, frames, 1)
        self.norm = _starts_silent(nn.GroupNorm(groups, channels, eps=EPS))

    def forward(self, x: Tensor, context: Tensor, *, trained_length: bool) -> Tensor:
        assert trained_length  # as above
        frames = torch.cat([x, self.conv_context(context).unsqueeze(2)], dim=2)
        branch = self.conv(frames.transpose(1, 2)).transpose(1, 2)
        out: Tensor = x + F.silu(self.norm(branch))
        return out


def frame_table(
    length: int, width: int, *, dtype: torch.dtype = torch.float64, device: torch.device | None = None
) -> Tensor:
    """(length, width): sine at even and cosine at odd channels j of position / 10000^(2 floor(j / 2) / width)."""
    channels = torch.arange(width, device=device)
    periods = 10000.0 ** (2 * torch.div(channels, 2, rounding_mode="floor").to(dtype) / width)
    angles = torch.arange(length, dtype=dtype, device=device)[:, None] / periods
    return torch.where(channels % 2 == 0, angles.sin(), angles.cos())


def _starts_silent(norm: nn.GroupNorm) -> nn.GroupNorm:
    """Nothing is added at first. The released code zeroes the convolutions too, from where no gradient leads away."""
    nn.init.zeros_(norm.weight)
    nn.init.zeros_(norm.bias)
    return norm
