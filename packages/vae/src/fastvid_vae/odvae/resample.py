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
    return double(x, TIME, linear=linear, first_apart=True)[:, :, 1:]


def double(x: Tensor, axis: int, *, linear: bool, first_apart: bool = False) -> Tensor:
    """Twice as long along one axis: each value twice, or a quarter of the way to the one before it and after it.

    By places and not by `interpolate`, whose counterpart some engines lack in bfloat16, nor by slices, which a graph
    for any number of frames cannot take where there is one frame alone.

    Args:
        x: b c t h w.
        axis: of it.
        linear: interpolate; otherwise repeat.
        first_apart: the first value neither sees the second one nor is seen by it.
    """
    if not linear:
        return torch.stack([x, x], dim=axis + 1).flatten(axis, axis + 1)
    places = torch.arange(x.shape[axis], device=x.device)
    last = x.shape[axis] - 1
    before, after = (places - 1).clamp(min=0), (places + 1).clamp(max=last)
    if first_apart:
        before, after = before.clamp(min=1).clamp(max=last), after * (places > 0)
    sides = [torch.lerp(x, x.index_select(axis, neighbours), 0.25) for neighbours in (before, after)]
    return torch.stack(sides, dim=axis + 1).flatten(axis, axis + 1)
