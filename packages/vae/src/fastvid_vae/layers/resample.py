"""Down- and up-sampling with parameter-free shortcuts. Source: DC-AE (residual autoencoding); FSVideo section 2.2.

The shortcut folds space, and for some stages time, into channels in the order (c, dy, dx, dt) with dt fastest. Then a
still video gives exactly the two-dimensional shortcut of DC-AE; an order with time outside the pixel does not.

Without its part in space (`in_space` False) a downsampling sees every pixel as a square of four, and an upsampling
gives the mean of the four pixels that it would have made of one: for small previews (VGDFR, section 3.2).
"""

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor, nn

from fastvid_vae.layers.stream import Stream
from fastvid_vae.layers.temporal_conv import ConvBuilder


class Downsample(nn.Module):
    """Strided convolution plus space(-time)-to-channel shortcut; 1 + 2m frames become 1 + m where `time` is 2."""

    def __init__(self, in_channels: int, out_channels: int, *, time: int, conv: ConvBuilder) -> None:
        super().__init__()
        self.time = time
        self.group = whole_ratio(4 * time * in_channels, out_channels)
        self.conv = conv(in_channels, out_channels, stride=(time, 2, 2))

    def forward(self, x: Tensor, stream: Stream, *, in_space: bool = True) -> Tensor:
        if not in_space:
            x = repeat(x, "b c t h w -> b c t (h dy) (w dx)", dy=2, dx=2)
        folded = torch.cat([x[:, :, :1], x], dim=2) if self.time == 2 and stream.first else x
        folded = rearrange(folded, "b c (t dt) (h dy) (w dx) -> b (c dy dx dt) t h w", dt=self.time, dy=2, dx=2)
        out: Tensor = self.conv(x, stream) + reduce(folded, "b (c g) t h w -> b c t h w", "mean", g=self.group)
        return out


class Upsample(nn.Module):
    """Nearest upsampling and convolution plus channel-to-space(-time) shortcut; 1 + m frames become 1 + 2m."""

    def __init__(self, in_channels: int, out_channels: int, *, time: int, conv: ConvBuilder) -> None:
        super().__init__()
        self.time = time
        self.repeats = whole_ratio(4 * time * out_channels, in_channels)
        self.conv = conv(in_channels, out_channels)

    def forward(self, x: Tensor, stream: Stream, *, in_space: bool = True) -> Tensor:
        folded = self.conv(x, stream, doubled=self.time) + repeat(x, "b c t h w -> b (c g) t h w", g=self.repeats)
        grown: Tensor
        if in_space:
            grown = rearrange(folded, "b (c dy dx dt) t h w -> b c (t dt) (h dy) (w dx)", dt=self.time, dy=2, dx=2)
        else:
            grown = reduce(folded, "b (c dy dx dt) t h w -> b c (t dt) h w", "mean", dt=self.time, dy=2, dx=2)
        return grown[:, :, 1:] if self.time == 2 and stream.first else grown


def whole_ratio(channels: int, other: int) -> int:
    """channels / other, which a shortcut can only be built from when it is a whole number."""
    if channels % other:
        raise ValueError(f"`widths` give a shortcut of {channels} folded channels onto {other}; it must divide")
    return channels // other
