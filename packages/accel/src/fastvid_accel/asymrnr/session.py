"""A reducer around the denoising loop."""

from typing import Any, final

from jaxtyping import Float
from torch import Tensor

from fastvid_accel.asymrnr.attention import ReducingAttention
from fastvid_accel.asymrnr.place import Reducer
from fastvid_accel.interfaces import AttentionOp, Estimate, Step


@final
class ReducingSession:
    """One video, of a loop that keeps the protocol."""

    def __init__(self, reducer: Reducer, attention: AttentionOp | None) -> None:
        self._reducer = reducer
        self.attention = ReducingAttention(reducer, attention)

    def begin_step(self, step: Step, /) -> None:
        """Remember where the sampler is; step 0 begins another video."""
        if step.index == 0:
            self._reducer.reset()
        self._reducer.begin_step(step.index)
        self.attention.step = step.index

    def end_step(
        self,
        latents: Float[Tensor, "b c t h w"],
        denoised: Float[Tensor, "b c t h w"],
        positions: Float[Tensor, "3 t h w"] | Float[Tensor, "blocks 3 t h w"],
        step: Step,
        /,
        *,
        estimate: Estimate | None = None,
    ) -> tuple[Float[Tensor, "b c t h w"], Float[Tensor, "3 t h w"] | Float[Tensor, "blocks 3 t h w"]]:
        """The latents and positions as they came."""
        return latents, positions

    def finish(self, frames: Float[Tensor, "b 3 T H W"], /) -> Float[Tensor, "b 3 T H W"]:
        """The frames as they came."""
        return frames

    def report(self) -> dict[str, Any]:
        """What was done, as the reducer says it."""
        return self._reducer.report()
