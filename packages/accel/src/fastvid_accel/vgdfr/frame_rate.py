"""Which frames share a latent: the dynamic frame rate of a video.

Frames are merged in blocks that are whole latents before and after, so that the merged video is one that the
autoencoder knows. With a temporal stride of c, latent 0 is frame 0 and latent j is frames c (j - 1) + 1 to c j. A block
at rate r is r latents, r c frames, in c groups of r neighbours; each group becomes one frame, the block one latent.

Source: VGDFR, section 3.2, step 3, and its released code for the block sizes. Ours differs in two points. A block is
merged only if each frame is like its neighbour up to the frame behind the block, since frames are interpolated there
later; the released code looks inside groups alone, and blends across a cut between them. And rate 4 is always
considered.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from fastvid_accel.vgdfr.similarity import Similarity

Rate = Literal[2, 4]


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """One block of frames that becomes one latent.

    Attributes:
        first_frame: of the block.
        rate: frames that become one.
        score: of all similarities that had to be high, the lowest.
    """

    first_frame: int
    rate: Rate
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRate:
    """The frame rate along a video of `num_frames` = stride n + 1 frames; blocks in order, without overlap."""

    num_frames: int
    stride: int
    merges: tuple[Merge, ...] = ()

    @property
    def num_latents(self) -> int:
        """Before merging."""
        return (self.num_frames - 1) // self.stride + 1

    @property
    def removed_latents(self) -> int:
        """How many fewer there are after merging."""
        return sum(merge.rate - 1 for merge in self.merges)

    @property
    def kept_latents(self) -> tuple[int, ...]:
        """Those that stay, by their old indices; of a merged block, the first."""
        gone = {self._first_latent(merge) + step for merge in self.merges for step in range(1, merge.rate)}
        return tuple(index for index in range(self.num_latents) if index not in gone)

    @property
    def merged_latents(self) -> frozenset[int]:
        """Those of `kept_latents` that stand for a merged block."""
        return frozenset(self._first_latent(merge) for merge in self.merges)

    @property
    def middle_latents(self) -> tuple[tuple[int, int], ...]:
        """For each of `kept_latents` the two in the middle of those it stands for; twice itself if it is alone."""
        rates = {self._first_latent(merge): merge.rate for merge in self.merges}
        first_and_rate = [(index, rates.get(index, 1)) for index in self.kept_latents]
        return tuple((index + (rate - 1) // 2, index + rate // 2) for index, rate in first_and_rate)

    @property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """First frame and length of each run of frames that becomes one frame, over the whole video."""
        groups, frame = [], 0
        for merge in self.merges:
            groups += [(single, 1) for single in range(frame, merge.first_frame)]
            frame = merge.first_frame + merge.rate * self.stride
            groups += [(first, merge.rate) for first in range(merge.first_frame, frame, merge.rate)]
        groups += [(single, 1) for single in range(frame, self.num_frames)]
        return tuple(groups)

    def _first_latent(self, merge: Merge) -> int:
        return (merge.first_frame - 1) // self.stride + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """What could be merged, and how alike the frames of it are.

    Frame 0 never is. Neither are the frames behind the last block: one latent at least, or two where blocks fill the
    video, so that there is something to interpolate towards.

    Attributes:
        doubled: score of the block at 1 + 2 c j at rate 2.
        fourfold: score of blocks j and j + 1 together at rate 4; one fewer.
    """

    num_frames: int
    stride: int
    doubled: tuple[float, ...]
    fourfold: tuple[float, ...]


def candidates(similarity: Similarity, stride: int) -> Candidates:
    """The blocks of a video.

    Raises:
        ValueError: a number of frames that is not `stride` n + 1.
    """
    num_frames = similarity.num_frames
    if (num_frames - 1) % stride:
        below = num_frames - (num_frames - 1) % stride
        raise ValueError(
            f"the preview has {num_frames} frames; VGDFR merges videos of a multiple of {stride} and one more (nearest:"
            f" {below} and {below + stride})"
        )
    starts = range(1, num_frames - 1 - 2 * stride, 2 * stride)
    return Candidates(
        num_frames=num_frames,
        stride=stride,
        doubled=tuple(_score(similarity, start, stride, 2) for start in starts),
        fourfold=tuple(_score(similarity, start, stride, 4) for start in starts[:-1]),
    )


def above_threshold(blocks: Candidates, threshold: float, *, highest_rate: Rate = 4) -> FrameRate:
    """The most that can be merged where all scores lie above a threshold; ties go to early blocks at a high rate."""
    count = len(blocks.doubled)
    saved = [0] * (count + 2)
    choices: list[Literal[1, 2, 4]] = [1] * count
    for index in reversed(range(count)):
        options: list[tuple[int, Literal[1, 2, 4]]] = [(saved[index + 1], 1)]
        if blocks.doubled[index] > threshold:
            options.append((saved[index + 1] + 1, 2))
        if highest_rate == 4 and index + 1 < count and blocks.fourfold[index] > threshold:
            options.append((saved[index + 2] + 3, 4))
        saved[index], choices[index] = max(options)
    merges, index = [], 0
    while index < count:
        choice = choices[index]
        if choice != 1:
            merges.append(_merge(blocks, index, choice))
        index += max(choice // 2, 1)
    return FrameRate(num_frames=blocks.num_frames, stride=blocks.stride, merges=tuple(merges))


def for_removal(blocks: Candidates, num_removed: int, *, highest_rate: Rate = 4) -> FrameRate:
    """Merge the most similar blocks until so many latents are gone, or all that can go."""
    thresholds = sorted({*blocks.doubled, *blocks.fourfold}, reverse=True)
    rate = FrameRate(num_frames=blocks.num_frames, stride=blocks.stride)
    for threshold in thresholds:
        if rate.removed_latents >= num_removed:
            break
        rate = above_threshold(blocks, math.nextafter(threshold, -math.inf), highest_rate=highest_rate)
    return trimmed(rate, blocks, num_removed)


def trimmed(rate: FrameRate, blocks: Candidates, num_removed: int) -> FrameRate:
    """Undo the least similar merges until no more than so many latents are gone; rate 4 becomes twice rate 2 first."""
    merges = list(rate.merges)
    while sum(merge.rate - 1 for merge in merges) > max(num_removed, 0):
        worst = min(merges, key=lambda merge: (merge.score, -merge.first_frame))
        place = merges.index(worst)
        index = (worst.first_frame - 1) // (2 * rate.stride)
        smaller = [_merge(blocks, index, 2), _merge(blocks, index + 1, 2)] if worst.rate == 4 else []
        merges[place : place + 1] = smaller
    return replace(rate, merges=tuple(merges))


def removal_for_ratio(num_frames: int, stride: int, keep_ratio: float) -> int:
    """The number of latents whose removal brings the share of kept frames nearest to `keep_ratio`."""
    return round((1 - keep_ratio) * num_frames / stride)


def removal_for_lengths(num_latents: int, num_removed: int, lengths: Sequence[int]) -> int:
    """The most latents, up to `num_removed`, that can go so that one of these lengths is left; 0 where none fits."""
    fitting = [num_latents - length for length in lengths if 0 <= num_latents - length <= num_removed]
    return max(fitting, default=0)


def _merge(blocks: Candidates, index: int, rate: Rate) -> Merge:
    scores = blocks.doubled if rate == 2 else blocks.fourfold
    return Merge(first_frame=1 + 2 * blocks.stride * index, rate=rate, score=scores[index])


def _score(similarity: Similarity, start: int, stride: int, rate: Rate) -> float:
    """The least similarity among all pairs inside a group, and all neighbours up to the frame behind the block.

    Minus infinity, which lies above no threshold, where one of them is NaN.
    """
    stop = start + rate * stride
    pairs = [(frame, frame + 1) for frame in range(start, stop)]
    for group in range(start, stop, rate):
        pairs += combinations(range(group, group + rate), 2)
    values = [similarity.near[second - first - 1][first] for first, second in pairs]
    return -math.inf if any(map(math.isnan, values)) else min(values)
