"""Merged frames, and whole videos again."""

from collections import defaultdict
from itertools import pairwise
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from fastvid_accel.vgdfr.frame_rate import FrameRate

GAPS_AT_ONCE = 8
"""Interpolated together; more would need more memory than they save time."""


class Interpolator(Protocol):
    """Frames between two others."""

    def __call__(
        self, first: Float[Tensor, "n 3 H W"], last: Float[Tensor, "n 3 H W"], times: tuple[float, ...], /
    ) -> Float[Tensor, "n times 3 H W"]:
        """n pairs of frames in [-1, 1] -> what lies between each at `times` in (0, 1), from `first` to `last`."""
        ...


def merge_frames(frames: Float[Tensor, "b 3 T H W"], rate: FrameRate) -> Float[Tensor, "b 3 T2 H W"]:
    """The mean of each group (VGDFR, section 3.2, step 3)."""
    return torch.stack([frames[:, :, first : first + count].mean(2) for first, count in rate.groups], dim=2)


def restore_frames(
    frames: Float[Tensor, "b 3 T2 H W"], rate: FrameRate, interpolate: Interpolator
) -> Float[Tensor, "b 3 T H W"]:
    """Each merged frame at the time of the first of its group, as in the released code, the others in between.

    Raises:
        ValueError: another number of frames than is left of the video.
    """
    times = [first for first, _ in rate.groups]
    if frames.shape[2] != len(times):
        raise ValueError(f"`frames` has {frames.shape[2]} frames; {len(times)} were left of {rate.num_frames}")
    whole = frames.new_empty(*frames.shape[:2], rate.num_frames, *frames.shape[3:])
    whole[:, :, times] = frames
    gaps = defaultdict(list)
    for index, (before, after) in enumerate(pairwise(times)):
        if after - before > 1:
            gaps[after - before].append(index)
    for length, indices in gaps.items():
        fractions = tuple(step / length for step in range(1, length))
        for chunk in torch.tensor(indices).split(GAPS_AT_ONCE):
            first, last = (
                frames[:, :, chunk + side].transpose(1, 2).flatten(0, 1)  # (b gaps) 3 H W
                for side in (0, 1)
            )
            between = interpolate(first, last, fractions).unflatten(0, (len(frames), len(chunk)))
            for step in range(1, length):
                targets = [times[index] + step for index in chunk.tolist()]
                whole[:, :, targets] = between[:, :, step - 1].transpose(1, 2).to(whole.dtype)
    return whole


class LinearInterpolator:
    """Fades one frame into the other. Moving things become double."""

    def __call__(
        self, first: Float[Tensor, "n 3 H W"], last: Float[Tensor, "n 3 H W"], times: tuple[float, ...], /
    ) -> Float[Tensor, "n times 3 H W"]:
        """The mean, weighted by nearness in time."""
        weights = torch.tensor(times, dtype=first.dtype, device=first.device).view(1, -1, 1, 1, 1)
        return torch.lerp(first[:, None], last[:, None], weights)
