"""Several accelerators as one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from jaxtyping import Float
from torch import Tensor

from fastvid_accel.interfaces import Accelerator, AttentionOp, Estimate, Session, Step, VideoCodec


def compose(*accelerators: Accelerator) -> "Composition":
    """Use several accelerators together.

    They act in the order given: the first one sees the tokens of an attention call first and hands what it keeps
    to the second; after a step the first one sees the latents first. Finished frames go the other way, so that
    what was thinned out last is restored first. An accelerator that changes the number of latent frames has to
    be the last one.

    Raises:
        ValueError: no accelerator given.
    """
    if not accelerators:
        raise ValueError("`accelerators` is empty; give at least one (`NoAcceleration()` to change nothing)")
    return Composition(accelerators)


@final
@dataclass(frozen=True, slots=True)
class Composition:
    """Made by `compose`."""

    accelerators: tuple[Accelerator, ...]

    def start(
        self, *, num_steps: int, attention: AttentionOp | None = None, codec: VideoCodec | None = None
    ) -> "CompositionSession":
        """Begin a video: one fresh session of each accelerator, each inside the one before it."""
        sessions: list[Session] = []
        for accelerator in reversed(self.accelerators):
            session = accelerator.start(num_steps=num_steps, attention=attention, codec=codec)
            attention = session.attention
            sessions.insert(0, session)
        return CompositionSession(sessions)


@final
class CompositionSession:
    """One session of each accelerator, first one first."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._sessions = tuple(sessions)
        self.attention = self._sessions[0].attention  # which ends in the second's, and so on

    def begin_step(self, step: Step, /) -> None:
        """Prepare each, in order."""
        for session in self._sessions:
            session.begin_step(step)

    def end_step(
        self,
        latents: Float[Tensor, "b c t h w"],
        denoised: Float[Tensor, "b c t h w"],
        positions: Float[Tensor, "3 t h w"] | Float[Tensor, "blocks 3 t h w"],
        step: Step,
        /,
        *,
        estimate: Estimate | None = None,
    ) -> tuple[Float[Tensor, "b c t2 h w"], Float[Tensor, "3 t2 h w"] | Float[Tensor, "blocks 3 t2 h w"]]:
        """Pass latents and positions through each, in order.

        Raises:
            ValueError: a session gets latents of another shape than `denoised`, because one before it thinned
                them out.
        """
        for session in self._sessions:
            if latents.shape != denoised.shape:
                raise ValueError(
                    f"`accelerators` are in an order that cannot work: one of them turned latents"
                    f" {tuple(denoised.shape)} into {tuple(latents.shape)} at step {step.index}, and those after it"
                    " know only the old estimate of the clean latents; put the one that changes the frames last"
                )
            latents, positions = session.end_step(latents, denoised, positions, step, estimate=estimate)
        return latents, positions

    def finish(self, frames: Float[Tensor, "b 3 T H W"], /) -> Float[Tensor, "b 3 T2 H W"]:
        """Let each restore what it took away, last one first."""
        for session in reversed(self._sessions):
            frames = session.finish(frames)
        return frames

    def report(self) -> dict[str, Any]:
        """That of each, in order, under `accelerators`."""
        return {"accelerators": [dict(session.report()) for session in self._sessions]}
