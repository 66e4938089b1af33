from dataclasses import replace

import pytest
import torch
from fastvid_dit import ReducioDiT, ReducioDiTConfig
from fastvid_dit.reducio_dit.config import ContentFrameConfig
from fastvid_dit.training import noise_prediction
from fastvid_dit.training.noise_prediction import NoiseBatch, add_vp_noise, draw_kept, noise_loss, signal_shares
from torch import Tensor

TINY = ReducioDiTConfig(
    patch_size=(1, 1, 1),
    latent_channels=4,
    learn_sigma=False,
    width=24,
    num_heads=2,
    num_blocks=2,
    ffn_width=48,
    frequency_width=8,
    text_width=6,
    content_frame=ContentFrameConfig(
        semantic_width=5, semantic_grid=(2, 2), content_channels=3, content_patch=2, fusion="add", num_grids=1
    ),
    size_embedding=True,
    temporal_blocks=False,
    position_span=2.0,
    learn_time_scale=False,
    norm_eps=1e-6,
)


def build() -> ReducioDiT:
    torch.manual_seed(0)
    model = ReducioDiT(TINY)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def batch(count: int = 3) -> NoiseBatch:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return NoiseBatch(
        latents=draw(count, 4, 2, 2, 2),
        noise=draw(count, 4, 2, 2, 2),
        timestep=torch.tensor([0, 400, 999])[:count],
        text=draw(count, 4, 6),
        text_mask=torch.tensor([True, True, True, False]).expand(count, -1),
        null_text=draw(4, 6),
        null_mask=torch.tensor([True, False, False, False]),
        keep_text=torch.ones(count, dtype=torch.bool),
        keep_frame=torch.ones(count, dtype=torch.bool),
        semantic=draw(count, 4, 5),
        content=draw(count, 3, 4, 4),
        size=torch.full((count, 2), 64.0),
    )


def test_the_noise_grows_as_the_schedule_says() -> None:
    """The shares by hand at the start; the last is what is known of this schedule."""
    shares = signal_shares()
    assert shares[0].item() == pytest.approx(1 - 1e-4)
    assert shares[1].item() == pytest.approx((1 - 1e-4) * (1 - 1e-4 - 0.0199 / 999))
    assert shares[-1].item() == pytest.approx(4.0358e-5, rel=1e-4)
    given = batch()
    noisy = add_vp_noise(given.latents, given.noise, given.timestep)
    share = shares[400].float()
    torch.testing.assert_close(noisy[1], share.sqrt() * given.latents[1] + (1 - share).sqrt() * given.noise[1])


def test_the_loss_is_the_error_of_the_noise() -> None:
    model, given = build(), batch()
    noisy = add_vp_noise(given.latents, given.noise, given.timestep)
    predicted = model(
        noisy,
        torch.tensor([0.0, 400.0, 999.0]),
        given.text,
        given.text_mask,
        semantic=given.semantic,
        content=given.content,
        size=given.size,
    )
    torch.testing.assert_close(noise_loss(model, given), (predicted - given.noise).square().mean())


def test_a_text_that_is_left_out_is_the_empty_prompt() -> None:
    model, given = build(), batch()
    left_out = replace(given, keep_text=torch.tensor([True, False, True]))
    by_hand = replace(
        given,
        text=torch.stack([given.text[0], given.null_text, given.text[2]]),
        text_mask=torch.stack([given.text_mask[0], given.null_mask, given.text_mask[2]]),
    )
    torch.testing.assert_close(noise_loss(model, left_out), noise_loss(model, by_hand))
    assert noise_loss(model, left_out) != noise_loss(model, given)


def test_a_frame_that_is_left_out_is_zeros() -> None:
    model, given = build(), batch()
    left_out = replace(given, keep_frame=torch.tensor([True, False, True]))
    shown = torch.tensor([1.0, 0.0, 1.0])
    by_hand = replace(
        given, semantic=given.semantic * shown[:, None, None], content=given.content * shown[:, None, None, None]
    )
    torch.testing.assert_close(noise_loss(model, left_out), noise_loss(model, by_hand))
    assert noise_loss(model, left_out) != noise_loss(model, given)


def shares_of_draws() -> tuple[float, float, float]:
    """How often the text, the frame and both are left out."""
    text, frame = draw_kept(100_000, torch.Generator().manual_seed(0))
    lost = ~text, ~frame, ~text & ~frame
    return tuple(draws.float().mean().item() for draws in lost)  # type: ignore[return-value]


def test_a_tenth_is_left_out_and_one_does_not_tell_of_the_other() -> None:
    text, frame, both = shares_of_draws()
    assert text == pytest.approx(0.1, abs=0.005)
    assert frame == pytest.approx(0.1, abs=0.005)
    assert both == pytest.approx(0.01, abs=0.002)


def test_draws_that_depend_on_one_another_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    rand = torch.rand
    monkeypatch.setattr(
        noise_prediction.torch, "rand", lambda two, count, generator: rand(count, generator=generator).expand(two, -1)
    )
    with pytest.raises(AssertionError):
        test_a_tenth_is_left_out_and_one_does_not_tell_of_the_other()


def test_a_model_that_predicts_a_variance_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`model\.config\.learn_sigma` is True"):
        noise_loss(ReducioDiT(replace(TINY, learn_sigma=True)), batch())


def test_the_noise_of_one_batch_is_learnt() -> None:
    model, given = build(), batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = noise_loss(model, given)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
