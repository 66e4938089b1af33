"""Where a transformer of diffusers is in its video: written before each forward pass, read by its processors."""

from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from fastvid_accel.asymrnr.partition import Grid
from fastvid_accel.asymrnr.place import Place, Reduced, Reducer

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values `b heads n e` to what comes out, in the same layout."""


class Current:
    """One for each transformer that is accelerated."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.reducer: Reducer | None = None
        self.branch = ""
        self.step = 0
        self.grid: Grid = (0, 0, 0)

    def attend(
        self,
        q: Float[Tensor, "b heads n e"],
        k: Float[Tensor, "b heads n e"],
        v: Float[Tensor, "b heads n e"],
        *,
        block: int,
        attend: Attend,
        num_text: int = 0,
        text_first: bool = False,
    ) -> Float[Tensor, "b heads n e"]:
        """Attention of the video's tokens that stay and all of the text's; its result for all.

        Args:
            q, k, v: video and text together, in the model's order.
            num_text: tokens of the text in them.
            attend: gets the same order of video and text. Where nothing is reduced it gets `q`, `k`, `v` themselves.
        """
        n = q.shape[2] - num_text
        video = slice(num_text, None) if text_first else slice(None, n)
        text = slice(None, num_text) if text_first else slice(n, None)
        reduced = _reduce(self, (q[:, :, video], k[:, :, video], v[:, :, video]), block, num_text)
        if reduced.q.shape[2] == n and reduced.k.shape[2] == n:
            return attend(q, k, v)
        joined = [
            _join(part, whole[:, :, text], text_first=text_first)
            for part, whole in ((reduced.q, q), (reduced.k, k), (reduced.v, v))
        ]
        out = attend(*joined)
        m = reduced.q.shape[2]
        of_video = out[:, :, num_text:] if text_first else out[:, :, :m]
        of_text = out[:, :, :num_text] if text_first else out[:, :, m:]
        return _join(_restore(reduced, of_video), of_text, text_first=text_first)


def _join(video: Tensor, text: Tensor, *, text_first: bool) -> Tensor:
    return torch.cat((text, video) if text_first else (video, text), dim=2)


def _reduce_eagerly(current: Current, qkv: tuple[Tensor, Tensor, Tensor], block: int, num_text: int) -> Reduced:
    assert current.reducer is not None  # the hook of the transformer has run
    place = Place(
        branch=current.branch,
        block=block,
        num_blocks=current.num_blocks,
        step=current.step,
        grid=current.grid,
        num_text=num_text,
    )
    return current.reducer.reduce(*qkv, place)


def _restore_eagerly(reduced: Reduced, attended: Tensor) -> Tensor:
    return reduced.restore(attended)


# What depends on the number of the step stays out of compiled graphs, which would be compiled anew for each.
_reduce = cast(Callable[..., Reduced], torch.compiler.disable(_reduce_eagerly))
_restore = cast(Callable[..., Tensor], torch.compiler.disable(_restore_eagerly))
