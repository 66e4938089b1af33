"""Self-attention over the tokens that stay: as a call that a transformer makes, or as indices for an engine."""

import sys
from collections.abc import Callable
from typing import cast, final

import torch
from jaxtyping import Float
from torch import Tensor

from fastvid_accel.asymrnr.place import Place, Reducer, Selection
from fastvid_accel.interfaces import AttentionOp, AttentionSite
from fastvid_accel.no_acceleration import full_attention


@final
class ReducingAttention:
    """What takes the place of the transformer's self-attention in one video.

    Both branches of guidance come in one batch. An engine cannot call back from within a block; it asks for the
    `selections` of a whole step instead, and where a matching is due it runs whole and gives the features to `match`.
    """

    def __init__(self, reducer: Reducer, attention: AttentionOp | None) -> None:
        self._reducer = reducer
        self._attention = attention
        # torch's compiler takes seconds to import; who has compiled the model has it by now.
        compiles = "torch._dynamo" in sys.modules
        self._attend = _outside_graphs(_attend) if compiles else _attend
        self.step: int | None = None

    def __call__(
        self,
        q: Float[Tensor, "b heads n e"],
        k: Float[Tensor, "b heads n e"],
        v: Float[Tensor, "b heads n e"],
        site: AttentionSite,
        /,
    ) -> Float[Tensor, "b heads n e"]:
        """Attention of the tokens that stay, and its result for all.

        Compiled models call it as it is, between two graphs: it decides by the number of the step, and would otherwise
        be compiled for each.

        Raises:
            ValueError: before the first `begin_step`, or tokens that do not fill the grid.
        """
        return self._attend(self._reducer, self._attention, (q, k, v), self._place(site), site)

    def selections(
        self, shape: tuple[int, int, int, int], num_blocks: int, grid: tuple[int, int, int]
    ) -> dict[int, Selection] | None:
        """Which tokens stay at this step, by block; a block that keeps all is left out.

        Args:
            shape: of the queries: batch, heads, tokens, channels of a head.
        Returns:
            None where a matching is due: the step has to run whole, and its features go to `match`.
        Raises:
            ValueError: settings that no engine can follow, or accelerators put inside this one.
        """
        if self._attention is not None:
            raise ValueError(
                "another accelerator replaces attention inside AsymRnR; an engine runs with one that drops tokens"
            )
        return self._reducer.selections(shape, self._place_in(num_blocks, grid))

    def match(self, q: Tensor | None, v: Tensor | None, site: AttentionSite, /) -> None:
        """Decide by the features of a step that ran whole which tokens stay in the rest of the window.

        Args:
            q, v: `b heads n e`, after their norm and after RoPE; None where that feature is never reduced.
        """
        self._reducer.match(q, v, self._place(site))

    def _place(self, site: AttentionSite) -> Place:
        return self._place_in(site.num_blocks, site.grid, site.block)

    def _place_in(self, num_blocks: int, grid: tuple[int, int, int], block: int = 0) -> Place:
        if self.step is None:
            raise ValueError("`begin_step` has not been called; a session has to know the step before it reduces")
        return Place(branch="", block=block, num_blocks=num_blocks, step=self.step, grid=grid)


def _attend(
    reducer: Reducer,
    attention: AttentionOp | None,
    qkv: tuple[Tensor, Tensor, Tensor],
    place: Place,
    site: AttentionSite,
) -> Tensor:
    reduced = reducer.reduce(*qkv, place)
    attend = full_attention if attention is None else attention
    return reduced.restore(attend(reduced.q, reduced.k, reduced.v, site))


def _outside_graphs(attend: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return cast(Callable[..., Tensor], torch.compiler.disable(attend))
