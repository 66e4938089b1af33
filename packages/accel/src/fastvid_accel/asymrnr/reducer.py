"""The state of AsymRnR in one video: which tokens stand for which, and for how long."""

import logging
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from fastvid_accel.asymrnr.config import AsymRnRConfig
from fastvid_accel.asymrnr.cost import Shape
from fastvid_accel.asymrnr.matching import match, matcher_for
from fastvid_accel.asymrnr.partition import Grid, drawing, partition
from fastvid_accel.asymrnr.place import Place, Reduced, Selection
from fastvid_accel.asymrnr.reduction import Kept, reduce_tokens, select
from fastvid_accel.asymrnr.report import Tally, report
from fastvid_accel.asymrnr.schedule import Plan, Prediction, make_plan, predict
from fastvid_accel.asymrnr.similarity import FEATURES, Feature, SimilarityTable

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Match:
    """Is of use only as long as the window, the grid and the batch are these."""

    window: int
    grid: Grid
    rows: tuple[int, int]
    kept: Kept


class TokenReducer:
    """Reduces queries, keys and values of one video, as its plan says.

    A matching belongs to a branch, a block, a feature and a window of steps, and is found by these and never by
    counting calls: a block that is skipped for a while (by a step cache) matches anew when it runs in another window.
    """

    def __init__(self, config: AsymRnRConfig, table: SimilarityTable | None, num_steps: int) -> None:
        self.config = config
        self.table = table
        self.num_steps = num_steps
        self.plan: Plan | None = None
        self.prediction: Prediction | None = None
        self.tally = Tally()
        self._planned: tuple[object, ...] = ()
        self._matches: dict[tuple[str, int, Feature], _Match] = {}
        self._step = 0

    @property
    def is_on(self) -> bool:
        """Whether anything is reduced: not where the plan would save less than `min_gain`."""
        return self.prediction is not None and self.prediction.gain >= max(self.config.min_gain, 1e-12)

    def reset(self) -> None:
        """Forget the video; the next call begins another one."""
        self.plan = self.prediction = None
        self.tally = Tally()
        self._planned = ()
        self._matches.clear()
        self._step = 0

    def begin_step(self, step: int, /) -> None:
        """A step before the last one means another video: the loop of the old one may have ended in an error."""
        if step < self._step:
            self.reset()
        elif step // self.config.window != self._step // self.config.window:
            self._matches.clear()
        self._step = step

    def reduce(
        self,
        q: Float[Tensor, "b heads n e"],
        k: Float[Tensor, "b heads n e"],
        v: Float[Tensor, "b heads n e"],
        place: Place,
        /,
    ) -> Reduced:
        """What is left of the video's tokens, after their norm and after RoPE.

        Where nothing is reduced, the tensors themselves.

        Raises:
            ValueError: tokens that do not fill the grid, a grid the stride does not fit, or another model's table.
        """
        shape = Shape(
            batch=q.shape[0], heads=q.shape[1], head_width=q.shape[3], num_tokens=q.shape[2], num_text=place.num_text
        )
        plan = self._plan(shape, k.shape[2], place)
        tokens: dict[Feature, Tensor] = {"q": q, "kv": v, "h": k}
        numbers = self._numbers(plan, place)
        rows = shape.batch, shape.heads
        due: list[Feature] = [feature for feature in numbers if self._known(feature, place, rows) is None]
        for feature in due:
            self._match(feature, tokens[feature], numbers[feature], place, shape)
        reduced = Reduced(q=q, k=k, v=v, kept=None)
        if not (due and self.config.dense_matching):
            kept = {feature: self._known(feature, place, rows) for feature in numbers}
            how = self.config.reduction
            queries, keys = kept.get("q", kept.get("h")), kept.get("kv", kept.get("h"))
            reduced = Reduced(
                q=q if queries is None else reduce_tokens(q, queries, how),
                k=k if keys is None else reduce_tokens(k, keys, how),
                v=v if keys is None else reduce_tokens(v, keys, how),
                kept=queries,
            )
        self._count(shape, place, reduced.q.shape[2], reduced.k.shape[2])
        return reduced

    def selections(self, shape: tuple[int, int, int, int], place: Place, /) -> dict[int, Selection] | None:
        """What stays in each block that drops tokens at this step; None where a matching is due. Counts as a step.

        Raises:
            ValueError: settings that no engine can follow: a step that matches and drops at once, means of tokens, or
                symmetric reduction, which matches on keys.
        """
        self._check_for_engines()
        batch, heads, n, head_width = shape
        of_step = Shape(batch=batch, heads=heads, head_width=head_width, num_tokens=n, num_text=place.num_text)
        plan = self._plan(of_step, n, place)
        places = [replace(place, block=block) for block in range(place.num_blocks)]
        kept = [
            {feature: self._known(feature, here, (batch, heads)) for feature in self._numbers(plan, here)}
            for here in places
        ]
        is_due = any(known is None for of_block in kept for known in of_block.values())
        for here in places:
            numbers = {} if is_due else self._numbers(plan, here)
            self._count(of_step, here, numbers.get("q", n), numbers.get("kv", n))
        if is_due:
            return None
        return {
            block: _selection(of_block.get("q"), of_block.get("kv")) for block, of_block in enumerate(kept) if of_block
        }

    def match(self, q: Tensor | None, v: Tensor | None, place: Place, /) -> None:
        """Match a block in a step that ran whole, where a matching is due.

        Raises:
            ValueError: a feature that is to be matched is missing.
        """
        assert self.plan is not None  # `selections` asked for this
        shown: dict[Feature, Tensor | None] = {"q": q, "kv": v}
        for feature, tokens in shown.items():
            num_kept = self._numbers(self.plan, place).get(feature)
            if num_kept is None:
                continue
            if tokens is None:
                raise ValueError(
                    f"block {place.block} drops {feature}, and the engine does not show that feature of it"
                )
            batch, heads, n, head_width = tokens.shape
            if self._known(feature, place, (batch, heads)) is None:
                shape = Shape(batch=batch, heads=heads, head_width=head_width, num_tokens=n, num_text=place.num_text)
                self._match(feature, tokens, num_kept, place, shape)

    def report(self) -> dict[str, Any]:
        """What was reduced and saved; see `fastvid_accel.asymrnr.report`."""
        head: dict[str, Any] = {"name": "asymrnr", "settings": self.config.to_json()}
        if self.plan is None or self.prediction is None:
            return head | {"is_on": False, "tokens": None}
        head |= {"model": None if self.table is None else self.table.model, "is_on": self.is_on}
        return head | report(self.plan, self.prediction, self.tally, self.config.metric)

    def _plan(self, shape: Shape, num_keys: int, place: Place) -> Plan:
        """Made at the first call of a video, and anew where an accelerator beside this one changed the grid."""
        n = place.grid[0] * place.grid[1] * place.grid[2]
        if {shape.num_tokens, num_keys} != {n}:
            raise ValueError(
                f"{min(shape.num_tokens, num_keys)} tokens do not fill the grid {place.grid} of {n}; only one"
                " accelerator may drop tokens inside attention, and none works on a part of the sequence, as context"
                " parallelism leaves"
            )
        key = (place.grid, place.num_blocks, shape)
        if self.plan is None or self._planned != key:
            if self.plan is None and self.table is not None and self.table.grid != place.grid:
                raise ValueError(
                    f"`table` is of a token grid {self.table.grid}, this video has {place.grid}; calibrate at this size"
                )
            self.plan = make_plan(
                self.config, self.table, grid=place.grid, num_blocks=place.num_blocks, num_steps=self.num_steps
            )
            self.prediction = predict(self.plan, shape, metric=self.config.metric)
            self._planned = key
            self._say()
        return self.plan

    def _say(self) -> None:
        assert self.plan is not None
        assert self.prediction is not None
        for clamp in self.plan.clamps:
            LOGGER.warning(
                "AsymRnR: a rate of %g for %s is more than the stride %s allows; %.4f holds",
                clamp.asked,
                clamp.feature,
                self.config.stride,
                clamp.given,
            )
        if not self.is_on:
            LOGGER.warning(
                "AsymRnR is off: it would save %.1f %% of the transformer's operations, less than `min_gain` %.1f %%",
                100 * self.prediction.gain,
                100 * self.config.min_gain,
            )

    def _check_for_engines(self) -> None:
        config = self.config
        for name, wrong, right in (
            ("dense_matching", not config.dense_matching, "True: an engine is told before it runs which tokens stay"),
            ("reduction", config.reduction != "discard", "'discard': an engine gathers tokens, and means none"),
            ("h", bool(config.h), "(): an engine shows queries and values, which `q` and `kv` match"),
        ):
            if wrong:
                raise ValueError(
                    f"`{name}` of AsymRnR is {getattr(config, name)!r}; with an engine it has to be {right}"
                )

    def _numbers(self, plan: Plan, place: Place) -> dict[Feature, int]:
        """Tokens that stay, of the features that lose some."""
        if not self.is_on:
            return {}
        cell = plan.cell(place.block, place.step)
        return {feature: getattr(cell, feature) for feature in FEATURES if getattr(cell, feature) < plan.num_tokens}

    def _count(self, shape: Shape, place: Place, num_q: int, num_k: int) -> None:
        n = shape.num_tokens
        self.tally.done[place.branch, place.block, place.step] = (shape, num_q, num_k)
        self.tally.stayed[place.block, place.step] = (num_q / n, num_k / n)

    def _known(self, feature: Feature, place: Place, rows: tuple[int, int]) -> Kept | None:
        """What was matched in this window; None where that is of another grid or batch, or not there."""
        match = self._matches.get((place.branch, place.block, feature))
        window = place.step // self.config.window
        if match is None or (match.window, match.grid, match.rows) != (window, place.grid, rows):
            return None
        return match.kept

    def _match(self, feature: Feature, tokens: Tensor, num_kept: int, place: Place, shape: Shape) -> None:
        config, window = self.config, place.step // self.config.window
        # without the branch: both branches of guidance get the same destinations, or their difference would flicker
        generator = drawing(config.seed, place.block, feature, window, place.grid)
        parts = partition(place.grid, config.stride, config.destination, generator=generator, device=tokens.device)
        self.tally.matcher = matcher_for(tokens.device)
        nearest = match(tokens, parts, config.metric, generator=generator, matcher=self.tally.matcher)
        kept = select(nearest, parts, num_kept)
        self.tally.matchings[shape, len(parts.destinations)] += 1
        rows = shape.batch, shape.heads
        self._matches[place.branch, place.block, feature] = _Match(window=window, grid=place.grid, rows=rows, kept=kept)


def _selection(queries: Kept | None, keys: Kept | None) -> Selection:
    return Selection(
        keep_q=None if queries is None else queries.positions,
        restore=None if queries is None else queries.rows,
        keep_kv=None if keys is None else keys.positions,
    )
