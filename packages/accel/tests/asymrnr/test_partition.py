from math import prod

import pytest
import torch
from fastvid_accel.asymrnr.config import Destination
from fastvid_accel.asymrnr.matching import match
from fastvid_accel.asymrnr.partition import Grid, Partition, drawing, num_destinations, partition
from hypothesis import given
from hypothesis import strategies as st

CPU = torch.device("cpu")
COGVIDEOX = (13, 30, 45)
GRIDS = st.tuples(*(st.integers(1, 9),) * 3)
STRIDES = st.tuples(*(st.integers(1, 4),) * 3)


def build(grid: Grid, stride: Grid, destination: Destination = "random", seed: int = 0) -> Partition:
    return partition(grid, stride, destination, generator=drawing(seed), device=CPU)


@pytest.mark.parametrize(
    ("stride", "expected"),
    [
        ((2, 2, 2), 1980),
        ((1, 2, 2), 4290),
        ((3, 2, 2), 1320),
        ((4, 2, 2), 990),
        ((2, 3, 3), 900),
        ((2, 4, 4), 462),
    ],
)
def test_destinations_of_cogvideox_as_in_table_6(stride: Grid, expected: int) -> None:
    assert num_destinations(COGVIDEOX, stride) == expected == len(build(COGVIDEOX, stride).destinations)


@pytest.mark.parametrize(("grid", "expected"), [((33, 34, 60), 2550), ((17, 45, 80), 1760), ((15, 30, 53), 780)])
def test_destinations_of_the_other_models(grid: Grid, expected: int) -> None:
    assert num_destinations(grid, (6, 2, 2)) == expected


@given(GRIDS, STRIDES, st.sampled_from(("random", "first", "centre")), st.integers(0, 99))
def test_every_token_is_on_one_side_and_every_whole_cell_has_one_destination(
    grid: Grid, stride: Grid, destination: Destination, seed: int
) -> None:
    if any(size < step for size, step in zip(grid, stride, strict=True)):
        with pytest.raises(ValueError, match="`stride` is"):
            build(grid, stride, destination, seed)
        return
    parts = build(grid, stride, destination, seed)
    together = torch.cat((parts.destinations, parts.sources))
    assert torch.equal(together.sort().values, torch.arange(prod(grid)))
    assert torch.equal(parts.destinations, parts.destinations.sort().values)
    assert len(parts.destinations) == num_destinations(grid, stride)
    for axis, line in enumerate(torch.unravel_index(parts.destinations, grid)):
        size, step = grid[axis], stride[axis]
        whole = size // step
        # a remainder leaves the last line without any destination, never pushes one off the grid
        assert int(line.max()) < size - (size % step > 0)
        starts = [
            late for late in range(max(1, size % step)) if set(((line - late) // step).tolist()) == set(range(whole))
        ]
        assert starts


def test_cogvideox_never_has_a_destination_in_the_last_frame_and_column() -> None:
    for seed in range(5):
        frames, _, columns = torch.unravel_index(build(COGVIDEOX, (2, 2, 2), seed=seed).destinations, COGVIDEOX)
        assert int(frames.max()) == 11
        assert int(columns.max()) <= 43


def test_a_place_always_draws_the_same_and_another_place_something_else() -> None:
    one, again = (partition((4, 4, 4), (2, 2, 2), "random", generator=drawing(3, 1, "q", 0), device=CPU) for _ in "ab")
    assert torch.equal(one.destinations, again.destinations)
    others = [drawing(4, 1, "q", 0), drawing(3, 2, "q", 0), drawing(3, 1, "kv", 0), drawing(3, 1, "q", 1)]
    for generator in others:
        other = partition((4, 4, 4), (2, 2, 2), "random", generator=generator, device=CPU)
        assert not torch.equal(one.destinations, other.destinations)


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    build((4, 4, 4), (2, 2, 2))
    assert torch.equal(torch.rand(1), expected)


def test_first_and_centre_need_no_luck() -> None:
    assert build((2, 2, 4), (2, 2, 2), "first").destinations.tolist() == [0, 2]
    assert build((2, 2, 4), (2, 2, 2), "centre").destinations.tolist() == [13, 15]


def test_the_default_device_does_not_count() -> None:
    expected = build((4, 5, 6), (2, 2, 2))
    with torch.device("meta"):
        found = build((4, 5, 6), (2, 2, 2))
        match(torch.randn(1, 1, 120, 4), found, "random", generator=drawing(0))
    assert torch.equal(found.destinations, expected.destinations)
