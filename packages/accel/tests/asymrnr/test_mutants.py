"""AsymRnR with a fault in it: the tests beside this file must notice each."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from fastvid_accel.asymrnr import partition as partitioning
from fastvid_accel.asymrnr import reducer as reducing
from fastvid_accel.asymrnr import reduction
from torch import Tensor

from . import test_accelerator, test_partition, test_reduction

MATCH, SELECT, REDUCE = reducing.match, reducing.select, reducing.reduce_tokens


def keeps_the_most_similar(nearest: Any, parts: Any, count: int) -> Any:
    return SELECT(type(nearest)(destination=nearest.destination, similarity=-nearest.similarity), parts, count)


def rounds_in_floats(num_tokens: int, num_destinations: int, rate: Fraction) -> int:
    return max(num_destinations, int(num_tokens * (1 - float(rate))))


def drops_a_destination(num_tokens: int, num_destinations: int, rate: Fraction) -> int:
    return int(num_tokens * (1 - rate))


def draws_the_same_everywhere(seed: int, *place: object) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixes_rows(tokens: Tensor, parts: Any, metric: Any, **rest: Any) -> Any:
    return MATCH(tokens.mean(dim=0, keepdim=True).expand_as(tokens).contiguous(), parts, metric, **rest)


@pytest.mark.parametrize(
    ("module", "name", "mutant", "guard"),
    [
        (test_reduction, "select", keeps_the_most_similar, test_reduction.test_the_least_similar_sources_stay),
        (
            test_reduction,
            "num_kept",
            rounds_in_floats,
            lambda: test_reduction.test_counts_are_exact_where_floats_lose_a_token(17550, 0.8),
        ),
        (test_reduction, "num_kept", drops_a_destination, test_reduction.test_destinations_always_stay),
        (
            test_partition,
            "drawing",
            draws_the_same_everywhere,
            test_partition.test_a_place_always_draws_the_same_and_another_place_something_else,
        ),
        (reducing, "match", mixes_rows, test_accelerator.test_rows_of_a_batch_are_as_in_calls_of_their_own),
    ],
)
def test_a_fault_is_noticed(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, mutant: Callable[..., Any], guard: Callable[[], None]
) -> None:
    monkeypatch.setattr(module, name, mutant)
    with pytest.raises(AssertionError):
        guard()


def test_a_matching_that_never_grows_old_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def once(self: Any, feature: Any, place: Any, rows: Any) -> Any:
        known = self._matches.get((place.branch, place.block, feature))
        return None if known is None else known.kept

    monkeypatch.setattr(reducing.TokenReducer, "_known", once)
    monkeypatch.setattr(reducing.TokenReducer, "begin_step", lambda self, step: setattr(self, "_step", step))
    with pytest.raises(AssertionError):
        test_accelerator.test_a_matching_serves_its_window_and_no_longer(monkeypatch)


def test_without_a_fault_they_pass() -> None:
    assert partitioning.num_destinations((13, 30, 45), (2, 2, 2)) == 1980
    assert reduction.num_kept(10, 1, Fraction(1, 2)) == 5
    test_reduction.test_the_least_similar_sources_stay()
