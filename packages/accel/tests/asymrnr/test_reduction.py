from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from fastvid_accel.asymrnr.config import Metric, exact
from fastvid_accel.asymrnr.matching import match
from fastvid_accel.asymrnr.partition import Grid, Partition, drawing, num_destinations, partition
from fastvid_accel.asymrnr.reduction import Kept, num_kept, reduce_tokens, restore_tokens, select
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

GRIDS = st.tuples(*(st.integers(1, 7),) * 3)
STRIDES = st.tuples(*(st.integers(1, 3),) * 3)
RATES = st.sampled_from((0.0, 0.1, 0.25, 0.3, 0.5, 0.8, 0.95))


def kept_of(grid: Grid, stride: Grid, rate: float, metric: Metric = "euclidean") -> tuple[Tensor, Partition, Kept]:
    n = grid[0] * grid[1] * grid[2]
    parts = partition(grid, stride, "random", generator=drawing(0), device=torch.device("cpu"))
    tokens = torch.randn(2, 2, n, 4, generator=torch.Generator().manual_seed(0))
    nearest = match(tokens, parts, metric, generator=drawing(1))
    return tokens, parts, select(nearest, parts, num_kept(n, len(parts.destinations), exact(rate)))


@pytest.mark.parametrize("n", [17550, 67320, 61200, 23850, 32760])
@pytest.mark.parametrize("rate", [0.8, 0.9])
def test_counts_are_exact_where_floats_lose_a_token(n: int, rate: float) -> None:
    assert num_kept(n, 0, exact(rate)) == round(n * (1 - rate))
    assert int(n * (1 - rate)) == num_kept(n, 0, exact(rate)) - 1


def test_destinations_always_stay() -> None:
    assert num_kept(17550, 1980, exact(0.95)) == 1980
    assert num_kept(17550, 1980, Fraction(3, 10)) == 12285


@given(GRIDS, STRIDES, RATES, st.sampled_from(("euclidean", "cosine", "dot", "random")))
def test_every_position_has_a_row_and_every_row_its_position(
    grid: Grid, stride: Grid, rate: float, metric: Metric
) -> None:
    assume(all(size >= step for size, step in zip(grid, stride, strict=True)))
    tokens, parts, kept = kept_of(grid, stride, rate, metric)
    n, m = tokens.shape[2], kept.positions.shape[2]
    assert m == max(num_destinations(grid, stride), int(n * (1 - exact(rate))))
    own = kept.rows.long().gather(2, kept.positions.long())
    assert torch.equal(own, torch.arange(m).expand_as(own))
    dropped = torch.ones(2, 2, n, dtype=torch.bool).scatter(2, kept.positions.long(), value=False)
    assert int(dropped.sum()) == 4 * (n - m)
    stands_for = kept.positions.long().gather(2, kept.rows.long())[dropped]
    assert torch.isin(stands_for, parts.destinations).all()


@given(GRIDS, STRIDES, RATES)
def test_restoring_brings_each_kept_token_back_to_its_place(grid: Grid, stride: Grid, rate: float) -> None:
    assume(all(size >= step for size, step in zip(grid, stride, strict=True)))
    tokens, _, kept = kept_of(grid, stride, rate)
    reduced = reduce_tokens(tokens, kept, "discard")
    restored = restore_tokens(reduced, kept)
    assert torch.equal(reduce_tokens(restored, kept, "discard"), reduced)
    if kept.positions.shape[2] == tokens.shape[2]:
        assert torch.equal(restored, tokens)
        assert torch.equal(restore_tokens(reduce_tokens(tokens, kept, "mean"), kept), tokens)


def test_the_least_similar_sources_stay() -> None:
    tokens, parts, kept = kept_of((4, 4, 4), (2, 2, 2), 0.5)
    similarity = match(tokens, parts, "euclidean", generator=drawing(1)).similarity
    stays = torch.zeros(2, 2, 64, dtype=torch.bool).scatter(2, kept.positions.long(), value=True)[:, :, parts.sources]
    for row in range(2):
        for head in range(2):
            least = similarity[row, head][~stays[row, head]].min()
            assert similarity[row, head][stays[row, head]].max() <= least


def test_of_equal_sources_the_first_ones_stay() -> None:
    parts = partition((2, 2, 4), (2, 2, 2), "first", generator=drawing(0), device=torch.device("cpu"))
    kept = select(match(torch.ones(1, 1, 16, 4), parts, "euclidean", generator=drawing(0)), parts, 6)
    assert kept.positions.tolist() == [[[1, 3, 4, 5, 0, 2]]]


def test_mean_is_that_of_all_that_a_destination_stands_for() -> None:
    tokens, _, kept = kept_of((3, 4, 5), (2, 2, 2), 0.6)
    reduced = reduce_tokens(tokens, kept, "mean")
    for row in range(kept.positions.shape[2]):
        members = kept.rows[1, 1] == row
        torch.testing.assert_close(reduced[1, 1, row], tokens[1, 1][members].mean(dim=0))


def duplicated() -> tuple[Tensor, Tensor, Tensor, Partition]:
    """Queries, keys and values that are equal within each cell of two frames."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 12, 4, generator=generator).repeat(1, 1, 2, 1) for _ in "qkv")
    return q, k, v, partition((2, 3, 4), (2, 1, 1), "random", generator=drawing(0), device=torch.device("cpu"))


@pytest.mark.parametrize("reduction", ["discard", "mean"])
def test_dropping_duplicates_of_queries_is_exact(reduction: str) -> None:
    q, k, v, parts = duplicated()
    kept = select(match(q, parts, "euclidean", generator=drawing(0)), parts, 12)
    out = restore_tokens(F.scaled_dot_product_attention(reduce_tokens(q, kept, reduction), k, v), kept)  # type: ignore[arg-type]
    torch.testing.assert_close(out, F.scaled_dot_product_attention(q, k, v), rtol=0, atol=1e-6)


def test_dropping_half_of_all_duplicates_of_keys_is_exact_and_of_some_is_not() -> None:
    q, k, v, parts = duplicated()
    nearest = match(v, parts, "euclidean", generator=drawing(0))
    expected = F.scaled_dot_product_attention(q, k, v)
    all_pairs, some = (select(nearest, parts, count) for count in (12, 18))
    out = F.scaled_dot_product_attention(
        q, reduce_tokens(k, all_pairs, "discard"), reduce_tokens(v, all_pairs, "discard")
    )
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)
    out = F.scaled_dot_product_attention(q, reduce_tokens(k, some, "discard"), reduce_tokens(v, some, "discard"))
    assert (out - expected).abs().max() > 1e-3  # what is left of a pair weighs half: there is no bias for its size
