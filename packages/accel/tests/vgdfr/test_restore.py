import pytest
import torch
from fastvid_accel.vgdfr.frame_rate import FrameRate, Merge
from fastvid_accel.vgdfr.motion import MotionInterpolator
from fastvid_accel.vgdfr.restore import LinearInterpolator, merge_frames, restore_frames
from torch import Tensor

RATE = FrameRate(
    num_frames=33,
    stride=4,
    merges=(Merge(first_frame=1, rate=4, score=1.0), Merge(first_frame=17, rate=2, score=1.0)),
)
INTERPOLATORS = [LinearInterpolator(), MotionInterpolator(levels=2)]


def ramp(num_frames: int) -> Tensor:
    """Frames that brighten evenly."""
    return torch.linspace(-1, 1, num_frames).view(1, 1, -1, 1, 1).expand(2, 3, -1, 16, 16).clone()


def test_a_group_becomes_its_mean() -> None:
    merged = merge_frames(ramp(33), RATE)
    means = [ramp(33)[0, 0, first : first + count, 0, 0].mean() for first, count in RATE.groups]
    torch.testing.assert_close(merged[0, 0, :, 0, 0], torch.stack(means))
    assert merged.shape[2] == 33 - 12 - 4


@pytest.mark.parametrize("interpolate", INTERPOLATORS)
def test_kept_frames_come_back_to_the_bit_where_they_were(interpolate: object) -> None:
    frames = torch.rand(2, 3, len(RATE.groups), 16, 16, generator=torch.Generator().manual_seed(0))
    whole = restore_frames(frames, RATE, interpolate)  # type: ignore[arg-type]
    assert whole.shape[2] == 33
    assert torch.equal(whole[:, :, [first for first, _ in RATE.groups]], frames)


@pytest.mark.parametrize("interpolate", INTERPOLATORS)
def test_even_change_between_kept_frames_is_restored(interpolate: object) -> None:
    kept = ramp(33)[:, :, [first for first, _ in RATE.groups]]
    whole = restore_frames(kept, RATE, interpolate)  # type: ignore[arg-type]
    torch.testing.assert_close(whole, ramp(33), rtol=0, atol=1e-5)


def test_without_merges_nothing_is_copied_in_between() -> None:
    rate = FrameRate(num_frames=9, stride=4)
    frames = torch.rand(1, 3, 9, 16, 16)
    assert torch.equal(restore_frames(frames, rate, LinearInterpolator()), frames)
    assert torch.equal(merge_frames(frames, rate), frames)


def test_gaps_are_asked_for_in_batches() -> None:
    asked: list[tuple[int, tuple[float, ...]]] = []

    def counting(first: Tensor, last: Tensor, times: tuple[float, ...], /) -> Tensor:
        asked.append((len(first), times))
        return LinearInterpolator()(first, last, times)

    blocks = tuple(Merge(first_frame=first, rate=2, score=1.0) for first in range(1, 82, 8))
    rate = FrameRate(num_frames=97, stride=4, merges=blocks)
    restore_frames(torch.rand(1, 3, 53, 16, 16), rate, counting)
    assert asked == [(8, (0.5,))] * 5 + [(4, (0.5,))]
    asked.clear()
    restore_frames(torch.rand(1, 3, 33 - 16, 16, 16), RATE, counting)
    assert asked == [(4, (0.25, 0.5, 0.75)), (4, (0.5,))]


def test_another_number_of_frames_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`frames` has 33 frames; 17 were left of 33"):
        restore_frames(torch.zeros(1, 3, 33, 16, 16), RATE, LinearInterpolator())


def blobs(shift: float) -> Tensor:
    """Two soft discs, of which the left one has moved by `shift` pixels to the right and down."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    moving = torch.exp(-((x - 20 - shift) ** 2 + (y - 20 - shift / 2) ** 2) / 30)
    still = torch.exp(-((x - 50) ** 2 + (y - 30) ** 2) / 60)
    return (2 * (moving + still) - 1).expand(1, 3, -1, -1)


@pytest.mark.parametrize("shift", [4.0, 7.0, 10.0])
def test_motion_is_followed_where_a_fade_shows_two(shift: float) -> None:
    times = (0.25, 0.5)
    true = torch.stack([blobs(shift * time) for time in times], dim=1)
    error = {
        type(interpolate).__name__: (interpolate(blobs(0), blobs(shift), times) - true).square().mean().item()
        for interpolate in (LinearInterpolator(), MotionInterpolator())
    }
    assert error["MotionInterpolator"] < error["LinearInterpolator"] / 10


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (17, 31)])
def test_still_pictures_of_any_size_stay_as_they_are(size: tuple[int, int]) -> None:
    picture = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    between = MotionInterpolator()(picture, picture, (0.5,))
    torch.testing.assert_close(between[:, 0], picture, rtol=0, atol=1e-4)


@pytest.mark.parametrize("settings", [{"levels": 0}, {"levels": 9}, {"block": 4}, {"block": -1}, {"stiffness": -0.1}])
def test_settings_that_cannot_work_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        MotionInterpolator(**settings)  # type: ignore[arg-type]
