"""What this package reads from others, and what it promises them. Nobody has to inherit any of it."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

from jaxtyping import Float
from torch import Tensor

Estimate = Callable[[Float[Tensor, "b c t h w"], float], Float[Tensor, "b c t h w"]]
"""The clean latents that lie behind noisy ones at a noise level, as the transformer sees it: one more call of it."""


class AttentionSite(Protocol):
    """Where in a transformer an attention call happens.

    `grid` is the token grid (t, h, w) of the call: n = t * h * w, rows in frame, row, column order.
    """

    @property
    def block(self) -> int: ...
    @property
    def num_blocks(self) -> int: ...
    @property
    def grid(self) -> tuple[int, int, int]: ...


class Step(Protocol):
    """One step of the sampler: from noise level `sigma` down to `next_sigma`, both in [0, 1]."""

    @property
    def index(self) -> int: ...
    @property
    def num_steps(self) -> int: ...
    @property
    def sigma(self) -> float: ...
    @property
    def next_sigma(self) -> float: ...


class AttentionOp(Protocol):
    """Self-attention of one block, after the norm of q and k and after RoPE.

    From a transformer there are as many queries as keys; from an accelerator that drops tokens there need not be.
    """

    def __call__(
        self,
        q: Float[Tensor, "b heads n e"],
        k: Float[Tensor, "b heads m e"],
        v: Float[Tensor, "b heads m e"],
        site: AttentionSite,
        /,
    ) -> Float[Tensor, "b heads n e"]: ...


class VideoCodec(Protocol):
    """Latents of the video that is being made to frames, and frames to latents."""

    @property
    def temporal_stride(self) -> int:
        """Frames a latent; the first latent is one frame."""
        ...

    def decode(self, latents: Float[Tensor, "b c t h w"], /) -> Float[Tensor, "b 3 T H W"]:
        """All frames that the latents hold, in [-1, 1] but not clamped; small ones will do."""
        ...

    def encode(self, frames: Float[Tensor, "b 3 T H W"], /) -> Float[Tensor, "b c t h w"]:
        """Latents of frames of the size that `decode` gives, without noise."""
        ...

    def truncated(self, stages: int, /) -> Self:
        """The same with so many stages of the autoencoder left out, each of which halves the height and width.

        Raises:
            ValueError: an autoencoder that cannot, or has not so many.
        """
        ...


class Session(Protocol):
    """The state of one video: made by `Accelerator.start`, thrown away after `finish`."""

    def begin_step(self, step: Step, /) -> None:
        """Is called before the transformer runs for `step`."""

    @property
    def attention(self) -> AttentionOp | None:
        """Takes the place of the transformer's self-attention; None: that stays as it is.

        Pass on what stands here, never a new lambda per step (it would recompile).
        """
        ...

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
        """Take the latents after `step`; return those, and their positions, that the next step shall see.

        Positions are those of all blocks, or of each block its own. `estimate` is for latents of the shape, and at the
        positions, that come in; None: the loop has none to offer.
        """
        ...

    def finish(self, frames: Float[Tensor, "b 3 T H W"], /) -> Float[Tensor, "b 3 T2 H W"]:
        """Take the decoded frames; return the whole clip."""
        ...

    def report(self) -> Mapping[str, Any]:
        """What was saved, and how: values that JSON knows. Empty where there is nothing to say."""
        ...


class Accelerator(Protocol):
    """Settings. Holds no state of a run, so one accelerator serves any number of videos, at the same time too."""

    def start(self, *, num_steps: int, attention: AttentionOp | None = ..., codec: VideoCodec | None = ...) -> Session:
        """Fresh state for one video of `num_steps` steps.

        `attention` is what the session calls in the end for the tokens it decides to compute, None for full attention;
        that is how accelerators are put inside one another. `codec` is for those that look at the frames.
        """
        ...
