"""3-D convolutions that differ only in which frames they see. Source: FSVideo, section 2.2; details in each class."""

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from fastvid_vae.layers.stream import Stream

ConvBuilder = Callable[..., "TemporalConv3d"]


class TemporalConv3d(nn.Conv3d):
    """Kernel 3 (or 1), zero padding in space; subclasses choose the frames that `convolve` sees."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        stride: tuple[int, int, int] = (1, 1, 1),
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        space = kernel_size // 2
        super().__init__(
            in_channels, out_channels, kernel_size, stride=stride, padding=(0, space, space), groups=groups, bias=bias
        )

    # Unlike its parent, a temporal convolution is told what came before. All ways to use its weights begin here, where
    # hooks that fetch them from elsewhere are called.
    def forward(self, x: Tensor, stream: Stream, *, doubled: int | None = None) -> Tensor:  # type: ignore[override]
        """The convolution of x; with `doubled`, 1 or 2, of x repeated in space and so many times in time, folded."""
        if doubled is not None:
            return self._doubled(x, stream, time=doubled)
        return self.convolve(x, stream, self.weight, self.bias)

    def _doubled(self, x: Tensor, stream: Stream, *, time: int) -> Tensor:
        """This convolution on x repeated 2 (and `time`) times along each axis, folded: b (c dy dx dt) t h w.

        Equal to repeating and convolving, but the repeated tensor never exists and repeated taps are added up first: an
        eighth of the memory where time doubles, and two thirds of the arithmetic where the convolution is causal.
        """
        in_space = _CENTERED_PHASES
        in_time = self.phases if time == 2 else [[[1, 0, 0], [0, 1, 0], [0, 0, 1]]]
        maps = [
            torch.tensor(m, dtype=self.weight.dtype, device=self.weight.device) for m in (in_space, in_space, in_time)
        ]
        folded = torch.einsum("oiklm,ubl,vcm,sak->ouvsiabc", self.weight, *maps)
        weight = folded.flatten(0, 3)
        bias = None if self.bias is None else self.bias.repeat_interleave(4 * time)
        return self.convolve(x, stream, weight, bias)

    # Per phase of a doubled frame and per tap on the original frames: which kernel taps fall on it.
    phases: list[list[list[int]]]

    def convolve(self, x: Tensor, stream: Stream, weight: Tensor, bias: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _conv3d(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.conv3d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


_CAUSAL_PHASES = [[[1, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 1]]]
_CENTERED_PHASES = [[[1, 0, 0], [0, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 0], [0, 0, 1]]]


class CausalConv3d(TemporalConv3d):
    """Output frame i sees inputs up to i (or 2i with stride 2); the past of the first frame is its own copy."""

    phases = _CAUSAL_PHASES

    def convolve(self, x: Tensor, stream: Stream, weight: Tensor, bias: Tensor | None) -> Tensor:
        reach = weight.shape[2] - 1
        return self._conv3d(stream.extend(x, first=reach, later=reach + 1 - self.stride[0]), weight, bias)


class CenteredConv3d(TemporalConv3d):
    """Output frame i sees one frame before and one after; the borders are replicated."""

    phases = _CENTERED_PHASES

    def convolve(self, x: Tensor, stream: Stream, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._conv3d(functional.pad(x, (0, 0, 0, 0, 1, 1), mode="replicate"), weight, bias)


class GroupCausalConv3d(TemporalConv3d):
    """Frames come in groups that see one frame before the group and, for after it, a copy of the group's last frame.

    Frame 0 is a group of its own. With this reading a kernel tap means what it means in `CenteredConv3d`, so the
    weights of the Standard decoder load into the Lite one. Source: FSVideo, section 2.2 (group-causal, replication
    padding after each frame group).
    """

    phases = _CENTERED_PHASES

    def __init__(self, in_channels: int, out_channels: int, *, group_size: int, **settings: Any) -> None:
        super().__init__(in_channels, out_channels, **settings)
        self.group_size = group_size

    def convolve(self, x: Tensor, stream: Stream, weight: Tensor, bias: Tensor | None) -> Tensor:
        starts = stream.first
        own, groups = self._windows(stream.extend(x, first=1, later=1), starts=starts)
        out = self._conv3d(groups, weight, bias)
        del groups  # half as large again as x
        out = rearrange(out, "(b k) c g h w -> b c (k g) h w", b=x.shape[0])
        return out if own is None else torch.cat([self._conv3d(own, weight, bias), out], dim=2)

    def _windows(self, x: Tensor, *, starts: bool) -> tuple[Tensor | None, Tensor]:
        """What frame 0 sees where the video `starts`, and what every later group sees, a group as one batch entry.

        x holds one frame before the first one. The windows are laid out as the convolution reads them, so that it
        needs no copy.
        """
        own = functional.pad(x[:, :, :2], (0, 0, 0, 0, 0, 1), mode="replicate") if starts else None
        x = x[:, :, 1:] if starts else x
        size = self.group_size
        groups = rearrange(x[:, :, 1:], "b c (k g) h w -> (b k) c g h w", g=size)
        before = rearrange(x[:, :, : x.shape[2] - 1 : size], "b c k h w -> (b k) c 1 h w")
        return own, torch.cat([before, groups, groups[:, :, -1:]], dim=2)
