import math

import pytest
import torch
from fastvid_vae.training import patchgan
from fastvid_vae.training.patchgan import (
    PatchGAN,
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
)
from torch import nn


def test_the_released_size_and_its_patches() -> None:
    with torch.device("meta"):
        model = PatchGAN()
        logits = model(torch.zeros(2, 3, 16, 256, 256))
    assert sum(parameter.numel() for parameter in model.parameters()) == 4_216_641
    assert logits.shape == (2, 1, 2, 30, 30)


def test_it_starts_as_the_released_code_does() -> None:
    torch.manual_seed(0)
    model = PatchGAN()
    for conv in (model.first, *model.layers, model.head):
        assert conv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert all(norm.weight.mean().item() == pytest.approx(1, abs=0.01) for norm in model.norms)
    assert all(not norm.bias.any() for norm in model.norms)


def test_a_logit_depends_on_its_patch_alone() -> None:
    torch.manual_seed(0)
    model = PatchGAN(width=2).eval()
    frames = torch.randn(1, 3, 4, 128, 128, requires_grad=True)
    model(frames)[0, 0, 0, 7, 7].backward()
    rows = frames.grad[0].abs().sum(dim=(0, 1, 3)).nonzero()
    assert 1 + rows.max() - rows.min() == 70


def test_the_hinge_at_written_numbers() -> None:
    real, decoded = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 1.5])
    expected = 0.5 * ((0 + 0.5 + 2) / 3 + (0 + 1 + 2.5) / 3)
    assert hinge_discriminator_loss(real, decoded).item() == pytest.approx(expected)
    assert hinge_generator_loss(decoded).item() == pytest.approx(0.5)


def weight_and_ratio() -> tuple[float, float]:
    """The weight that is computed, and the same by hand: both losses are linear in the last layer."""
    last = nn.Linear(2, 1, bias=False)
    reconstruction = (last.weight * torch.tensor([3.0, 4.0])).sum()
    adversarial = (last.weight * torch.tensor([0.0, 0.5])).sum()
    weight = adaptive_weight(reconstruction, adversarial, last.weight)
    assert not weight.requires_grad
    (reconstruction + weight * adversarial).backward()  # the graphs are still there
    assert last.weight.grad is not None
    assert last.weight.grad[0].tolist() == pytest.approx([3.0, 4.0 + 0.5 * weight.item()])
    return weight.item(), 5 / (0.5 + 1e-4)


def test_the_adaptive_weight_is_the_ratio_of_the_gradients() -> None:
    weight, ratio = weight_and_ratio()
    assert weight == pytest.approx(ratio)


def test_the_adaptive_weight_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = nn.Parameter(torch.ones(1))

    def of_a_faint_judge() -> float:
        return adaptive_weight(2e6 * weight.sum(), 0.0 * weight.sum(), weight).item()

    assert of_a_faint_judge() == 1e4
    monkeypatch.setattr(patchgan, "LARGEST_WEIGHT", math.inf)  # the mutant
    assert of_a_faint_judge() > 1e9


def test_a_discriminator_learns_to_tell_noise_from_grey() -> None:
    torch.manual_seed(0)
    model = PatchGAN(width=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, betas=(0.5, 0.9))
    losses = []
    for _ in range(20):
        loss = hinge_discriminator_loss(model(torch.randn(2, 3, 4, 32, 32)), model(torch.zeros(2, 3, 4, 32, 32)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
