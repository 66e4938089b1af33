"""The golden numbers are those of the released code where all frames are alike."""

import math

import pytest
from fastvid_accel.vgdfr.frame_rate import (
    Candidates,
    FrameRate,
    above_threshold,
    candidates,
    for_removal,
    removal_for_lengths,
    removal_for_ratio,
    trimmed,
)
from fastvid_accel.vgdfr.similarity import Similarity
from hypothesis import given
from hypothesis import strategies as st


def alike(num_frames: int, value: float = 1.0) -> Similarity:
    return Similarity(near=tuple((value,) * max(num_frames - distance, 0) for distance in (1, 2, 3)))  # type: ignore[arg-type]


def with_cut(num_frames: int, before: int) -> Similarity:
    """All frames alike, but none before frame `before` is like one from there on."""
    near = (
        tuple(0.1 if first < before <= first + distance else 1.0 for first in range(num_frames - distance))
        for distance in (1, 2, 3)
    )
    return Similarity(near=tuple(near))  # type: ignore[arg-type]


@st.composite
def similarities(draw: st.DrawFn) -> tuple[Similarity, int]:
    stride = draw(st.sampled_from([1, 4, 6, 8]))
    num_frames = stride * draw(st.integers(0, 26)) + 1
    values = st.floats(0, 1) | st.sampled_from([0.5, 0.75, math.nan])
    near = tuple(
        tuple(
            draw(st.lists(values, min_size=max(num_frames - step, 0), max_size=max(num_frames - step, 0)))
            if num_frames <= 61
            else [draw(values)] * (num_frames - step)
        )
        for step in (1, 2, 3)
    )
    return Similarity(near=near), stride  # type: ignore[arg-type]


@pytest.mark.parametrize(("num_frames", "doubled", "fourfold"), [(49, 8, 6), (65, 10, 7), (97, 14, 9), (129, 18, 11)])
def test_golden_lengths(num_frames: int, doubled: int, fourfold: int) -> None:
    blocks = candidates(alike(num_frames), 4)
    assert len(above_threshold(blocks, 0.5, highest_rate=2).kept_latents) == doubled
    assert len(above_threshold(blocks, 0.5).kept_latents) == fourfold


def test_golden_schedule_at_rate_two() -> None:
    rate = above_threshold(candidates(alike(97), 4), 0.5, highest_rate=2)
    assert [merge.first_frame for merge in rate.merges] == list(range(1, 82, 8))
    assert rate.kept_latents == (0, *range(1, 24, 2), 24)
    assert len(rate.groups) == 53


def test_golden_schedule_at_rate_four() -> None:
    rate = above_threshold(candidates(alike(97), 4), 0.5)
    assert [(merge.first_frame, merge.rate) for merge in rate.merges] == [
        (1, 4), (17, 4), (33, 4), (49, 4), (65, 4), (81, 2),
    ]  # fmt: skip
    assert rate.kept_latents == (0, 1, 5, 9, 13, 17, 21, 23, 24)
    assert len(rate.groups) == 33


def test_seventeen_frames_have_one_block() -> None:
    rate = above_threshold(candidates(alike(17), 4), 0.5)
    assert rate.kept_latents == (0, 1, 3, 4)
    assert rate.groups == ((0, 1), (1, 2), (3, 2), (5, 2), (7, 2), *((frame, 1) for frame in range(9, 17)))


@pytest.mark.parametrize("num_frames", [1, 5, 9])
def test_too_few_frames_are_left_alone(num_frames: int) -> None:
    rate = above_threshold(candidates(alike(num_frames), 4), 0.0)
    assert rate.merges == ()
    assert rate.groups == tuple((frame, 1) for frame in range(num_frames))


@pytest.mark.parametrize("before", range(1, 97))
def test_no_cut_is_ever_crossed(before: int) -> None:
    """Neither by a mean nor by what is interpolated later, between a group and the next."""
    rate = above_threshold(candidates(with_cut(97, before), 4), 0.5)
    for merge in rate.merges:
        assert not merge.first_frame < before <= merge.first_frame + merge.rate * 4
    assert rate.removed_latents >= 13  # a cut costs no more than the blocks it lies in


