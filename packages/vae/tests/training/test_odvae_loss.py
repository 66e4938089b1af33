from dataclasses import replace

import pytest
import torch
from fastvid_vae import ODVAE, ODVAE_VARIANT_4
from fastvid_vae.training import odvae_loss as module
from fastvid_vae.training.odvae_loss import ODVAELossWeights, ODVAETerms, VolumeDiscriminator, last_kernel, odvae_loss
from fastvid_vae.training.patchgan import adaptive_weight
from torch import Tensor

TINY = replace(ODVAE_VARIANT_4, widths=(4, 4, 8, 8), num_blocks=1, norm_groups=2)


def build(**changes: object) -> ODVAE:
    torch.manual_seed(0)
    return ODVAE(replace(TINY, **changes))  # type: ignore[arg-type]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


FRAMES, NOISE = draw(2, 3, 9, 16, 24), draw(2, 4, 3, 2, 3, seed=1)


def test_the_total_is_the_sum_of_its_terms() -> None:
    terms = odvae_loss(build(), FRAMES, NOISE)
    torch.testing.assert_close(terms.total, terms.reconstruction + 1e-6 * terms.kl)
    summed = (terms.decoded - FRAMES).abs().sum(dim=(1, 3, 4)).mean()  # over pixels; the mean over frames
    torch.testing.assert_close(terms.reconstruction, summed)
    assert terms.kl > 0
    assert terms.adversarial == 0


def test_the_decoder_gets_samples() -> None:
    model = build()
    posterior = model.posterior(FRAMES)
    raw = posterior.mean + (posterior.logvar / 2).exp() * NOISE
    torch.testing.assert_close(odvae_loss(model, FRAMES, NOISE).decoded, model.decode(raw * 0.18215))


def test_the_perceptual_distance_counts_once_a_pixel() -> None:
    def distance(found: Tensor, expected: Tensor) -> Tensor:
        assert found.shape == expected.shape == (18, 3, 16, 24)
        return torch.arange(18.0)

    plain, terms = odvae_loss(build(), FRAMES, NOISE), odvae_loss(build(), FRAMES, NOISE, perceptual=distance)
    torch.testing.assert_close(terms.reconstruction - plain.reconstruction, torch.tensor(8.5 * 3 * 16 * 24))


def adversarial(step: int, **changes: object) -> ODVAETerms:
    torch.manual_seed(1)
    judge = VolumeDiscriminator(4)
    return odvae_loss(
        build(**changes),
        FRAMES,
        NOISE,
        step=step,
        discriminator=judge,
        weights=ODVAELossWeights(adversarial_start=5),
    )


@pytest.mark.parametrize("conv_out", ["causal", "2d"])
def test_the_discriminator_begins_at_its_step_and_pulls_half_as_hard(conv_out: str) -> None:
    assert adversarial(4, decoder_conv_out=conv_out).adversarial == 0
    terms = adversarial(5, decoder_conv_out=conv_out)
    assert terms.adversarial != 0
    model = build(decoder_conv_out=conv_out)
    torch.manual_seed(1)
    judge = VolumeDiscriminator(4)
    again = odvae_loss(model, FRAMES, NOISE, step=5, discriminator=judge, weights=ODVAELossWeights(adversarial_start=5))
    balance = adaptive_weight(again.reconstruction, again.adversarial, last_kernel(model))
    expected = again.reconstruction + 1e-6 * again.kl + 0.5 * balance * again.adversarial
    torch.testing.assert_close(again.total, expected)


def test_the_balance_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: a fixed weight."""
    right = adversarial(5)
    monkeypatch.setattr(module, "adaptive_weight", lambda *_: torch.tensor(1.0))
    assert not torch.allclose(adversarial(5).total, right.total)


def test_every_parameter_learns() -> None:
    model = build()
    odvae_loss(model, FRAMES, NOISE).total.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_the_discriminator_is_the_released_one() -> None:
    with torch.device("meta"):
        judge = VolumeDiscriminator()
        logits = judge(torch.empty(1, 3, 25, 256, 256))
    assert sum(parameter.numel() for parameter in judge.parameters()) == 4_665_729
    assert logits.shape == (1, 1, 7, 32, 32)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`noise` has shape \(2, 4, 3, 2, 2\); expected \(2, 4, 3, 2, 3\)"):
        odvae_loss(build(), FRAMES, NOISE[..., :2])
    with pytest.raises(ValueError, match="which is padded to"):
        odvae_loss(build(), FRAMES[:, :, :8], NOISE)
    with pytest.raises(ValueError, match="`kl` is -1"):
        ODVAELossWeights(kl=-1)
