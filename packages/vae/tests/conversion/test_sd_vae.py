"""A Reducio-VAE that starts from Stable Diffusion's autoencoder, with diffusers' AutoencoderKL as oracle."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL
from fastvid_vae import ReducioConfig, ReducioVAE
from fastvid_vae.conversion.sd_vae import start_from_sd_vae
from torch import Tensor, nn

CONFIG = ReducioConfig(
    latent_channels=4,
    num_frames=8,
    widths=(4, 8, 8, 16, 16, 16),
    content_widths=(4, 8, 16, 16),
    num_blocks=2,
    temporal_levels=2,
    fusion="attention",
    fused_levels=(2, 3),
    num_heads=1,
    fusion_head_width=8,
    norm_groups=2,
)


def oracle() -> AutoencoderKL:
    torch.manual_seed(0)
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 8, 16, 16),
        layers_per_block=2,
        norm_num_groups=2,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval().requires_grad_(False)


def inherited(theirs: AutoencoderKL, **changes: object) -> ReducioVAE:
    torch.manual_seed(1)
    model = ReducioVAE(replace(CONFIG, **changes))  # type: ignore[arg-type]
    start_from_sd_vae(model, theirs.state_dict())
    return model.eval().requires_grad_(False)


def draw(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(2)) * 2 - 1


@torch.no_grad()
def test_content_features_are_those_of_its_encoder() -> None:
    theirs, picture = oracle(), draw(2, 3, 32, 48)
    features = inherited(theirs).encoder_2d(picture)
    x = theirs.encoder.conv_in(picture)
    for level, block in enumerate(theirs.encoder.down_blocks):
        for resnet in block.resnets:
            x = resnet(x, None)
        assert torch.allclose(features[level], x, atol=5e-6)
        x = block.downsamplers[0](x) if block.downsamplers else x
    x = theirs.encoder.mid_block.attentions[0](theirs.encoder.mid_block.resnets[0](x, None))
    assert torch.allclose(features[4], x, atol=5e-6)
    more_heads = inherited(theirs, num_heads=8).encoder_2d(picture)
    assert not torch.allclose(more_heads[4], x, atol=1e-3)  # released models split the one head into eight


def without_norms(model: nn.Module) -> nn.Module:
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())
    return model


@torch.no_grad()
def test_every_frame_of_a_new_model_passes_as_a_picture() -> None:
    """Down to where time is first halved; norms, whose statistics span all frames, set aside."""
    theirs, frames = oracle(), draw(1, 3, 5, 32, 48)
    ours = without_norms(inherited(theirs)).encoder_3d
    pictures = without_norms(theirs).encoder
    x, expected = ours.conv_in(frames), pictures.conv_in(frames[0].transpose(0, 1))
    for level in (0, 1):
        before, x = ours.down[level](x)
        for resnet in pictures.down_blocks[level].resnets:
            expected = resnet(expected, None)
        assert torch.allclose(before[0].transpose(0, 1), expected, atol=1e-5)
        expected = pictures.down_blocks[level].downsamplers[0](expected)
        assert torch.allclose(x[0].transpose(0, 1), expected, atol=1e-5)


@torch.no_grad()
def test_halving_time_keeps_every_second_frame() -> None:
    theirs = oracle()
    halving = inherited(theirs).encoder_3d.down[3].downsample
    x = draw(1, 16, 6, 8, 8)
    expected = theirs.encoder.down_blocks[2].downsamplers[0](x[0, :, ::2].transpose(0, 1))
    assert torch.allclose(halving(x)[0].transpose(0, 1), expected, atol=1e-5)


@torch.no_grad()
def test_the_decoder_passes_pictures_too() -> None:
    theirs = oracle()
    model = inherited(theirs)
    x = draw(1, 16, 3, 4, 4)
    level = theirs.decoder.up_blocks[1]
    expected = level.upsamplers[0](x[0].transpose(0, 1))
    assert torch.allclose(model.decoder.up[3].upsample(x)[0].transpose(0, 1), expected, atol=1e-5)
    block = model.decoder.up[3].block_1[0].conv1(x)[0].transpose(0, 1)
    assert torch.allclose(block, level.resnets[0].conv1(x[0].transpose(0, 1)), atol=1e-5)


@torch.no_grad()
def test_fusions_add_nothing_yet_and_the_rest_is_inherited() -> None:
    theirs = oracle()
    model = inherited(theirs)
    x = draw(1, 8, 8, 4, 4)
    fusion = model.decoder.up[2].fuse[0]
    assert torch.equal(
        fusion(x, draw(1, 16, 4, 4), trained_length=True), x + fusion.pos_embed.permute(0, 3, 1, 2)[..., None]
    )
    own = ReducioVAE(CONFIG).state_dict().keys()
    torch.manual_seed(1)
    fresh = ReducioVAE(CONFIG).state_dict()
    kept = {name for name in own if torch.equal(fresh[name], model.state_dict()[name])}
    kept = {name for name in kept if not name.endswith(("norm1.bias", "norm2.bias", "norm.bias"))}
    latent_sides = ("encoder_3d.conv_out", "decoder.conv_in", "quant_conv", "post_quant_conv")
    assert all(name.startswith(latent_sides) or ".fuse." in name for name in kept), kept
    assert {name.rsplit(".", 1)[0] for name in kept} >= set(latent_sides)


def test_what_does_not_fit_is_named() -> None:
    theirs = oracle().state_dict()
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="only 6, 4 and 2 inherit"):
        start_from_sd_vae(ReducioVAE(replace(CONFIG, num_blocks=1)), theirs)
    short = {name: tensor for name, tensor in theirs.items() if name != "encoder.conv_in.bias"}
    with pytest.raises(ValueError, match=r"missing \['encoder.conv_in.bias'\]"):
        start_from_sd_vae(ReducioVAE(CONFIG), short)
    with pytest.raises(ValueError, match="misshapen"):
        start_from_sd_vae(ReducioVAE(replace(CONFIG, widths=(8, 8, 8, 16, 16, 16))), theirs)
