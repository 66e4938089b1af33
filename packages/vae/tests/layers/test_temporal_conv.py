"""Each convolution against a slow loop over its own definition."""

from collections.abc import Callable

import pytest
import torch
from einops import repeat
from fastvid_vae.layers.stream import Stream
from fastvid_vae.layers.temporal_conv import CausalConv3d, CenteredConv3d, GroupCausalConv3d, TemporalConv3d
from torch import Tensor, nn
from torch.nn import functional


def window_causal(x: Tensor, i: int, stride: int) -> Tensor:
    return torch.stack([x[:, :, max(0, stride * i - back)] for back in (2, 1, 0)], dim=2)


def window_centred(x: Tensor, i: int) -> Tensor:
    return torch.stack([x[:, :, min(max(0, i + offset), x.shape[2] - 1)] for offset in (-1, 0, 1)], dim=2)


def window_group_causal(x: Tensor, i: int, size: int) -> Tensor:
    """Frame 0 is a group of its own; a frame after the group is a copy of the group's last."""
    last = 0 if i == 0 else min(((i - 1) // size + 1) * size, x.shape[2] - 1)
    return torch.stack([x[:, :, max(0, i - 1)], x[:, :, i], x[:, :, min(i + 1, last)]], dim=2)


def slow(conv: TemporalConv3d, windows: list[Tensor]) -> Tensor:
    stride = (1, *conv.stride[1:])
    outputs = [functional.conv3d(w, conv.weight, conv.bias, stride, (0, 1, 1), 1, conv.groups) for w in windows]
    return torch.cat(outputs, dim=2)


@torch.no_grad()
def test_causal_equals_its_definition(video: Callable[..., Tensor]) -> None:
    x = video(2, 4, 7, 6, 6)
    for stride in (1, 2):
        conv = CausalConv3d(4, 4, stride=(stride, stride, stride))
        windows = [window_causal(x, i, stride) for i in range(7 // stride + stride - 1)]
        assert torch.allclose(conv(x, Stream()), slow(conv, windows), atol=1e-6)


@torch.no_grad()
def test_centred_equals_its_definition(video: Callable[..., Tensor]) -> None:
    x, conv = video(2, 4, 5, 6, 6), CenteredConv3d(4, 3)
    assert torch.allclose(conv(x, Stream()), slow(conv, [window_centred(x, i) for i in range(5)]), atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 4])
@torch.no_grad()
def test_group_causal_equals_its_definition(size: int, video: Callable[..., Tensor]) -> None:
    conv = GroupCausalConv3d(4, 3, group_size=size)
    for frames in (1, 9):
        x = video(2, 4, frames, 6, 6)
        windows = [window_group_causal(x, i, size) for i in range(frames)]
        assert torch.allclose(conv(x, Stream()), slow(conv, windows), atol=1e-6)


@pytest.mark.parametrize("size", [2, 4])
@torch.no_grad()
def test_the_definition_tells_group_sizes_apart(size: int, video: Callable[..., Tensor]) -> None:
    """The mutant: a wrong group size must not pass the test above."""
    x, conv = video(1, 4, 9, 6, 6), GroupCausalConv3d(4, 3, group_size=size)
    windows = [window_group_causal(x, i, size // 2) for i in range(9)]
    assert not torch.allclose(conv(x, Stream()), slow(conv, windows), atol=1e-3)


def builders() -> list[tuple[str, Callable[[], TemporalConv3d], Callable[[], TemporalConv3d]]]:
    """Per kind: the convolution of `doubled`, and the one on the repeated frames that it must equal."""
    return [
        ("causal", lambda: CausalConv3d(4, 3), lambda: CausalConv3d(4, 3)),
        ("centred", lambda: CenteredConv3d(4, 3), lambda: CenteredConv3d(4, 3)),
        ("group", lambda: GroupCausalConv3d(4, 3, group_size=1), lambda: GroupCausalConv3d(4, 3, group_size=2)),
        ("groups", lambda: GroupCausalConv3d(4, 3, group_size=2), lambda: GroupCausalConv3d(4, 3, group_size=4)),
    ]


@pytest.mark.parametrize(("name", "small", "grown"), builders(), ids=lambda x: x if isinstance(x, str) else "")
@torch.no_grad()
def test_doubled_equals_repeat_and_convolve(
    name: str, small: Callable[[], TemporalConv3d], grown: Callable[[], TemporalConv3d], video: Callable[..., Tensor]
) -> None:
    x, conv, direct = video(2, 4, 5, 6, 5), small(), grown()
    direct.load_state_dict(conv.state_dict())
    folded = conv(x, Stream(), doubled=2)
    found = torch.empty(2, 3, 10, 12, 10)
    for dy in range(2):
        for dx in range(2):
            for dt in range(2):
                found[:, :, dt::2, dy::2, dx::2] = folded[:, 4 * dy + 2 * dx + dt :: 8]
    repeated = repeat(x, "b c t h w -> b c (t dt) (h dy) (w dx)", dt=2, dy=2, dx=2)[:, :, 1:]
    assert torch.allclose(found[:, :, 1:], direct(repeated, Stream()), atol=1e-5)


@torch.no_grad()
def test_doubled_in_space_alone(video: Callable[..., Tensor]) -> None:
    x, conv = video(1, 4, 3, 4, 4), CausalConv3d(4, 3)
    folded = conv(x, Stream(), doubled=1)
    found = torch.empty(1, 3, 3, 8, 8)
    for dy in range(2):
        for dx in range(2):
            found[:, :, :, dy::2, dx::2] = folded[:, 2 * dy + dx :: 4]
    repeated = repeat(x, "b c t h w -> b c t (h dy) (w dx)", dy=2, dx=2)
    assert torch.allclose(found, conv(repeated, Stream()), atol=1e-5)


@torch.no_grad()
def test_kernels_mean_the_same_in_every_mode(video: Callable[..., Tensor]) -> None:
    """Pure current-frame kernels: tap 2 of a causal convolution, tap 1 of the other two."""
    x = video(1, 2, 5, 4, 4)
    expected = functional.conv2d(x.transpose(1, 2).flatten(0, 1), torch.ones(2, 2, 3, 3), padding=1)
    for conv, tap in ((CausalConv3d(2, 2), 2), (CenteredConv3d(2, 2), 1), (GroupCausalConv3d(2, 2, group_size=4), 1)):
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        conv.weight[:, :, tap] = 1
        assert torch.allclose(conv(x, Stream())[0].transpose(0, 1), expected, atol=1e-5)
