import pytest
import torch
from fastvid_accel.vgdfr.similarity import frame_similarity, ssim
from torch import Tensor


def by_definition(first: Tensor, second: Tensor) -> float:
    """Every window by itself, in float64: weighted means, variances and covariance about them."""
    offsets = torch.arange(11, dtype=torch.float64) - 5
    row = torch.exp(-(offsets**2) / (2 * 1.5**2))
    weights = torch.outer(row, row) / row.sum() ** 2
    values = []
    for a, b in zip(first.double(), second.double(), strict=True):
        for top in range(a.shape[0] - 10):
            for left in range(a.shape[1] - 10):
                one, other = a[top : top + 11, left : left + 11], b[top : top + 11, left : left + 11]
                mean_1, mean_2 = (weights * one).sum(), (weights * other).sum()
                variance_1 = (weights * (one - mean_1) ** 2).sum()
                variance_2 = (weights * (other - mean_2) ** 2).sum()
                covariance = (weights * (one - mean_1) * (other - mean_2)).sum()
                luminance = (2 * mean_1 * mean_2 + 1e-4) / (mean_1**2 + mean_2**2 + 1e-4)
                values.append(luminance * (2 * covariance + 9e-4) / (variance_1 + variance_2 + 9e-4))
    return torch.stack(values).mean().item()


def test_ssim_is_that_of_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(3, 13, 15, generator=generator)
    for amount in (0.02, 0.3, 1.0):
        second = torch.lerp(first, torch.rand(3, 13, 15, generator=generator), amount)
        assert ssim(first[None], second[None]).item() == pytest.approx(by_definition(first, second), abs=1e-5)


def test_nearly_equal_frames_do_not_drown_in_half_precision() -> None:
    frames = torch.full((1, 3, 4, 16, 16), 0.9)
    frames[:, :, 1:] += 1e-3 * torch.randn(1, 3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    similarity = frame_similarity(frames.bfloat16())
    assert all(0.97 < value <= 1.0 + 1e-6 for value in similarity.near[0])


def test_pairs_are_told_by_their_distance() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = torch.rand(2, 3, 12, 12, generator=generator) * 2 - 1
    frames = torch.stack([one, other, one, one, other], dim=1)[None]
    near = frame_similarity(frames).near
    equal = [[value > 0.999 for value in row] for row in near]
    assert equal == [[False, False, True, False], [True, False, False], [True, True]]


def test_the_least_similar_video_of_a_batch_counts() -> None:
    generator = torch.Generator().manual_seed(0)
    still = torch.rand(1, 3, 1, 12, 12, generator=generator).expand(-1, -1, 4, -1, -1)
    moving = torch.rand(1, 3, 4, 12, 12, generator=generator)
    both = frame_similarity(torch.cat((still, moving)))
    assert both == frame_similarity(torch.cat((moving, still)))
    assert both.near[0] == pytest.approx(frame_similarity(moving).near[0])


def test_what_lies_outside_the_range_is_clamped() -> None:
    frames = torch.ones(1, 3, 2, 12, 12)
    frames[:, :, 1] = 1.7
    assert frame_similarity(frames).near[0] == (1.0,)


def test_one_frame_has_no_neighbours() -> None:
    similarity = frame_similarity(torch.zeros(1, 3, 1, 12, 12))
    assert similarity.near == ((), (), ())
    assert similarity.num_frames == 1


def test_frames_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`frames` are 10 x 32 pixels.*11 x 11"):
        frame_similarity(torch.zeros(1, 3, 5, 10, 32))
