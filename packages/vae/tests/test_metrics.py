"""PSNR and SSIM against torchmetrics and against their formulas."""

import math
from collections.abc import Callable

import pytest
import torch
from fastvid_vae import psnr, ssim
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure


@pytest.fixture
def pair(video: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    frames = torch.nn.functional.avg_pool3d(video(2, 3, 3, 40, 48), (1, 5, 5), stride=1, padding=(0, 2, 2))
    return frames, (frames + 0.1 * video(2, 3, 3, 40, 48, seed=1)).clamp(-1, 1)


def test_psnr_is_that_of_torchmetrics_per_clip(pair: tuple[Tensor, Tensor]) -> None:
    found = psnr(*pair)
    assert found.shape == (2,)
    for clip, (x, y) in zip(found, zip(*pair, strict=True), strict=True):
        assert math.isclose(clip, peak_signal_noise_ratio(x, y, data_range=2.0), abs_tol=1e-4)


def test_ssim_is_that_of_torchmetrics_per_frame(pair: tuple[Tensor, Tensor]) -> None:
    found = ssim(*pair)
    for clip, (x, y) in zip(found, zip(*pair, strict=True), strict=True):
        images, targets = x.transpose(0, 1), y.transpose(0, 1)
        # torchmetrics also averages over windows that lean over the border; ours must lie inside.
        _, full = structural_similarity_index_measure(images, targets, data_range=2.0, return_full_image=True)
        assert math.isclose(clip, full[:, :, 5:-5, 5:-5].mean(), abs_tol=1e-4)


def test_equal_clips() -> None:
    frames = torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 1, 16, 16)
    assert psnr(frames, frames).item() == math.inf
    assert math.isclose(ssim(frames, frames).item(), 1, abs_tol=1e-6)


def test_the_range_is_two() -> None:
    black, white = -torch.ones(1, 3, 1, 16, 16), torch.ones(1, 3, 1, 16, 16)
    assert psnr(black, white).item() == pytest.approx(0)
    assert psnr(black, black + 0.2).item() == pytest.approx(20, abs=1e-4)


def test_a_mask_counts_its_pixels_alone(pair: tuple[Tensor, Tensor]) -> None:
    frames, target = pair
    mask = torch.zeros(2, 1, 3, 40, 48, dtype=torch.bool)
    mask[:, :, :, 8:20, 4:44] = True
    broken = target.clone()
    broken[~mask.expand_as(broken)] = 1
    expected = psnr(frames[:, :, :, 8:20, 4:44], target[:, :, :, 8:20, 4:44])
    assert torch.allclose(psnr(frames, broken, mask=mask), expected, atol=1e-4)
    assert torch.allclose(psnr(frames, target, mask=torch.ones_like(mask)), psnr(frames, target), atol=1e-4)


def test_refusals(pair: tuple[Tensor, Tensor]) -> None:
    frames, target = pair
    with pytest.raises(ValueError, match="`frames` and `target` have shapes"):
        psnr(frames, target[:1])
    with pytest.raises(ValueError, match="`frames` and `target` have shapes"):
        ssim(frames[0], target[0])
    with pytest.raises(ValueError, match="`mask` has shape"):
        psnr(frames, target, mask=torch.ones(2, 3, 3, 40, 48, dtype=torch.bool))
    with pytest.raises(ValueError, match="`mask` leaves a clip without a pixel"):
        psnr(frames, target, mask=torch.zeros(2, 1, 3, 40, 48, dtype=torch.bool))
    with pytest.raises(ValueError, match="SSIM needs at least 11 x 11"):
        ssim(frames[..., :10, :], target[..., :10, :])
