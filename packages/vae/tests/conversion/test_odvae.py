"""The released OD-VAE checkpoints: names, wrappings, and a configuration that says which of three graphs they are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fastvid_vae import (
    ODVAE,
    ODVAE_V1_0,
    ODVAE_V1_1,
    ODVAE_VARIANT_1,
    ODVAE_VARIANT_2,
    ODVAE_VARIANT_3,
    ODVAE_VARIANT_4,
    ODVAEConfig,
)
from fastvid_vae.conversion import odvae_config
from fastvid_vae.conversion.odvae_config import from_official, official
from fastvid_vae.conversion.odvae_layout import ODVAE_CHECKPOINT, ODVAE_DIFFUSERS
from safetensors.torch import load_file
from torch import Tensor

SMALL = replace(ODVAE_VARIANT_4, widths=(32, 32, 64), num_blocks=1, encoder_blocks=("2d", "2d", "causal"),
                decoder_blocks=("causal",) * 3, downsamples=("2d", "causal time"), time_downsamples=("none",) * 2,
                upsamples=("flat", "causal time"), time_upsamples=("none",) * 2)  # fmt: skip

V1_0 = {
    "_class_name": "CausalVAEModel",
    "_diffusers_version": "0.27.2",
    "attn_resolutions": [],
    "decoder_attention": "AttnBlock3D",
    "decoder_conv_in": "CausalConv3d",
    "decoder_conv_out": "CausalConv3d",
    "decoder_mid_resnet": "ResnetBlock3D",
    "decoder_resnet_blocks": ["ResnetBlock3D"] * 4,
    "decoder_spatial_upsample": ["", "SpatialUpsample2x", "SpatialUpsample2x", "SpatialUpsample2x"],
    "decoder_temporal_upsample": ["", "", "TimeUpsample2x", "TimeUpsample2x"],
    "double_z": True,
    "dropout": 0.0,
    "embed_dim": 4,
    "encoder_attention": "AttnBlock3D",
    "encoder_conv_in": "CausalConv3d",
    "encoder_conv_out": "CausalConv3d",
    "encoder_mid_resnet": "ResnetBlock3D",
    "encoder_resnet_blocks": ["ResnetBlock3D"] * 4,
    "encoder_spatial_downsample": ["SpatialDownsample2x", "SpatialDownsample2x", "SpatialDownsample2x", ""],
    "encoder_temporal_downsample": ["TimeDownsample2x", "TimeDownsample2x", "", ""],
    "hidden_size": 128,
    "hidden_size_mult": [1, 2, 4, 4],
    "loss_params": {"disc_start": 2001},
    "loss_type": "opensora.models.ae.videobase.losses.LPIPSWithDiscriminator",
    "lr": 1e-05,
    "num_res_blocks": 2,
    "q_conv": "CausalConv3d",
    "resolution": 256,
    "z_channels": 4,
}
"""What version 1.0 publishes."""

V1_1 = V1_0 | {
    "decoder_attention": "AttnBlock3DFix",
    "encoder_attention": "AttnBlock3DFix",
    "encoder_conv_in": "Conv2d",
    "encoder_resnet_blocks": ["ResnetBlock2D", "ResnetBlock2D", "ResnetBlock3D", "ResnetBlock3D"],
    "encoder_spatial_downsample": ["Downsample", "Downsample", "Downsample", ""],
    "encoder_temporal_downsample": ["", "TimeDownsampleRes2x", "TimeDownsampleRes2x", ""],
    "decoder_temporal_upsample": ["", "", "TimeUpsampleRes2x", "TimeUpsampleRes2x"],
    "in_channels": 3,
    "out_channels": 3,
}
V1_2 = V1_1 | {
    "encoder_spatial_downsample": ["Downsample", *["Spatial2xTime2x3DDownsample"] * 2, ""],
    "encoder_temporal_downsample": [""] * 4,
    "decoder_spatial_upsample": ["", "SpatialUpsample2x", *["Spatial2xTime2x3DUpsample"] * 2],
    "decoder_temporal_upsample": [""] * 4,
    "use_quant_layer": True,
}


@pytest.mark.parametrize(
    ("published", "ours"), [(V1_0, ODVAE_V1_0), (V1_1, ODVAE_V1_1), (V1_2, ODVAE_VARIANT_4)], ids=["1.0", "1.1", "1.2"]
)
def test_published_configurations_are_our_constants(published: dict[str, Any], ours: ODVAEConfig) -> None:
    assert from_official(published) == ours


@pytest.mark.parametrize("config", [ODVAE_VARIANT_1, ODVAE_VARIANT_3, ODVAE_VARIANT_4, ODVAE_V1_1, ODVAE_V1_0, SMALL])
def test_configurations_there_and_back(config: ODVAEConfig) -> None:
    assert from_official(official(config)) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_mid_resnet": "ResnetBlock2D"}, "`encoder_mid_resnet` 'ResnetBlock2D'; with its other fields"),
        ({"decoder_attention": "AttnBlock3D"}, "`decoder_attention` 'AttnBlock3D'"),
        ({"encoder_attention": "LinAttnBlock"}, "`encoder_attention` 'LinAttnBlock'; expected one of 'AttnBlock3DFix'"),
        ({"encoder_resnet_blocks": "ResnetBlock3D"}, "expected a list, one entry a level"),
        ({"encoder_spatial_downsample": ["Downsample", "", "Downsample", ""]}, "`encoder_spatial_downsample` ''"),
        ({"encoder_spatial_downsample": ["Downsample"] * 4}, "halves time 0 times and the decoder doubles it 2 times"),
        ({"embed_dim": 8}, "`embed_dim` 8; with its other fields expected 4"),
        ({"attn_resolutions": [16]}, r"`attn_resolutions` \[16\]"),
        ({"use_quant_layer": False}, "`use_quant_layer` False"),
        ({"hidden_size_mult": 4}, "must be whole numbers"),
        ({"hidden_size": True}, "must be whole numbers"),
        ({"_class_name": "WFVAEModel"}, "`_class_name` 'WFVAEModel'"),
        ({"norm_kind": "group"}, r"unknown \['norm_kind'\]"),
        ({"hidden_size": None}, "must be whole numbers"),
    ],
)
def test_configurations_of_other_models_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_official(V1_2 | change)


def test_no_default_fills_a_gap() -> None:
    gap = {name: value for name, value in V1_2.items() if name != "encoder_temporal_downsample"}
    with pytest.raises(ValueError, match=r"missing \['encoder_temporal_downsample'\]"):
        from_official(gap)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ODVAE_VARIANT_2, "no word for 'half causal'"),
        (replace(SMALL, upsample_mode="nearest"), "cannot tell .*nearest.* would be read as .*trilinear"),
        (replace(SMALL, scaling_factor=1.0), "cannot tell"),
        (replace(SMALL, widths=(64, 96, 64)), "cannot tell"),
    ],
)
def test_what_their_words_cannot_tell_does_not_leave(config: ODVAEConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        official(config)


@pytest.fixture(scope="module")
def released() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(ODVAE(SMALL).state_dict())


def test_there_and_back_to_the_bit(tmp_path: Path, released: dict[str, Tensor]) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in released.items()} | {"loss.logvar": torch.zeros(())}
    model = ODVAE_DIFFUSERS.load(wrapped, official(SMALL))
    assert model.config == SMALL
    model.save_pretrained(tmp_path / "ours")
    back, config = ODVAE_DIFFUSERS.export(tmp_path / "ours", load_file(tmp_path / "ours" / "model.safetensors"))
    assert config == official(SMALL)
    assert back.keys() == released.keys()
    assert all(torch.equal(back[name], released[name]) for name in released)


def test_other_tensors_are_refused_by_name(released: dict[str, Tensor]) -> None:
    config = official(SMALL)
    for name in ("quant_conv.conv.weight", "decoder.mid.attn_1.norm.bias"):
        with pytest.raises(ValueError, match=f"missing \\['{name}'\\]"):
            ODVAE_CHECKPOINT.load({key: tensor for key, tensor in released.items() if key != name}, config)
    with pytest.raises(ValueError, match=r"left over \['dics'\]"):
        ODVAE_CHECKPOINT.load(released | {"dics": torch.zeros(1)}, config)
    with pytest.raises(ValueError, match=r"misshapen tensors \['quant_conv.conv.bias \(3,\), expected \(8,\)'\]"):
        ODVAE_CHECKPOINT.load(released | {"quant_conv.conv.bias": torch.zeros(3)}, config)
    with pytest.raises(ValueError, match=r"put the config\.json of the release beside"):
        ODVAE_CHECKPOINT.load(released, None)
    with pytest.raises(ValueError, match="`target` is 'ODVAE_VARIANT_1'"):
        ODVAE_CHECKPOINT.start(released, config, "ODVAE_VARIANT_1", 0)


def test_the_check_of_the_whole_configuration_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: fields that are not read pass whatever they say."""
    right = official
    monkeypatch.setattr(odvae_config, "official", lambda config: right(config) if config == ODVAE_VARIANT_4 else {})
    assert from_official(V1_1 | {"decoder_attention": "AttnBlock3D"}) == ODVAE_V1_1
