"""What a causal network remembers between two chunks of one video."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


class Stream:
    """The past frames of every temporal layer, for one pass over one video.

    A whole clip is a stream of one chunk, so there is a single code path: `Stream()` for a whole clip, and
    `Stream(chunked=True)` with `next_chunk()` between the chunks for a video that arrives in pieces. Layers are told
    apart by the order of their calls, which is the same for every chunk.
    """

    def __init__(self, *, chunked: bool = False, past: Sequence[Tensor] = ()) -> None:
        """`past`: that of another stream of the same network, to go on from where it stood."""
        self.first = not past
        self._chunked = chunked
        self._past = list(past)
        self._layer = 0

    @property
    def past(self) -> tuple[Tensor, ...]:
        """What the next chunk needs to see, a tensor for each temporal layer."""
        return tuple(self._past)

    def next_chunk(self) -> None:
        """The next calls belong to the following chunk of the same video."""
        self.first = False
        self._layer = 0

    def extend(self, x: Tensor, *, first: int, later: int) -> Tensor:
        """`x` (b c t h w) with the frames before it.

        Args:
            x: the frames of this chunk.
            first: how many copies of the first frame stand in for a past that is not known.
            later: how many of the last frames a later chunk needs to see.
        """
        if self.first or not self._chunked:  # nothing is remembered of what came before a tile of the standard decoder
            extended = functional.pad(x, (0, 0, 0, 0, first, 0), mode="replicate")
        else:
            extended = torch.cat([self._past[self._layer], x], dim=2)
        if self._chunked:
            # A copy, or the view would keep the whole chunk in memory.
            self._remember(extended[:, :, extended.shape[2] - later :].clone())
        return extended

    def _remember(self, frames: Tensor) -> None:
        if self.first:
            self._past.append(frames)
        else:
            self._past[self._layer] = frames
        self._layer += 1
