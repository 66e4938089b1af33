"""How alike the tokens of a model are, block by block and step by step: what a schedule is made from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any, Literal, Self, get_args

from fastvid_accel.asymrnr.config import Metric

Feature = Literal["q", "kv", "h"]
FEATURES: tuple[Feature, ...] = ("q", "kv", "h")

Similarities = tuple[tuple[float, ...], ...]
"""A row for each block, a value in [0, 1] for each window of steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarityTable:
    """Measured once on any video of a model; it hardly depends on what the video shows.

    Attributes:
        model: which one; its users compare this with what they have.
        grid: tokens along t, h, w.
        stride, metric: of the matching that measured.
        num_steps: of the sampler.
        window: steps a value stands for.
        q, kv, h: of queries, of values, and of keys (for symmetric reduction); None: not measured.
    Source: AsymRnR, section 3.4. The paper standardises to [0, 1] and does not say how.
    """

    model: str
    grid: tuple[int, int, int]
    stride: tuple[int, int, int]
    metric: Metric
    num_steps: int
    window: int
    q: Similarities | None
    kv: Similarities | None
    h: Similarities | None

    def __post_init__(self) -> None:
        if self.metric not in get_args(Metric):
            raise ValueError(f"`table.metric` is {self.metric!r}; expected one of {', '.join(get_args(Metric))}")
        if type(self.model) is not str:
            raise ValueError(f"`table.model` is {self.model!r:.40}; expected a name")
        for name in ("grid", "stride"):
            sizes = getattr(self, name)
            if len(sizes) != 3 or any(type(size) is not int or size < 1 for size in sizes):
                raise ValueError(
                    f"`table.{name}` is {sizes!r:.40}; expected three whole numbers from 1, such as (2, 2, 2)"
                )
        for name in ("num_steps", "window"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise ValueError(f"`table.{name}` is {getattr(self, name)!r:.40}; expected a whole number from 1")
        windows = -(-self.num_steps // self.window)
        shapes: dict[Feature, tuple[int, set[int]]] = {
            name: _shape(rows) for name in FEATURES if (rows := self.of(name)) is not None
        }
        if not shapes:
            raise ValueError("`table` holds neither `q` nor `kv` nor `h`; give at least one")
        for name, (blocks, columns) in shapes.items():
            if columns != {windows}:
                raise ValueError(
                    f"`table.{name}` has rows of {sorted(columns)} values; {self.num_steps} steps in windows of"
                    f" {self.window} make {windows}"
                )
            if blocks != self.num_blocks:
                raise ValueError(f"`table.{name}` has {blocks} rows, another feature {self.num_blocks}")
            if not all(0 <= value <= 1 for row in self.of(name) or () for value in row):
                raise ValueError(f"`table.{name}` has values outside [0, 1]")

    def of(self, feature: Feature) -> Similarities | None:
        """The rows of a feature."""
        rows: Similarities | None = getattr(self, feature)
        return rows

    @property
    def num_blocks(self) -> int:
        """Rows of each feature that was measured."""
        return len(next(rows for name in FEATURES if (rows := self.of(name)) is not None))

    def resampled(self, num_steps: int, window: int) -> "SimilarityTable":
        """For another number of steps or another window: each new window takes the value at its middle."""
        values: dict[str, Any] = {"num_steps": num_steps, "window": window}
        for name in FEATURES:
            rows = self.of(name)
            if rows is not None:
                columns = [self._column(start, num_steps, window) for start in range(0, num_steps, window)]
                values[name] = tuple(tuple(row[column] for column in columns) for row in rows)
        return SimilarityTable(**{field.name: getattr(self, field.name) for field in fields(self)} | values)

    def _column(self, start: int, num_steps: int, window: int) -> int:
        middle = Fraction(start + min(start + window, num_steps), 2 * num_steps)
        return int(middle * self.num_steps / self.window)

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON knows it."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`, after JSON made lists of tuples.

        Raises:
            ValueError: a field that is missing or unknown, or values that make no table.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"`table` is {values!r:.40}; expected an object, or null")
        names = {field.name for field in fields(cls)}
        if values.keys() != names:
            raise ValueError(
                f"`table` lacks {sorted(names - values.keys())} and knows nothing of {sorted(values.keys() - names)}"
            )
        try:
            given = dict(values, grid=tuple(values["grid"]), stride=tuple(values["stride"]))
            for name in FEATURES:
                if values[name] is not None:
                    given[name] = tuple(tuple(float(value) for value in row) for row in values[name])
        except (TypeError, ValueError) as error:
            raise ValueError(f"`table` holds no rows of numbers, or no sizes, where it should: {error}") from error
        return cls(**given)


def _shape(rows: Similarities) -> tuple[int, set[int]]:
    return len(rows), {len(row) for row in rows}
