"""Settings of AsymRnR."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from math import prod
from typing import Any, Literal, Self, get_args

Metric = Literal["euclidean", "cosine", "dot", "random"]
"""How alike two tokens are; `random` looks at none of them, the control of the paper's Table 5."""

Reduction = Literal["discard", "mean"]
"""What becomes of a dropped token: nothing, or a share in the mean at its destination."""

Destination = Literal["random", "first", "centre"]
"""Which token of a cell stays in any case."""

Rates = tuple[tuple[float, float], ...]
"""Pairs (threshold, rate): where a cell's similarity reaches a threshold, the rate holds; of several, the largest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AsymRnRConfig:
    """What is reduced, where, and by how much.

    The defaults are those of the paper's ablations (Tables 4 to 6) without a schedule: 0.3 of keys and values in every
    block and at every step. A schedule needs a `SimilarityTable` beside these settings, from `fastvid-cli calibrate`.

    Attributes:
        q: rates of queries, matched among themselves.
        kv: rates of keys and values, matched on values; a key goes with its value.
        h: rates of all three together, matched on keys: the symmetric baseline (ToMe, SymRnR). Excludes `q` and `kv`.
        stride: size of a cell of the token grid along t, h, w; one token a cell is a destination.
        metric: of the matching.
        reduction: of dropped tokens.
        destination: `random` draws anew for each block, feature and window, from `seed`.
        window: steps that one matching serves, at least 1. (The paper's s counts the reuses: its 4 is 5 here.)
        seed: of the random destinations, from 0.
        first_block: blocks before it stay whole: those that a first-block cache compares.
        dense_matching: the step that matches computes all tokens, only those after it drop some. Engines ask for it:
            they are told which tokens stay before they run.
        min_gain: where fewer operations of the whole transformer would go, in [0, 1), nothing is reduced at all.
    """

    q: Rates = ()
    kv: Rates = ((0.0, 0.3),)
    h: Rates = ()
    stride: tuple[int, int, int] = (2, 2, 2)
    metric: Metric = "euclidean"
    reduction: Reduction = "discard"
    destination: Destination = "random"
    window: int = 5
    seed: int = 0
    first_block: int = 0
    dense_matching: bool = False
    min_gain: float = 0.03

    def __post_init__(self) -> None:
        for name in ("q", "kv", "h"):
            _check_rates(name, getattr(self, name))
        if self.h and (self.q or self.kv):
            raise ValueError(
                f"`h` is {self.h} beside `q` {self.q} and `kv` {self.kv}; symmetric and asymmetric reduction exclude"
                " one another: leave `h` empty, or `q` and `kv`"
            )
        whole = len(self.stride) == 3 and all(type(step) is int and step >= 1 for step in self.stride)
        if not whole or prod(self.stride) < 2:
            raise ValueError(
                f"`stride` is {self.stride}; expected three numbers from 1, such as (1, 2, 2) or (2, 2, 2)"
            )
        for name, kind in (("metric", Metric), ("reduction", Reduction), ("destination", Destination)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"`{name}` is {getattr(self, name)!r}; expected one of {', '.join(get_args(kind))}")
        for name, least in (("window", 1), ("seed", 0), ("first_block", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(
                    f"`{name}` is {value!r}; expected a whole number from {least} (nearest: {least} and {least + 1})"
                )
        if type(self.dense_matching) is not bool:
            raise ValueError(f"`dense_matching` is {self.dense_matching!r}; expected True or False")
        if self.dense_matching and self.window == 1:
            raise ValueError(
                "`window` is 1 with `dense_matching`: every step would match, none drop tokens; take 2 or more"
            )
        if type(self.min_gain) not in (int, float) or not 0 <= self.min_gain < 1:
            raise ValueError(f"`min_gain` is {self.min_gain!r}; expected a share in [0, 1), such as 0 or 0.03")

    @property
    def needs_table(self) -> bool:
        """Whether a threshold asks how alike tokens are."""
        return any(threshold > 0 for rates in (self.q, self.kv, self.h) for threshold, _ in rates)

    def to_json(self) -> dict[str, Any]:
        """All settings, as JSON knows them."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`, after JSON made lists of tuples.

        Raises:
            ValueError: a setting that is missing, unknown, of another type or out of range.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"`settings` are {values!r:.40}; expected an object of settings")
        names = {field.name for field in fields(cls)}
        if values.keys() != names:
            raise ValueError(
                f"`settings` lack {sorted(names - values.keys())} and know nothing of {sorted(values.keys() - names)}"
            )
        given = dict(values)
        try:
            for name in ("q", "kv", "h"):
                given[name] = tuple((float(threshold), float(rate)) for threshold, rate in values[name])
            given["stride"] = tuple(values["stride"])
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"`settings` hold no pairs of numbers, or no stride, where they should: {error}"
            ) from error
        return cls(**given)


def exact(rate: float) -> Fraction:
    """The decimal number that was written: 0.3 is three tenths, not the float next to it."""
    return Fraction(str(rate))


def _check_rates(name: str, rates: Rates) -> None:
    for threshold, rate in rates:
        if not 0 <= threshold <= 1:
            raise ValueError(f"`{name}` has a threshold {threshold}; expected a similarity in [0, 1], such as 0 or 1")
        if not 0 <= rate < 1:
            raise ValueError(f"`{name}` has a rate {rate}; expected a share in [0, 1), such as 0 or 0.99")
    thresholds = [threshold for threshold, _ in rates]
    if len(set(thresholds)) < len(thresholds):
        raise ValueError(f"`{name}` names a threshold twice: {thresholds}; give each one rate")
