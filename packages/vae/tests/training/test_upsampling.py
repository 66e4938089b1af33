import pytest
import torch
from fastvid_vae.training.upsampling import decoded_loss, latent_loss, lpips_weight


@pytest.mark.parametrize(("step", "weight"), [(0, 0.1), (25, 0.55), (50, 1.0), (99, 1.0)])
def test_the_weight_of_lpips_rises_in_the_first_half(step: int, weight: float) -> None:
    assert lpips_weight(step, 100) == pytest.approx(weight)


def test_the_three_terms() -> None:
    ones, zeros = torch.ones(1, 4, 2, 2, 2), torch.zeros(1, 4, 2, 2, 2)
    assert latent_loss(ones, zeros).item() == pytest.approx(0.1)
    assert latent_loss(ones, ones) == 0
    loss = decoded_loss(3 * ones, zeros, torch.tensor(2.0), step=25, num_steps=100)
    assert loss.item() == pytest.approx(0.1 * 3 + 0.55 * 2)
