"""Tests A and B: an FSAE that inherits DC-AE's weights is DC-AE on images, with diffusers' AutoencoderDC as oracle."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderDC
from fastvid_vae import FSAE, FSAEConfig
from fastvid_vae.conversion import dc_ae
from fastvid_vae.layers import resample
from fastvid_vae.layers.stream import Stream
from torch import Tensor

WIDTHS = (32, 64, 64, 64, 128, 128)
KINDS = ("conv", "conv", "conv", "attention", "attention", "attention")


def oracle() -> AutoencoderDC:
    torch.manual_seed(0)
    kinds = tuple("ResBlock" if kind == "conv" else "EfficientViTBlock" for kind in KINDS)
    return AutoencoderDC(
        latent_channels=32,
        attention_head_dim=32,
        encoder_block_types=kinds,
        decoder_block_types=kinds,
        encoder_block_out_channels=WIDTHS,
        decoder_block_out_channels=WIDTHS,
        encoder_layers_per_block=(1, 1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1, 1),
        encoder_qkv_multiscales=((), (), (), (5,), (5,), (5,)),
        decoder_qkv_multiscales=((), (), (), (5,), (5,), (5,)),
        upsample_block_type="interpolate",
        downsample_block_type="Conv",
    ).requires_grad_(False)


def inherited(theirs: AutoencoderDC, config: FSAEConfig) -> FSAE:
    model = FSAE(config)
    model.load_state_dict(dc_ae.convert(theirs.state_dict(), config), strict=True)
    return model.requires_grad_(False)


@pytest.fixture
def config(tiny_config: Callable[..., FSAEConfig]) -> FSAEConfig:
    return tiny_config(
        latent_channels=32,
        stage_kinds=KINDS,
        encoder_widths=WIDTHS,
        decoder_widths=WIDTHS,
        encoder_depths=(1,) * 6,
        decoder_depths=(1,) * 6,
        head_width=32,
        injection=(None,) * 6,
        latent_mean=(0.0,) * 32,
        latent_std=(1.0,) * 32,
    )


def relative(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("mode", ["causal", "standard", "lite"])
@torch.no_grad()
def test_images_pass_as_through_dc_ae(mode: str, config: FSAEConfig, video: Callable[..., Tensor]) -> None:
    theirs, image = oracle(), video(2, 3, 1, 64, 64)
    model = inherited(theirs, replace(config, decoder_mode=mode))
    latents = theirs.encode(image[:, :, 0]).latent
    assert relative(model.encode(image)[:, :, 0], latents) < 2e-6
    assert relative(model.decode(latents.unsqueeze(2))[:, :, 0], theirs.decode(latents).sample) < 2e-6


@torch.no_grad()
def test_a_still_video_is_its_image_at_every_frame(config: FSAEConfig, video: Callable[..., Tensor]) -> None:
    model, image = inherited(oracle(), config), video(1, 3, 1, 64, 64)
    still = image.expand(-1, -1, 9, -1, -1)
    latents, features = model.encoder(still, Stream())
    latent, image_features = model.encoder(image, Stream())
    assert latents.shape[2] == 3
    assert relative(latents, latent.expand_as(latents)) < 2e-6
    for video_feature, image_feature in zip(features, image_features, strict=True):
        assert relative(video_feature[:, :, :1], image_feature) < 2e-6
    frames = model.decode(latents)
    assert relative(frames, model.decode(latent).expand_as(frames)) < 2e-6


@torch.no_grad()
def test_time_outermost_in_the_shortcut_fails_on_one_image(
    config: FSAEConfig, video: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant: channels in the usual (c, dt, dy, dx) order."""
    theirs, image = oracle(), video(1, 3, 1, 64, 64)
    model, expected = inherited(theirs, config), theirs.encode(image[:, :, 0]).latent
    assert relative(model.encode(image)[:, :, 0], expected) < 2e-6
    right = resample.rearrange
    monkeypatch.setattr(
        resample,
        "rearrange",
        lambda x, pattern, **sizes: right(x, pattern.replace("c dy dx dt", "c dt dy dx"), **sizes),
    )
    assert relative(model.encode(image)[:, :, 0], expected) > 1e-3


def test_the_map_inverts_and_covers_every_key(config: FSAEConfig) -> None:
    theirs = oracle().state_dict()
    ours = dc_ae.convert(theirs, config)
    assert ours.keys() == FSAE(config).state_dict().keys()
    back = dc_ae.invert(ours, config)
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[name], theirs[name]) for name in theirs)


def test_keys_that_do_not_fit_are_named(config: FSAEConfig) -> None:
    theirs = oracle().state_dict()
    del theirs["encoder.conv_in.bias"]
    theirs["loss.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"missing \['encoder.conv_in.bias'\], left over \['loss.weight'\]"):
        dc_ae.convert(theirs, config)


def test_a_kernel_with_a_past_does_not_go_back(config: FSAEConfig) -> None:
    ours = dc_ae.convert(oracle().state_dict(), config)
    ours["encoder.conv_in.weight"][:, :, 0] = 1e-6
    with pytest.raises(ValueError, match=r"encoder\.conv_in\.weight, which has learned along time"):
        dc_ae.invert(ours, config)


def test_parts_that_dc_ae_has_not_are_refused(config: FSAEConfig, tiny_config: Callable[..., FSAEConfig]) -> None:
    theirs = oracle().state_dict()
    with pytest.raises(ValueError, match=r"`config\.injection`"):
        dc_ae.convert(theirs, tiny_config())
    with pytest.raises(ValueError, match=r"`config\.affine_norm`"):
        dc_ae.convert(theirs, tiny_config(injection=(None,) * 4, affine_norm=False))
