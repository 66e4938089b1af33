import math

import pytest
import torch
from fastvid_dit.flow import HUBER_SCALE, add_noise, pseudo_huber_loss, sample_sigmas, velocity_target


def test_path_and_velocity_agree():
    clean, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    assert torch.equal(add_noise(clean, noise, torch.zeros(2)), clean)
    assert torch.equal(add_noise(clean, noise, torch.ones(2)), noise)
    sigma = torch.tensor([0.3, 0.8])
    step = (add_noise(clean, noise, sigma + 0.1) - add_noise(clean, noise, sigma)) / 0.1
    torch.testing.assert_close(step, velocity_target(clean, noise), atol=1e-5, rtol=1e-4)


def test_huber_constants_of_the_paper_sizes():
    assert HUBER_SCALE * math.sqrt(128 * 31 * 6 * 10) == pytest.approx(0.2635, abs=5e-5)
    assert HUBER_SCALE * math.sqrt(952_320) == pytest.approx(0.5270, abs=5e-5)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-6, 0.0])
def test_loss_equals_the_formula_in_float64(scale):
    target = torch.randn(3, 4, 5, 6, 7)
    residual = scale * torch.randn_like(target)
    d = residual[0].numel()
    c = 0.00054 * math.sqrt(d)
    exact = (target + residual).double() - target.double()
    expected = (exact.flatten(1).square().sum(1) + c**2).sqrt() - c
    torch.testing.assert_close(
        pseudo_huber_loss(target + residual, target).double(), expected, rtol=1e-5, atol=2e-9 * math.sqrt(d)
    )


def test_loss_has_a_gradient_at_zero():
    prediction = torch.zeros(1, 8, requires_grad=True)
    pseudo_huber_loss(prediction, torch.zeros(1, 8)).sum().backward()
    assert torch.equal(prediction.grad, torch.zeros(1, 8))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.5, 1.5)])
def test_sigmas_are_logit_normal(mean, std):
    sigma = sample_sigmas(50_000, mean=mean, std=std, generator=torch.Generator().manual_seed(0))
    logit = torch.logit(sigma.double())
    assert logit.mean().item() == pytest.approx(mean, abs=0.03)
    assert logit.std().item() == pytest.approx(std, rel=0.02)
    assert 0 < sigma.min() <= sigma.max() < 1


def test_shift_moves_the_median():
    def draw(shift):
        return sample_sigmas(9_999, shift=shift, generator=torch.Generator().manual_seed(0))

    plain, shifted = draw(1.0), draw(3.0)
    torch.testing.assert_close(shifted, 3 * plain / (1 + 2 * plain))
    assert shifted.median().item() == pytest.approx(0.75, abs=0.02)
    assert torch.equal(plain, draw(1.0))


@pytest.mark.parametrize("name", ["std", "shift"])
def test_sigma_settings_must_be_positive(name):
    with pytest.raises(ValueError, match=f"`{name}`|`std` and `shift`"):
        sample_sigmas(2, **{name: 0.0})
