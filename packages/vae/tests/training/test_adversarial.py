import math

import pytest
import torch
from fastvid_vae.training.adversarial import (
    MultiscaleDiscriminator,
    discriminator_loss,
    generator_loss,
    r1_penalty,
)
from torch import Tensor, nn


def build() -> MultiscaleDiscriminator:
    torch.manual_seed(0)
    return MultiscaleDiscriminator(width=4, num_layers=2, num_scales=3)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_every_scale_sees_half_of_the_one_before() -> None:
    shapes = [tuple(logits.shape) for logits in build()(torch.zeros(2, 3, 5, 32, 48))]
    assert shapes == [(2, 1, 3, 8, 12), (2, 1, 3, 4, 6), (2, 1, 3, 2, 3)]


def test_clips_do_not_mix() -> None:
    model, frames = build().double(), draw(2, 3, 5, 16, 16)
    together = model(frames)
    alone = model(frames[:1])
    assert all(torch.allclose(a[:1], b) for a, b in zip(together, alone, strict=True))


def test_the_losses_at_known_logits() -> None:
    zero, certain = [torch.zeros(2, 1, 3)], [torch.full((2, 1, 3), 50.0)]
    assert math.isclose(discriminator_loss(zero, zero).item(), 2 * math.log(2), rel_tol=1e-6)
    assert discriminator_loss(certain, [-certain[0]]) < 1e-6
    assert math.isclose(generator_loss(zero).item(), math.log(2), rel_tol=1e-6)
    assert generator_loss(certain) < 1e-6
    assert generator_loss([-certain[0]]) > 49


def test_the_penalty_is_the_squared_gradient() -> None:
    """Against differences of the discriminator's own output, pixel by pixel."""
    model = build().double()
    real = draw(1, 3, 1, 16, 16)

    def score(frames: Tensor) -> Tensor:
        return torch.stack([logits.mean() for logits in model(frames)]).mean()

    flat, step, total = real.flatten(), 1e-6, 0.0
    for index in range(flat.numel()):
        shift = torch.zeros_like(flat)
        shift[index] = step
        up, down = ((flat + sign * shift).view_as(real) for sign in (1, -1))
        total += ((score(up) - score(down)) / (2 * step)).item() ** 2
    assert math.isclose(r1_penalty(model, real, gamma=3.0).item(), 1.5 * total, rel_tol=1e-5)


def test_the_penalty_trains_the_discriminator_and_nothing_else() -> None:
    model, real = build().double(), draw(2, 3, 2, 16, 16).requires_grad_()
    r1_penalty(model, real).backward()
    assert any((parameter.grad != 0).any() for parameter in model.parameters() if parameter.grad is not None)
    assert real.grad is None


def test_a_discriminator_learns_to_tell_noise_from_grey() -> None:
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95))
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(30):
        real, fake = torch.randn(4, 3, 2, 16, 16, generator=generator), torch.zeros(4, 3, 2, 16, 16)
        loss = discriminator_loss(model(real), model(fake)) + r1_penalty(model, real, gamma=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_there_is_no_normalisation() -> None:
    assert {type(module) for module in build().modules() if not list(module.children())} == {nn.Conv3d}


@pytest.mark.parametrize("num_scales", [1, 2])
def test_the_number_of_scales(num_scales: int) -> None:
    model = MultiscaleDiscriminator(width=4, num_layers=1, num_scales=num_scales)
    assert len(model(torch.zeros(1, 3, 1, 8, 8))) == num_scales
