"""Causal convolutions and the blocks of Stable Diffusion's autoencoder made of them. Source: OD-VAE, sections 3.1 and
3.2; names and paddings as in the released code."""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from fastvid_vae.odvae.config import Attention, BlockKind, ConvKind

EPS = 1e-6


class CausalConv3d(nn.Module):
    """A convolution whose output frame i sees inputs up to i (or i times the stride).

    The past of the first frame is the frame itself, so one frame is a picture seen by the sum of the kernel's taps.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int, int] = (3, 3, 3),
        *,
        stride: tuple[int, int, int] = (1, 1, 1),
        padding: int | None = None,
    ) -> None:
        """`padding` is that of height and width; None keeps them."""
        super().__init__()
        space = kernel[1] // 2 if padding is None else padding
        self.reach = kernel[0] - 1
        self.conv = nn.Conv3d(in_channels, out_channels, kernel, stride, (0, space, space))

    def forward(self, x: Tensor) -> Tensor:
        if self.reach:
            x = F.pad(x, (0, 0, 0, 0, self.reach, 0), mode="replicate")
        out: Tensor = self.conv(x)
        return out


class PictureConv(nn.Conv2d):
    """A 2-D convolution of each frame of b c t h w."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # as its parent calls it
        return to_video(super().forward(to_pictures(input)), input)


def to_pictures(x: Tensor) -> Tensor:
    """The frames of all videos as one batch."""
    return rearrange(x, "b c t h w -> (b t) c h w")


def to_video(pictures: Tensor, like: Tensor) -> Tensor:
    """The inverse, for the batch of the video that the pictures came from."""
    return rearrange(pictures, "(b t) c h w -> b c t h w", b=like.shape[0])


def conv(kind: ConvKind, in_channels: int, out_channels: int) -> nn.Module:
    """Kernel 3, stride 1, on b c t h w."""
    if kind == "2d":
        return PictureConv(in_channels, out_channels, 3, padding=1)
    return CausalConv3d(in_channels, out_channels)


def pointwise(in_channels: int, out_channels: int) -> CausalConv3d:
    """A convolution that mixes channels alone."""
    return CausalConv3d(in_channels, out_channels, (1, 1, 1))


class ResnetBlock(nn.Module):
    """norm, SiLU, convolution, twice; added to the input.

    The statistics of a norm span all frames, so they tell the first frame of the last; in a `2d` block, one frame.
    """

    def __init__(self, kind: BlockKind, in_channels: int, out_channels: int, *, groups: int) -> None:
        super().__init__()
        self.frame_by_frame = kind == "2d"
        self.norm1 = nn.GroupNorm(groups, in_channels, eps=EPS)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps=EPS)
        self.nin_shortcut: nn.Module | None = None
        if self.frame_by_frame:
            self.conv1: nn.Module = nn.Conv2d(in_channels, out_channels, 3, padding=1)
            self.conv2: nn.Module = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        else:
            self.conv1 = conv("causal", in_channels, out_channels)
            self.conv2 = conv("causal" if kind == "causal" else "2d", out_channels, out_channels)
        if in_channels != out_channels:
            shortcut = nn.Conv2d(in_channels, out_channels, 1) if self.frame_by_frame else None
            self.nin_shortcut = shortcut or pointwise(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return to_video(self._sum(to_pictures(x)), x) if self.frame_by_frame else self._sum(x)

    def _sum(self, x: Tensor) -> Tensor:
        branch = self.conv1(F.silu(self.norm1(x)))
        branch = self.conv2(F.silu(self.norm2(branch)))
        out: Tensor = (x if self.nin_shortcut is None else self.nin_shortcut(x)) + branch
        return out


class FrameAttention(nn.Module):
    """x + attention with one head among the positions of a frame. Its norm still spans all frames."""

    def __init__(self, kind: Attention, channels: int, *, groups: int) -> None:
        super().__init__()
        # `scrambled` reads b c t h w as (b t) c h w without moving the axes, so a "frame" holds channels of several.
        self.scrambled = kind == "scrambled"
        self.norm = nn.GroupNorm(groups, channels, eps=EPS)
        self.q = pointwise(channels, channels)
        self.k = pointwise(channels, channels)
        self.v = pointwise(channels, channels)
        self.proj_out = pointwise(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        q, k, v = (self._tokens(project(normed)) for project in (self.q, self.k, self.v))
        pictures = F.scaled_dot_product_attention(q, k, v).squeeze(1).mT.unflatten(2, x.shape[3:])
        mixed = pictures.reshape(x.shape) if self.scrambled else to_video(pictures, x)
        out: Tensor = x + self.proj_out(mixed)
        return out

    def _tokens(self, x: Tensor) -> Tensor:  # (b t) 1 n c
        b, c, t, h, w = x.shape
        pictures = x.reshape(b * t, c, h, w) if self.scrambled else to_pictures(x)
        return pictures.flatten(2).mT.unsqueeze(1)  # exporters want an axis of heads


class Middle(nn.Module):
    """Block, attention, block."""

    def __init__(self, kind: BlockKind, attention: Attention, channels: int, *, groups: int) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(kind, channels, channels, groups=groups)
        self.attn_1 = FrameAttention(attention, channels, groups=groups)
        self.block_2 = ResnetBlock(kind, channels, channels, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return out
