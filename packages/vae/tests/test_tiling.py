"""The tile plan as index arithmetic: it covers, it shares enough, its weights add up, and no tile is a sliver."""

from itertools import pairwise
from math import ceil

import pytest
import torch
from fastvid_vae import tiling
from fastvid_vae.latent_grid import cells, frames_before, pixels
from fastvid_vae.tiling import Tiling, cut, merge, plan_grid, plan_spans, span_weights
from hypothesis import given, settings
from hypothesis import strategies as st

LENGTHS = st.integers(1, 200)
SIZES = st.integers(1, 40)
OVERLAPS = st.floats(0, 0.5)
MAPS = st.sampled_from([cells, lambda cell: pixels(cell, stride=16), lambda cell: frames_before(cell, stride=4)])


@settings(deadline=None, max_examples=50)
@given(LENGTHS, SIZES, OVERLAPS)
def test_spans_cover_share_and_are_whole_tiles(length: int, size: int, overlap: float) -> None:
    spans = plan_spans(length, size, overlap)
    assert spans[0].start == 0
    assert spans[-1].stop == length
    assert {span.stop - span.start for span in spans} == {min(size, length)}
    for left, right in pairwise(spans):
        assert left.start < right.start <= left.stop
        assert left.stop - right.start >= min(ceil(size * overlap), size // 2)  # so any overlap is one cell at least
        assert left.fade_out == right.fade_in
    needed = 1 if length <= size else -(-(length - size) // (size - min(-int(-size * overlap // 1), size // 2))) + 1
    assert len(spans) <= needed


@settings(deadline=None, max_examples=50)
@given(LENGTHS, SIZES, OVERLAPS, MAPS)
def test_weights_add_up_to_one_everywhere(length: int, size: int, overlap: float, to_output: tiling.CellMap) -> None:
    total = torch.zeros(to_output(length))
    for span in plan_spans(length, size, overlap):
        weights = span_weights(span, to_output)
        assert bool((weights >= 0).all())
        total[to_output(span.start) : to_output(span.stop)] += weights
    assert torch.allclose(total, torch.ones_like(total), atol=1e-6)


def test_the_reference_settings() -> None:
    """512 px at stride 64: tiles of 8 cells, stride 6, fading over 2; 61 frames: 16 latents, stride 12, 16 frames."""
    spans = plan_spans(20, 8, 0.25)
    assert [span.start for span in spans] == [0, 6, 12]
    assert [span.fade_in for span in spans] == [(0, 0), (6, 8), (12, 14)]
    second = plan_spans(28, 16, 0.25)[1]
    assert second.start == 12
    weights = span_weights(second, lambda cell: frames_before(cell, stride=4))
    assert weights.shape == (64,)
    assert bool((weights[:4] == 0).all())
    assert torch.allclose(weights[4:12], (torch.arange(8) + 0.5) / 8)
    assert bool((weights[12:16] == 1).all())
    assert bool((weights[16:] == 1).all())


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(2, 10), OVERLAPS)
def test_cut_then_merge_is_the_identity(height: int, width: int, size: int, overlap: float) -> None:
    x = torch.arange(2 * 3 * height * width, dtype=torch.float64).view(2, 3, height, width)
    grid = plan_grid(height, width, Tiling(time=None, height=size, width=size, overlap=overlap))
    merged = merge((cut(x, tile, [cells] * 2) for tile in grid), grid, [cells] * 2)
    assert torch.allclose(merged, x, rtol=1e-6)


def test_one_tile_comes_back_as_it_is() -> None:
    x = torch.ones(1, 1, 3, 3)
    grid = plan_grid(3, 3, Tiling(time=None, height=None, width=8, overlap=0.25))
    assert merge(iter([x]), grid, [cells] * 2) is x


@pytest.mark.parametrize("overlap", [-0.1, 0.6, float("nan")])
def test_overlap_out_of_range(overlap: float) -> None:
    with pytest.raises(ValueError, match="`overlap` is"):
        Tiling(time=None, height=4, width=4, overlap=overlap)


def test_a_tile_of_one_cell_cannot_overlap() -> None:
    with pytest.raises(ValueError, match="`spatial` is one latent cell"):
        Tiling(time=None, height=1, width=4, overlap=0.25)
    assert len(plan_grid(3, 1, Tiling(time=None, height=1, width=1, overlap=0.0))) == 3
