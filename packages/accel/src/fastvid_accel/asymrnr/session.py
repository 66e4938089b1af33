"""A reducer around the denoising loop."""

import sys
from collections.abc import Callable
from typing import Any, cast, final

import torch
from jaxtyping import Float
from torch import Tensor

from fastvid_accel.asymrnr.place import Place, Reducer
from fastvid_accel.interfaces import AttentionOp, AttentionSite, Step


@final
class ReducingSession:
    """One video, of a loop that keeps the protocol. Both branches of guidance come in one batch."""

    def __init__(self, reducer: Reducer, attention: AttentionOp) -> None:
        self._reducer = reducer
        self._attention = attention
        # torch's compiler takes seconds to import; who has compiled the model has it by now.
        compiles = "torch._dynamo" in sys.modules
        self._attend = _outside_graphs(_attend) if compiles else _attend
        self._step: int | None = None

    def begin_step(self, step: Step, /) -> None:
        """Remember where the sampler is; step 0 begins another video."""
        if step.index == 0:
            self._reducer.reset()
        self._reducer.begin_step(step.index)
        self._step = step.index

    def attention(
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
        if self._step is None:
            raise ValueError("`begin_step` has not been called; a session has to know the step before it reduces")
        place = Place(branch="", block=site.block, num_blocks=site.num_blocks, step=self._step, grid=site.grid)
        return self._attend(self._reducer, self._attention, (q, k, v), place, site)

    def end_step(
        self,
        latents: Float[Tensor, "b c t h w"],
        denoised: Float[Tensor, "b c t h w"],
        positions: Float[Tensor, "3 t h w"] | Float[Tensor, "blocks 3 t h w"],
        step: Step,
        /,
    ) -> tuple[Float[Tensor, "b c t h w"], Float[Tensor, "3 t h w"] | Float[Tensor, "blocks 3 t h w"]]:
        """The latents and positions as they came."""
        return latents, positions

    def finish(self, frames: Float[Tensor, "b 3 T H W"], /) -> Float[Tensor, "b 3 T H W"]:
        """The frames as they came."""
        return frames

    def report(self) -> dict[str, Any]:
        """What was done, as the reducer says it."""
        return self._reducer.report()


def _attend(
    reducer: Reducer, attention: AttentionOp, qkv: tuple[Tensor, Tensor, Tensor], place: Place, site: AttentionSite
) -> Tensor:
    reduced = reducer.reduce(*qkv, place)
    return reduced.restore(attention(reduced.q, reduced.k, reduced.v, site))


def _outside_graphs(attend: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return cast(Callable[..., Tensor], torch.compiler.disable(attend))
