import torch
from fastvid_vae import FSAE
from fastvid_vae.layers.stream import Stream
from fastvid_vae.training.losses import reconstruction_loss


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
