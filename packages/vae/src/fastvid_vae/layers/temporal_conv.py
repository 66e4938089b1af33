"""3-D convolutions that differ only in which frames they see. Source: FSVideo, section 2.2; design notes in each class."""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from fastvid_vae.layers.stream import Stream

ConvBuilder = Callable[..., "TemporalConv3d"]


class TemporalConv3d(nn.Conv3d):
    """Kernel 3 (or 1), zero padding in space; subclasses choose the frames."""

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

    def forward(self, x: Tensor, stream: Stream) -> Tensor:  # type: ignore[override]  # the frames before x come along
        raise NotImplementedError


class CausalConv3d(TemporalConv3d):
    """Output frame i sees inputs up to i (or 2i with stride 2); the past of the first frame is its own copy."""

    def forward(self, x: Tensor, stream: Stream) -> Tensor:  # type: ignore[override]
        reach = self.kernel_size[0] - 1
        return super(TemporalConv3d, self).forward(stream.extend(x, first=reach, later=reach + 1 - self.stride[0]))


class CenteredConv3d(TemporalConv3d):
    """Output frame i sees one frame before and one after; the borders are replicated."""

    def forward(self, x: Tensor, stream: Stream) -> Tensor:  # type: ignore[override]
        return super(TemporalConv3d, self).forward(functional.pad(x, (0, 0, 0, 0, 1, 1), mode="replicate"))


class GroupCausalConv3d(TemporalConv3d):
    """Frames come in groups that see one frame before the group and, for after it, a copy of the group's last frame.

    Frame 0 is a group of its own. With this reading a kernel tap means what it means in `CenteredConv3d`, so the
    weights of the Standard decoder load into the Lite one. Source: FSVideo, section 2.2 (group-causal, replication
    padding after each frame group).
    """

    def __init__(self, in_channels: int, out_channels: int, *, group_size: int, **settings: object) -> None:
        super().__init__(in_channels, out_channels, **settings)  # type: ignore[arg-type]
        self.group_size = group_size

    def forward(self, x: Tensor, stream: Stream) -> Tensor:  # type: ignore[override]
        conv = super(TemporalConv3d, self).forward
        extended = stream.extend(x, first=1, later=1)
        if not stream.first:
            return self._groups(extended, conv)
        own_group = functional.pad(extended[:, :, :2], (0, 0, 0, 0, 0, 1), mode="replicate")
        return torch.cat([conv(own_group), self._groups(extended[:, :, 1:], conv)], dim=2)

    def _groups(self, x: Tensor, conv: Callable[[Tensor], Tensor]) -> Tensor:
        """Every group with its neighbours as one batch entry; x holds one frame before the first group."""
        size = self.group_size
        groups = rearrange(x[:, :, 1:], "b c (k g) h w -> b c k g h w", g=size)
        before = x[:, :, : x.shape[2] - 1 : size].unsqueeze(3)
        windows = torch.cat([before, groups, groups[:, :, :, -1:]], dim=3)
        out = conv(rearrange(windows, "b c k g h w -> (b k) c g h w"))
        return rearrange(out, "(b k) c g h w -> b c (k g) h w", b=x.shape[0])
