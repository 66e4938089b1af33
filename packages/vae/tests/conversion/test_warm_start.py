"""Test G: a seven-stage FSAE starts as the shortcut of its six-stage ancestor's features."""

from collections.abc import Callable

import pytest
import torch
from einops import rearrange, reduce
from fastvid_vae import FSAE, FSAEConfig
from fastvid_vae.conversion.warm_start import start_from_dc_ae
from fastvid_vae.layers.stream import Stream
from torch import Tensor

from .test_dc_ae import KINDS, WIDTHS, oracle, relative


@pytest.fixture
def seven(tiny_config: Callable[..., FSAEConfig]) -> FSAE:
    torch.manual_seed(1)
    config = tiny_config(
        latent_channels=16,
        stage_kinds=(*KINDS, "attention"),
        encoder_widths=(*WIDTHS, 256),
        decoder_widths=(*WIDTHS, 256),
        encoder_depths=(1,) * 7,
        decoder_depths=(1,) * 7,
        head_width=32,
        injection=(None,) * 6 + ("content",),
        injection_head_width=32,
        latent_mean=(0.0,) * 16,
        latent_std=(1.0,) * 16,
    )
    return FSAE(config).requires_grad_(False)


@torch.no_grad()
def test_latents_start_as_the_shortcut_of_the_last_features(seven: FSAE, video: Callable[..., Tensor]) -> None:
    frames = video(1, 3, 5, 128, 128)
    before = seven.encode(frames)
    start_from_dc_ae(seven, oracle().state_dict())
    _, features = seven.encoder(frames, Stream())
    folded = rearrange(features[5], "b c t (h dy) (w dx) -> b (c dy dx) t h w", dy=2, dx=2)
    down = reduce(folded, "b (c g) t h w -> b c t h w", "mean", g=2)  # 4 x 128 channels to 256
    expected = reduce(down, "b (c g) t h w -> b c t h w", "mean", g=16)  # 256 to 16
    assert relative(seven.encode(frames), expected) < 2e-6
    assert relative(before, expected) > 1e-2


@torch.no_grad()
def test_the_outer_stages_are_dc_ae(seven: FSAE, video: Callable[..., Tensor]) -> None:
    theirs, image = oracle(), video(1, 3, 1, 128, 128)
    start_from_dc_ae(seven, theirs.state_dict())
    _, features = seven.encoder(image, Stream())
    x = theirs.encoder.conv_in(image[:, :, 0])
    for block in theirs.encoder.down_blocks:
        x = block(x)
    assert relative(features[5][:, :, 0], x) < 2e-6


@torch.no_grad()
def test_decoding_starts_as_the_shortcut_too(seven: FSAE) -> None:
    start_from_dc_ae(seven, oracle().state_dict())
    latents = torch.randn(1, 16, 1, 2, 2)
    x, _ = seven.decoder.start(latents, Stream())
    assert torch.equal(x, latents.repeat_interleave(16, dim=1))


def test_what_does_not_fit_is_refused(seven: FSAE) -> None:
    theirs = oracle().state_dict()
    before = {name: tensor.clone() for name, tensor in seven.state_dict().items()}
    with pytest.raises(ValueError, match=r"encoder\.conv_in\.weight \(8"):
        start_from_dc_ae(seven, theirs | {"encoder.conv_in.weight": torch.zeros(8, 3, 3, 3)})
    with pytest.raises(ValueError, match="left over"):
        start_from_dc_ae(seven, theirs | {"loss": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"no 'encoder\.conv_out\.weight'"):
        start_from_dc_ae(seven, {})
    assert all(torch.equal(before[name], tensor) for name, tensor in seven.state_dict().items())
