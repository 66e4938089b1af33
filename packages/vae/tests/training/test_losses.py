import pytest
import torch
from fastvid_vae import FSAE
from fastvid_vae.layers.stream import Stream
from fastvid_vae.training.losses import decoding_loss, offset_error, reconstruction_loss


def test_a_clip_is_learnt_and_every_part_gets_a_gradient(tiny_config) -> None:
    torch.manual_seed(0)
    model = FSAE(tiny_config(noise_weight=0.0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    ramp = torch.linspace(-0.8, 0.8, 16)
    frames = (ramp[:, None] * ramp).expand(1, 3, 5, 16, 16)
    noise = torch.zeros(1, 4, 2, 2, 2)
    losses = []
    for _ in range(40):
        loss = reconstruction_loss(model, frames, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    for part in (model.encoder, model.decoder):
        assert all(parameter.grad is not None for parameter in part.parameters())
        assert sum(parameter.grad.abs().sum() for parameter in part.parameters()) > 0


def test_noise_is_in_units_of_the_latents(build, video, monkeypatch) -> None:
    """Ten times the latents take ten times the noise: what reaches the decoder scales with them."""
    model, frames = build(noise_weight=0.0), video(1, 3, 5, 16, 16)
    noise = torch.randn(1, 4, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    latents, features = model.encoder(frames, Stream())
    seen = []

    def decoded(given, *_):
        seen.append(given)
        return frames

    monkeypatch.setattr(model.decoder, "forward", decoded)
    for scale in (1, 10):
        monkeypatch.setattr(model.encoder, "forward", lambda *_, scale=scale: (scale * latents, features))
        reconstruction_loss(model, frames, noise)
    torch.testing.assert_close(seen[1], 10 * seen[0])
    assert not torch.equal(seen[0], latents)


@pytest.mark.parametrize(("frames", "cells"), [(5, 5), (3, 5), (2, 5), (3, 10)])
def test_heads_that_look_where_the_content_is_have_no_error(frames, cells) -> None:
    """Offsets of a clip of 5 frames and 20 pixels a side; a cell's last frame and mean pixel count."""
    moved = torch.arange(5.0)[:, None, None, None] * torch.tensor([2.0, -1.0])
    offsets = moved.expand(5, 20, 20, 2)[None].clone()
    offsets[:, :, :10, :10] = torch.nan
    last = torch.arange(0, 5, 4 // (frames - 1))
    look = (moved[last] / (20 // cells)).expand(frames, cells, cells, 2)[None, ..., None, :].clone()
    assert offset_error(look, offsets) == pytest.approx(0.01)
    look[:, :, : cells // 2, : cells // 2] = 99.0  # where nothing is known nothing counts
    assert offset_error(look, offsets) == pytest.approx(0.01)
    assert offset_error(look + 1, offsets) == pytest.approx(20 // cells * 2**0.5, rel=1e-3)
    assert offset_error(look, torch.full_like(offsets, torch.nan)) == 0


def test_told_offsets_reach_the_heads_and_leave_no_hook(tiny_config, video) -> None:
    torch.manual_seed(0)
    model = FSAE(tiny_config(injection=(None, None, "deformable", "content"), noise_weight=0.0))
    frames, noise = video(1, 3, 5, 16, 16), torch.zeros(1, 4, 2, 2, 2)
    latents, features = model.encoder(frames, Stream())
    told = torch.full((1, 5, 16, 16, 2), 3.0)
    plain = decoding_loss(model, latents, features, frames)
    torch.testing.assert_close(plain, reconstruction_loss(model, frames, noise))
    guided = decoding_loss(model, latents, features, frames, told, offset_weight=0.5)
    assert (guided - plain).item() == pytest.approx(0.5 * 18**0.5, rel=1e-3)  # a new head looks at its own place
    guided.backward()
    look = model.decoder.injections["2"].look
    assert look.project.bias.grad.view(-1, 3)[:, :2].abs().min() > 0
    assert not look._forward_hooks
