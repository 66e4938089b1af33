"""Interpolation along the motion between two frames, without a network."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

REACH = 2
"""Pixels to each side that a level of the pyramid searches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionInterpolator:
    """Follows what moves, by matching blocks from coarse to fine as they would look at the time in between.

    For each pixel at time t the displacement d is sought for which the first frame at p - t d and the last one at
    p + (1 - t) d look alike (bilateral motion estimation), so that no pixel is left without a value.

    Attributes:
        levels: of the pyramid; the largest motion found is about 2 x 2^levels pixels.
        block: pixels a side of what is compared, odd.
        stiffness: how much better a match must be to leave the motion of its surroundings, in units of [-1, 1].
    """

    levels: int = 5
    block: int = 7
    stiffness: float = 0.01

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= 8:
            raise ValueError(f"`levels` is {self.levels}; expected 1 to 8")
        if self.block < 1 or self.block % 2 == 0:
            raise ValueError(f"`block` is {self.block}; expected an odd number, at least 1")
        if not self.stiffness >= 0:
            raise ValueError(f"`stiffness` is {self.stiffness}; expected at least 0")

    def __call__(
        self, first: Float[Tensor, "n 3 H W"], last: Float[Tensor, "n 3 H W"], times: tuple[float, ...], /
    ) -> Float[Tensor, "n times 3 H W"]:
        """Both frames moved to each time, and faded into one another."""
        return torch.stack([self._at(first.float(), last.float(), time) for time in times], dim=1)

    def _at(self, first: Tensor, last: Tensor, time: float) -> Tensor:
        motion = self._motion(first, last, time)
        return torch.lerp(_moved(first, -time * motion), _moved(last, (1 - time) * motion), time)

    def _motion(self, first: Tensor, last: Tensor, time: float) -> Float[Tensor, "n 2 H W"]:
        """Displacement (x, y) in pixels from the first frame to the last of what is at each pixel at `time`."""
        pyramid = [(first, last)]
        for _ in range(self.levels - 1):
            if min(pyramid[-1][0].shape[-2:]) < 2 * self.block:
                break
            pyramid.append((_halved(pyramid[-1][0]), _halved(pyramid[-1][1])))
        small = pyramid[-1][0]
        motion = small.new_zeros(len(small), 2, *small.shape[-2:])
        for one, other in reversed(pyramid):
            if motion.shape[-2:] != one.shape[-2:]:
                scale = motion.new_tensor([one.shape[-1] / motion.shape[-1], one.shape[-2] / motion.shape[-2]])
                motion = F.interpolate(motion, size=one.shape[-2:], mode="bilinear", align_corners=False)
                motion = motion * scale.view(1, 2, 1, 1)
            motion = self._refined(one, other, motion, time)
        return motion

    def _refined(self, first: Tensor, last: Tensor, motion: Tensor, time: float) -> Tensor:
        """The best of all whole-pixel steps away from `motion`, smoothed over a block."""
        best = first.new_full((len(first), 1, *first.shape[-2:]), torch.inf)
        chosen = motion
        for step_y in range(-REACH, REACH + 1):
            for step_x in range(-REACH, REACH + 1):
                tried = motion + motion.new_tensor([step_x, step_y]).view(1, 2, 1, 1)
                unlike = (_moved(first, -time * tried) - _moved(last, (1 - time) * tried)).abs().mean(1, keepdim=True)
                cost = self._over_block(unlike) + self.stiffness * (abs(step_x) + abs(step_y))
                chosen = torch.where(cost < best, tried, chosen)
                best = torch.minimum(cost, best)
        return self._over_block(chosen)

    def _over_block(self, values: Tensor) -> Tensor:
        return F.avg_pool2d(values, self.block, 1, self.block // 2, count_include_pad=False)


def _halved(pictures: Tensor) -> Tensor:
    return F.avg_pool2d(pictures, 2, ceil_mode=True, count_include_pad=False)


def _moved(pictures: Float[Tensor, "n 3 H W"], by: Float[Tensor, "n 2 H W"]) -> Float[Tensor, "n 3 H W"]:
    """The picture's values at p + by(p); its border goes on outside."""
    height, width = pictures.shape[-2:]
    rows = torch.arange(height, dtype=by.dtype, device=by.device).view(-1, 1)
    columns = torch.arange(width, dtype=by.dtype, device=by.device).view(1, -1)
    x = (columns + by[:, 0] + 0.5) * (2 / width) - 1
    y = (rows + by[:, 1] + 0.5) * (2 / height) - 1
    return F.grid_sample(
        pictures, torch.stack((x, y), dim=-1), mode="bilinear", padding_mode="border", align_corners=False
    )
