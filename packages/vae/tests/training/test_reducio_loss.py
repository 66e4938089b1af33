from dataclasses import replace

import pytest
import torch
from fastvid_vae import ReducioConfig, ReducioVAE
from fastvid_vae.training import reducio_loss as module
from fastvid_vae.training.patchgan import PatchGAN, adaptive_weight
from fastvid_vae.training.reducio_loss import (
    LossWeights,
    Terms,
    outlier_penalty,
    reconstruction_loss,
    reducio_loss,
)
from torch import Tensor

TINY = ReducioConfig(
    latent_channels=4,
    num_frames=8,
    widths=(4, 4, 8, 8),
    content_widths=(4, 8, 8),
    num_blocks=1,
    temporal_levels=2,
    fusion="attention",
    fused_levels=(1, 2),
    num_heads=2,
    fusion_head_width=4,
    norm_groups=2,
)


def build(fusion: str = "attention") -> ReducioVAE:
    torch.manual_seed(0)
    return ReducioVAE(replace(TINY, fusion=fusion))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


FRAMES, NOISE = draw(2, 3, 8, 32, 32), draw(2, 4, 2, 4, 4, seed=1)


def test_the_total_is_the_sum_of_its_terms() -> None:
    terms = reducio_loss(build(), FRAMES, NOISE)
    expected = terms.reconstruction + 1e-6 * terms.kl + terms.outliers
    torch.testing.assert_close(terms.total, expected)
    torch.testing.assert_close(terms.reconstruction, (terms.decoded - FRAMES).abs().mean())
    assert terms.kl > 0
    assert terms.adversarial == 0
    weighted = reducio_loss(build(), FRAMES, NOISE, weights=LossWeights(kl=0.5, outliers=2.0))
    torch.testing.assert_close(weighted.total, terms.reconstruction + 0.5 * terms.kl + 2 * terms.outliers)


def test_the_decoder_gets_normalised_samples_and_the_middle_frame() -> None:
    model = build()
    posterior = model.posterior(FRAMES)
    raw = posterior.mean + (posterior.logvar / 2).exp() * NOISE
    latents = (raw - raw.mean(dim=(1, 2, 3, 4), keepdim=True)) / raw.std(dim=(1, 2, 3, 4), keepdim=True, correction=0)
    expected = model.decode(latents, reference=FRAMES[:, :, 3])
    torch.testing.assert_close(reducio_loss(model, FRAMES, NOISE).decoded, expected, atol=1e-4, rtol=0)
    wrong = model.decode(latents, reference=FRAMES[:, :, 4])
    assert (wrong - expected).abs().max() > 1e-3


def test_a_model_without_fusion_is_given_no_content_frame() -> None:
    assert reducio_loss(build("none"), FRAMES, NOISE).total.isfinite()


def test_the_perceptual_distance_is_asked_frame_by_frame() -> None:
    asked: list[tuple[Tensor, Tensor]] = []

    def distance(a: Tensor, b: Tensor) -> Tensor:
        asked.append((a, b))
        return torch.arange(16.0)

    decoded = draw(2, 3, 8, 32, 32, seed=2)
    loss = reconstruction_loss(decoded, FRAMES, distance)
    ((a, b),) = asked
    assert a.shape == (16, 3, 32, 32)
    assert torch.equal(a[9], decoded[1, :, 1])
    assert torch.equal(b[9], FRAMES[1, :, 1])
    assert loss.item() == pytest.approx((decoded - FRAMES).abs().mean().item() + 0.1 * 7.5, rel=1e-6)
    assert reconstruction_loss(decoded, FRAMES) == (decoded - FRAMES).abs().mean()


def test_within_three_deviations_nothing_is_penalised() -> None:
    assert outlier_penalty(draw(2, 3, 4, 16, 16)) == 0


def test_an_outlier_costs_what_lies_beyond() -> None:
    """One bright pixel among 99 of zero: mean 0.1, sample variance (9.9^2 + 99 0.1^2) / 99 = 1."""
    frame = torch.zeros(100)
    frame[7] = 10.0
    video = torch.zeros(1, 3, 2, 10, 10)
    video[0, 1, 1] = frame.view(10, 10)
    assert outlier_penalty(video).item() == pytest.approx((10 - 0.1 - 3.0) / 600)
    assert outlier_penalty(-video) == 0  # dark ones are left alone, as in the released code


def test_the_bound_of_the_penalty_is_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTLIER_RADIUS", 1.0)  # the mutant
    with pytest.raises(AssertionError):
        test_within_three_deviations_nothing_is_penalised()


def against(step: int, start: int = 5) -> tuple[Terms, ReducioVAE, PatchGAN]:
    model = build()
    discriminator = PatchGAN(width=2)
    weights = LossWeights(adversarial_start=start)
    return (
        reducio_loss(model, FRAMES, NOISE, step=step, discriminator=discriminator, weights=weights),
        model,
        discriminator,
    )


def test_the_discriminator_counts_from_its_step_on() -> None:
    early, _, _ = against(4)
    assert early.adversarial == 0
    late, model, discriminator = against(5)
    adversarial = -discriminator(late.decoded).mean()
    torch.testing.assert_close(late.adversarial, adversarial)
    balance = adaptive_weight(late.reconstruction, late.adversarial, model.decoder.conv_out.weight)
    plain = late.reconstruction + 1e-6 * late.kl + late.outliers
    torch.testing.assert_close(late.total, plain + 0.05 * balance * adversarial)


def test_every_part_learns() -> None:
    terms, model, discriminator = against(5)
    terms.total.backward()
    idle = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert all(
        "pos_embed" in name or "encoder_2d.mid.block_2" in name or "encoder_2d.norm_out" in name for name in idle
    )
    assert all(parameter.grad is not None for parameter in discriminator.parameters())


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="`frames` holds 16 frames; expected one clip of 8"):
        reducio_loss(build(), draw(1, 3, 16, 32, 32), NOISE)
    with pytest.raises(ValueError, match=r"`noise` has shape \(2, 4, 2, 4, 3\); expected \(2, 4, 2, 4, 4\)"):
        reducio_loss(build(), FRAMES, NOISE[..., :3])
    with pytest.raises(ValueError, match="`frames` holds 30 rows"):
        reducio_loss(build(), FRAMES[:, :, :, :30], NOISE)
    with pytest.raises(ValueError, match=r"`kl` is -1e-06; expected 0 or more"):
        LossWeights(kl=-1e-6)
