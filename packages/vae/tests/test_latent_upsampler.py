from pathlib import Path

import pytest
import torch
from fastvid_vae import LATENT_UPSAMPLER_2X, CheckpointError, LatentUpsampler, LatentUpsamplerConfig
from torch import Tensor, nn

TINY = LatentUpsamplerConfig(latent_channels=4, width=8, num_blocks=2)


def build(*, trained: bool) -> LatentUpsampler:
    torch.manual_seed(0)
    model = LatentUpsampler(TINY).eval()
    if trained:
        nn.init.normal_(model.conv_out.weight, std=0.1)
    return model


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def nearest(latents: Tensor) -> Tensor:
    return latents.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)


def test_the_full_size_has_the_counted_parameters() -> None:
    with torch.device("meta"):
        model = LatentUpsampler(LATENT_UPSAMPLER_2X)
    assert sum(parameter.numel() for parameter in model.parameters()) == 235_391_104
    assert sum(parameter.numel() for parameter in model.project.parameters()) == 7_079_936
    assert sum(parameter.numel() for parameter in model.blocks[0].parameters()) == 14_158_848


@pytest.mark.parametrize(("frames", "height", "width"), [(31, 8, 8), (5, 2, 2), (1, 6, 10)])
def test_shapes_of_the_full_size(frames: int, height: int, width: int) -> None:
    with torch.device("meta"):
        upsampled = LatentUpsampler(LATENT_UPSAMPLER_2X)(torch.empty(1, 128, frames, height, width))
    assert upsampled.shape == (1, 128, frames, 2 * height, 2 * width)


def test_a_new_one_is_nearest_upsampling() -> None:
    latents = draw(2, 4, 3, 3, 5)
    assert torch.equal(build(trained=False)(latents), nearest(latents))
    assert not torch.allclose(build(trained=True)(latents), nearest(latents), atol=0.01)  # the test can fail


def test_the_shuffle_puts_channels_where_torch_does() -> None:
    """Every block left out, the output is a convolution, torch's shuffle per frame, and another convolution."""
    model, latents = build(trained=True), draw(1, 4, 2, 3, 3)
    model.blocks = nn.ModuleList()
    padded = nn.functional.pad(latents, (0, 0, 0, 0, 1, 1), mode="replicate")
    wide = nn.functional.conv3d(padded, model.project.weight, model.project.bias, padding=(0, 1, 1))
    shuffled = torch.stack([nn.functional.pixel_shuffle(frame, 2) for frame in wide.unbind(2)], dim=2)
    padded = nn.functional.pad(shuffled, (0, 0, 0, 0, 1, 1), mode="replicate")
    expected = nearest(latents) + nn.functional.conv3d(
        padded, model.conv_out.weight, model.conv_out.bias, padding=(0, 1, 1)
    )
    assert torch.allclose(model(latents), expected, atol=1e-6)


def test_no_norm_mixes_places() -> None:
    """Far from a change, beyond the reach of 2 + 2 x 2 convolutions, nothing moves by a bit."""
    model, latents = build(trained=True), draw(1, 4, 1, 4, 16)
    changed = latents.clone()
    changed[..., 0] += 100
    same = model(changed)[..., 10:] == model(latents)[..., 10:]
    assert same.all()


def test_saved_and_read_back(tmp_path: Path) -> None:
    model, latents = build(trained=True), draw(1, 4, 2, 2, 2)
    model.save_pretrained(tmp_path / "upsampler")
    again = LatentUpsampler.from_pretrained(tmp_path / "upsampler")
    assert again.config == TINY
    assert torch.equal(again(latents), model(latents))


def test_another_model_is_refused(tmp_path: Path) -> None:
    model = build(trained=True)
    model.save_pretrained(tmp_path / "upsampler")
    config = tmp_path / "upsampler" / "config.json"
    config.write_text(config.read_text().replace('"num_blocks": 2', '"num_blocks": 3'))
    with pytest.raises(CheckpointError, match=r"missing tensors blocks\.2"):
        LatentUpsampler.from_pretrained(tmp_path / "upsampler")


@pytest.mark.parametrize("shape", [(4, 2, 2, 2), (1, 5, 2, 2, 2)])
def test_latents_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="`latents` have the shape"):
        build(trained=False)(torch.zeros(shape))


@pytest.mark.parametrize("name", ["latent_channels", "width", "num_blocks"])
@pytest.mark.parametrize("value", [0, 1 << 20, 2.0, True])
def test_a_configuration_out_of_range_is_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is {value}"):
        LatentUpsamplerConfig(**{"latent_channels": 4, "width": 8, "num_blocks": 2, name: value})