def crosses_cuts(similarity: Similarity, stride: int) -> Candidates:
    """The released code's test: inside pairs alone."""
    starts = range(1, similarity.num_frames - 1 - 2 * stride, 2 * stride)
    scores = tuple(min(similarity.near[0][start : start + 2 * stride : 2]) for start in starts)
    return Candidates(
        num_frames=similarity.num_frames, stride=stride, doubled=scores, fourfold=(0.0,) * (len(scores) - 1)
    )


def test_a_mutant_that_looks_inside_pairs_alone_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.candidates", crosses_cuts)
    with pytest.raises(AssertionError):
        test_no_cut_is_ever_crossed(9)


@given(similarities(), st.floats(-1, 1))
def test_structure(given_: tuple[Similarity, int], threshold: float) -> None:
    similarity, stride = given_
    rate = above_threshold(candidates(similarity, stride), threshold)
    frames = [first + step for first, length in rate.groups for step in range(length)]
    assert frames == list(range(similarity.num_frames))  # each once, in order
    assert (len(rate.groups) - 1) % stride == 0
    assert len(rate.kept_latents) == (len(rate.groups) - 1) // stride + 1
    assert rate.kept_latents[0] == 0
    assert rate.groups[0] == (0, 1)
    assert rate.groups[-1][1] == 1
    assert all(merge.score > threshold for merge in rate.merges)


@given(similarities(), st.floats(-1, 1), st.floats(-1, 1))
def test_a_lower_threshold_never_saves_less(given_: tuple[Similarity, int], one: float, other: float) -> None:
    blocks = candidates(*given_)
    low, high = (above_threshold(blocks, threshold).removed_latents for threshold in sorted((one, other)))
    assert low >= high


@given(similarities(), st.integers(0, 30))
def test_the_asked_number_of_latents_goes_or_all_that_can(given_: tuple[Similarity, int], wanted: int) -> None:
    blocks = candidates(*given_)
    most = above_threshold(blocks, -math.inf).removed_latents
    assert for_removal(blocks, wanted).removed_latents == min(wanted, most)


@given(similarities(), st.integers(0, 30))
def test_trimming_takes_the_least_similar_first(given_: tuple[Similarity, int], limit: int) -> None:
    blocks = candidates(*given_)
    whole = above_threshold(blocks, -math.inf)
    rate = trimmed(whole, blocks, limit)
    assert rate.removed_latents == min(limit, whole.removed_latents)
    left, gone = set(rate.merges), set(whole.merges) - set(rate.merges)
    if gone and left & set(whole.merges):
        assert max(merge.score for merge in gone) <= min(merge.score for merge in left & set(whole.merges))


@pytest.mark.parametrize("ratio", [0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 1.0])
def test_a_ratio_is_met_within_half_a_latent(ratio: float) -> None:
    blocks = candidates(alike(129), 4)
    rate = for_removal(blocks, removal_for_ratio(129, 4, ratio))
    assert abs(len(rate.groups) - ratio * 129) <= 2


def test_lengths_take_the_shortest_that_needs_no_more_merging() -> None:
    assert removal_for_lengths(25, 12, (25, 21, 17, 13, 9)) == 12
    assert removal_for_lengths(25, 11, (25, 21, 17, 13, 9)) == 8
    assert removal_for_lengths(25, 3, (25, 21)) == 0
    assert removal_for_lengths(25, 3, (9,)) == 0


def test_what_is_not_a_number_is_never_merged() -> None:
    blocks = candidates(alike(97, math.nan), 4)
    assert above_threshold(blocks, -1.0).merges == ()
    assert for_removal(blocks, 8).merges == ()


def test_other_numbers_of_frames_are_refused() -> None:
    with pytest.raises(ValueError, match=r"16 frames.*multiple of 4 and one more \(nearest: 13 and 17\)"):
        candidates(alike(16), 4)


def test_nothing_merged_is_every_frame() -> None:
    rate = FrameRate(num_frames=9, stride=4)
    assert rate.kept_latents == (0, 1, 2)
    assert rate.removed_latents == 0
