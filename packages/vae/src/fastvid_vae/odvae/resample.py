"""Half and twice the height, width and time. Source: OD-VAE, section 3.1; the released code.

Time counts 1 + 2m frames as 1 + m: the first frame stays by itself, the others come in pairs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastvid_vae.odvae.blocks import CausalConv3d, PictureConv
from fastvid_vae.odvae.config import Downsampling, TimeDownsampling, TimeUpsampling, UpsampleMode, Upsampling

TIME, HEIGHT, WIDTH = 2, 3, 4
FIRST_MIX = 0.0
"""Of `mixed` layers, before the sigmoid: both halves count alike, as the maintainers say that they trained it."""


class Downsample(nn.Module):
    """Half the height and width, with zeros right and below; frames 2i - 2 to 2i become frame i where time halves."""

    def __init__(self, kind: Downsampling, channels: int) -> None:
        super().__init__()
        if kind == "2d":
            self.conv: nn.Module = PictureConv(channels, channels, 3, stride=2)
        else:
            depth, time = (1 if kind == "flat" else 3), (2 if kind == "causal time" else 1)
            self.conv = CausalConv3d(channels, channels, (depth, 3, 3), stride=(time, 2, 2), padding=0)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


class TimeDownsample(nn.Module):
    """Half the time: the mean of frames 2i - 2 to 2i; `mixed`, of that and a convolution of them, in learned shares."""

    def __init__(self, kind: TimeDownsampling, channels: int) -> None:
        super().__init__()
        self.mixed = kind == "mixed"
        if self.mixed:
            self.mix_factor = nn.Parameter(torch.full((1,), FIRST_MIX))
            self.conv = nn.Conv3d(channels, channels, 3, stride=(2, 1, 1), padding=(0, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, 0, 2, 0), mode="replicate")
        mean = F.avg_pool3d(x, (3, 1, 1), stride=(2, 1, 1))
        if not self.mixed:
            return mean
        share = torch.sigmoid(self.mix_factor)
        out: Tensor = share * mean + (1 - share) * self.conv(x)
        return out


class Upsample(nn.Module):
    """Twice the height and width, and twice the time but for the first frame if asked; then a convolution."""

    def __init__(self, kind: Upsampling, channels: int, *, mode: UpsampleMode) -> None:
        super().__init__()
        self.time = kind == "causal time"
        self.linear = kind != "flat" and mode == "trilinear"
        self.conv = CausalConv3d(channels, channels, (1 if kind == "flat" else 3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        if self.time:
            x = double_time(x, linear=self.linear)
        for axis in (HEIGHT, WIDTH):
            x = double(x, axis, linear=self.linear)
        out: Tensor = self.conv(x)
        return out


class TimeUpsample(nn.Module):
    """Twice the time but for the first frame; `mixed`, of that and a convolution of it, in learned shares."""

    def __init__(self, kind: TimeUpsampling, channels: int, *, mode: UpsampleMode) -> None:
        super().__init__()
        self.linear = mode == "trilinear"
        self.mixed = kind == "mixed"
        if self.mixed:
            self.mix_factor = nn.Parameter(torch.full((1,), FIRST_MIX))
            self.conv = CausalConv3d(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = double_time(x, linear=self.linear)
        if not self.mixed:
            return x
        share = torch.sigmoid(self.mix_factor)
        out: Tensor = share * x + (1 - share) * self.conv(x)
        return out


def double_time(x: Tensor, *, linear: bool) -> Tensor:
    """1 + m frames to 1 + 2m; interpolation does not look across the first frame."""
    return torch.cat([x[:, :, :1], double(x[:, :, 1:], TIME, linear=linear)], dim=TIME)


def double(x: Tensor, axis: int, *, linear: bool) -> Tensor:
    """Twice as long along one axis, which may be empty: each value twice, or a quarter of the way to its neighbours.

    By slices and not by `interpolate`, whose counterpart some engines lack in bfloat16, and which refuses no frames.
    """
    if not linear:
        return x.repeat_interleave(2, dim=axis)
    here = (slice(None),) * axis
    before = torch.cat([x[*here, :1], x[*here, :-1]], dim=axis)
    after = torch.cat([x[*here, 1:], x[*here, -1:]], dim=axis)
    return torch.stack([torch.lerp(x, before, 0.25), torch.lerp(x, after, 0.25)], dim=axis + 1).flatten(axis, axis + 1)
