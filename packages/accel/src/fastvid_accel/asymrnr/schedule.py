"""Which rate holds in which block and window: settings and similarities to a plan."""

from dataclasses import dataclass
from fractions import Fraction

from fastvid_accel.asymrnr.config import AsymRnRConfig, Metric, Rates, exact
from fastvid_accel.asymrnr.cost import Shape, attention_flops, linear_flops, matching_flops
from fastvid_accel.asymrnr.partition import Grid, num_destinations
from fastvid_accel.asymrnr.reduction import num_kept
from fastvid_accel.asymrnr.similarity import Feature, SimilarityTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Of one block in one window: the tokens that stay of each feature; as many as there are where none goes."""

    q: int
    kv: int
    h: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Clamp:
    """A rate that cells of the grid do not allow: destinations always stay."""

    feature: Feature
    asked: float
    given: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that is decided before a video begins.

    Attributes:
        cells: block by block, window by window.
        clamps: rates that were lowered.
        num_tokens, num_destinations: of the grid.
        window: steps of one.
        dense_steps: of each window, the first ones, that compute all tokens.
        num_steps: of the sampler.
    """

    cells: tuple[tuple[Cell, ...], ...]
    clamps: tuple[Clamp, ...]
    num_tokens: int
    num_destinations: int
    window: int
    dense_steps: int
    num_steps: int

    def cell(self, block: int, step: int) -> Cell:
        """What holds in a block at a step."""
        return self.cells[block][step // self.window]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Operations of a whole video, over all blocks and steps."""

    dense_attention: int
    attention: int
    matching: int
    linear: int

    @property
    def gain(self) -> float:
        """Share of all operations that goes; below zero where matching costs more than it saves."""
        return (self.dense_attention - self.attention - self.matching) / (self.dense_attention + self.linear)


def make_plan(
    config: AsymRnRConfig, table: SimilarityTable | None, *, grid: Grid, num_blocks: int, num_steps: int
) -> Plan:
    """The plan of one video.

    Args:
        table: None where no threshold asks for one.
        grid: of the tokens now; an accelerator beside this one may have thinned out the frames since the video began.
    Raises:
        ValueError: the stride does not fit the grid, or the table another model.
    Source: AsymRnR, section 3.4. Of several thresholds that a similarity reaches, the largest rate holds, as in the
        published settings.
    """
    if table is not None and table.num_blocks != num_blocks:
        raise ValueError(
            f"`table` is of {table.model!r} with {table.num_blocks} blocks, the model here has {num_blocks};"
            " calibrate this one"
        )
    n, d = grid[0] * grid[1] * grid[2], num_destinations(grid, config.stride)
    fitting = None if table is None else table.resampled(num_steps, config.window)
    clamps: dict[tuple[Feature, Fraction], Clamp] = {}
    windows = -(-num_steps // config.window)

    def kept(feature: Feature, block: int, window: int) -> int:
        rate = Fraction(0)
        if block >= config.first_block:
            rate = _rate(getattr(config, feature), fitting, feature, block, window)
        if not rate:
            return n
        tokens = num_kept(n, d, rate)
        if tokens > n * (1 - rate):
            clamps[feature, rate] = Clamp(feature=feature, asked=float(rate), given=1 - d / n)
        return tokens

    cells = tuple(
        tuple(
            Cell(q=kept("q", block, window), kv=kept("kv", block, window), h=kept("h", block, window))
            for window in range(windows)
        )
        for block in range(num_blocks)
    )
    return Plan(
        cells=cells,
        clamps=tuple(clamps.values()),
        num_tokens=n,
        num_destinations=d,
        window=config.window,
        dense_steps=int(config.dense_matching),
        num_steps=num_steps,
    )


def predict(plan: Plan, shape: Shape, *, metric: Metric, extra_channels: int = 0) -> Prediction:
    """What the plan costs and saves, if every block runs at every step.

    Args:
        metric: `random` compares nothing.
        extra_channels: see `matching_flops`.
    """
    dense = attention_flops(shape, shape.num_tokens, shape.num_tokens)
    attention = matching = 0
    for row in plan.cells:
        for window, cell in enumerate(row):
            steps = min(plan.window, plan.num_steps - window * plan.window)
            queries, keys = min(cell.q, cell.h), min(cell.kv, cell.h)
            attention += plan.dense_steps * dense + (steps - plan.dense_steps) * attention_flops(shape, queries, keys)
            features = sum(tokens < plan.num_tokens for tokens in (cell.q, cell.kv, cell.h))
            if metric != "random":
                matching += features * matching_flops(shape, plan.num_destinations, extra_channels=extra_channels)
    calls = len(plan.cells) * plan.num_steps
    return Prediction(
        dense_attention=calls * dense, attention=attention, matching=matching, linear=calls * linear_flops(shape)
    )


def _rate(rates: Rates, table: SimilarityTable | None, feature: Feature, block: int, window: int) -> Fraction:
    rows = None if table is None else table.of(feature)
    similarity = 0.0 if rows is None else rows[block][window]
    return max((exact(rate) for threshold, rate in rates if threshold <= similarity), default=Fraction(0))
