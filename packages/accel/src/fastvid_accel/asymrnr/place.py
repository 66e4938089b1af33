"""Where attention happens, what is left to attend with, and who decides it."""

from dataclasses import dataclass
from typing import Any, Protocol

from jaxtyping import Float, Int
from torch import Tensor

from fastvid_accel.asymrnr.partition import Grid
from fastvid_accel.asymrnr.reduction import Kept, restore_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where and when an attention call happens.

    Attributes:
        branch: of guidance, where its branches are calls of their own; one name where they share a batch.
        block, num_blocks, grid: as in `AttentionSite`.
        step: of the sampler, from 0.
        num_text: tokens that attend along with those of the video.
    """

    branch: str
    block: int
    num_blocks: int
    step: int
    grid: Grid
    num_text: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduced:
    """Tokens to attend with, and the way back for what comes out."""

    q: Float[Tensor, "b heads nq e"]
    k: Float[Tensor, "b heads m e"]
    v: Float[Tensor, "b heads m e"]
    kept: Kept | None

    def restore(self, attended: Float[Tensor, "b heads nq e"]) -> Float[Tensor, "b heads n e"]:
        """One row for each query there was."""
        return attended if self.kept is None else restore_tokens(attended, self.kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which tokens of a block stay; int32, in each row of the batch and each head. None: all.

    Attributes:
        keep_q: queries, by their place in the whole sequence.
        restore: for each token, the row of the reduced result that it gets.
        keep_kv: keys and values.
    """

    keep_q: Int[Tensor, "b heads nq"] | None
    restore: Int[Tensor, "b heads n"] | None
    keep_kv: Int[Tensor, "b heads m"] | None


class Reducer(Protocol):
    """The state of one video, of whatever is put between a transformer and its attention."""

    def begin_step(self, step: int, /) -> None:
        """Before the transformer runs for a step; one before the last step means another video."""

    def reset(self) -> None:
        """Forget the video."""

    def reduce(
        self,
        q: Float[Tensor, "b heads n e"],
        k: Float[Tensor, "b heads n e"],
        v: Float[Tensor, "b heads n e"],
        place: Place,
        /,
    ) -> Reduced:
        """What attention shall see of the video's tokens, after their norm and after RoPE."""
        ...

    def selections(self, shape: tuple[int, int, int, int], place: Place, /) -> dict[int, Selection] | None:
        """What `reduce` would keep in every block at this step, known without the tokens; None: a matching is due.

        `shape` is that of the queries; the place's block counts for nothing.
        """
        ...

    def match(self, q: Tensor | None, v: Tensor | None, place: Place, /) -> None:
        """Match the tokens of a block in a step that runs whole."""

    def report(self) -> dict[str, Any]:
        """What was done, as JSON knows it."""
        ...
