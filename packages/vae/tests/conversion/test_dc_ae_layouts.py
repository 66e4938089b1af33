"""Whole checkpoints: what the tensors and the config.json of a DC-AE must say before they become an FSAE."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fastvid_vae import FSAE, FSAE_STANDARD, FSAEConfig
from fastvid_vae.conversion import dc_ae, dc_ae_config, dc_ae_efficientvit
from fastvid_vae.conversion.dc_ae_layouts import DC_AE_DIFFUSERS, DC_AE_EFFICIENTVIT
from safetensors.torch import load_file
from torch import Tensor

from .test_dc_ae import KINDS, WIDTHS, oracle

SANA: dict[str, Any] = {
    "_class_name": "AutoencoderDC",
    "_diffusers_version": "0.32.0.dev0",
    "attention_head_dim": 32,
    "decoder_act_fns": "silu",
    "decoder_block_out_channels": [128, 256, 512, 512, 1024, 1024],
    "decoder_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
    "decoder_layers_per_block": [3, 3, 3, 3, 3, 3],
    "decoder_norm_types": "rms_norm",
    "decoder_qkv_multiscales": [[], [], [], [5], [5], [5]],
    "downsample_block_type": "Conv",
    "encoder_block_out_channels": [128, 256, 512, 512, 1024, 1024],
    "encoder_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
    "encoder_layers_per_block": [2, 2, 2, 3, 3, 3],
    "encoder_qkv_multiscales": [[], [], [], [5], [5], [5]],
    "in_channels": 3,
    "latent_channels": 32,
    "scaling_factor": 0.41407,
    "upsample_block_type": "interpolate",
}
"""The keys of sana-1.0 and 1.1, as diffusers wrote them before it knew three more."""


@pytest.fixture(scope="module")
def sana() -> FSAEConfig:
    return replace(
        FSAE_STANDARD,
        **{
            name: getattr(FSAE_STANDARD, name)[:6]
            for name in ("stage_kinds", "encoder_widths", "decoder_widths", "encoder_depths", "decoder_depths")
        },
        latent_channels=32,
        temporal_stages=(),
        injection=(None,) * 6,
        latent_mean=(0.0,) * 32,
        latent_std=(1.0,) * 32,
    )


@pytest.fixture
def theirs() -> dict[str, Tensor]:
    return oracle().state_dict()


@pytest.fixture
def config() -> dict[str, Any]:
    return json.loads(json.dumps({name: value for name, value in oracle().config.items() if name[0] != "_"}))


@pytest.fixture
def saved(tmp_path: Path, theirs: dict[str, Tensor], config: dict[str, Any]) -> Path:
    DC_AE_DIFFUSERS.load(theirs, config).save_pretrained(tmp_path / "fsae")
    return tmp_path / "fsae"


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def test_the_published_architecture_is_read_from_its_tensors(sana: FSAEConfig) -> None:
    with torch.device("meta"):
        tensors = dc_ae.invert(FSAE(sana).state_dict(), sana)
    assert dc_ae_config.config_of(tensors) == sana
    assert dc_ae_config.read_diffusers(SANA, sana) == 0.41407
    for name in dc_ae_config.SANA_NAMES:
        assert dc_ae_config.read_efficientvit({"model_name": name}, sana) == 0.41407
    assert dc_ae_config.write_efficientvit(sana, 0.41407) == {"model_name": "dc-ae-f32c32-sana-1.0"}
    written = dc_ae_config.write_diffusers(sana, 0.41407)
    later = {"decoder_conv_act_fn": "relu", "encoder_out_shortcut": True, "decoder_in_shortcut": True}
    published = {name: value for name, value in SANA.items() if name != "_diffusers_version"}
    assert written == published | later | {"downsample_block_type": "conv"}


@pytest.mark.parametrize("factor", [0.41407, 1.0, 0.3189, 0.2889, 1 / 3, 7.1e-5])
def test_scaling_factors_survive_to_the_bit(factor: float, sana: FSAEConfig) -> None:
    assert dc_ae_config.scaling_factor_of(dc_ae_config.scaled(sana, factor)) == factor


def test_statistics_that_differ_among_channels_do_not_go_back(sana: FSAEConfig) -> None:
    for field, values in (("latent_std", (2.0, *(1.0,) * 31)), ("latent_mean", (0.1, *(0.0,) * 31))):
        with pytest.raises(ValueError, match="DC-AE has one scaling factor"):
            dc_ae_config.scaling_factor_of(replace(sana, **{field: values}))


def test_a_checkpoint_keeps_its_data_type_and_comes_back_to_the_bit(
    theirs: dict[str, Tensor], config: dict[str, Any], tmp_path: Path
) -> None:
    half = {name: tensor.bfloat16() for name, tensor in theirs.items()}
    DC_AE_DIFFUSERS.load(half, config | {"scaling_factor": 0.41407}).save_pretrained(tmp_path / "fsae")
    back, written = DC_AE_DIFFUSERS.export(tmp_path / "fsae", weights(tmp_path / "fsae"))
    assert back.keys() == half.keys()
    assert all(torch.equal(back[name], half[name]) and back[name].dtype == torch.bfloat16 for name in half)
    assert written is not None
    assert written["scaling_factor"] == 0.41407


def test_efficientvits_names_give_the_same_model(theirs: dict[str, Tensor], config: dict[str, Any]) -> None:
    ours = DC_AE_EFFICIENTVIT.load(dc_ae_efficientvit.from_diffusers(theirs), None)
    same = DC_AE_DIFFUSERS.load(theirs, config)
    assert ours.config == same.config
    assert all(torch.equal(tensor, same.state_dict()[name]) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder_conv_act_fn": "silu"}, "`decoder_conv_act_fn` is 'silu'"),
        ({"decoder_norm_types": ["rms_norm"] * 5 + ["batch_norm"]}, "`decoder_norm_types`"),
        ({"downsample_block_type": "pixel_unshuffle"}, "`downsample_block_type` is 'pixel_unshuffle'; only 'conv'"),
        ({"upsample_block_type": "pixel_shuffle"}, "`upsample_block_type`"),
        ({"encoder_out_shortcut": False}, "`encoder_out_shortcut`"),
        ({"attention_head_dim": 16}, "`attention_head_dim` is 16"),
        ({"latent_channels": 16}, "`latent_channels` is 16"),
        ({"scaling_factor": 0}, "`scaling_factor` is 0"),
        ({"scaling_factor": True}, "`scaling_factor` is True"),
        ({"scaling_factor": float("nan")}, "`scaling_factor` is nan"),
        ({"shift_factor": 0.1}, r"unknown keys \['shift_factor'\]"),
        ({"_class_name": "AutoencoderKL"}, "describes 'AutoencoderKL'"),
    ],
)
def test_a_configuration_that_fsae_is_not_is_refused(
    theirs: dict[str, Tensor], config: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DC_AE_DIFFUSERS.load(theirs, config | changes)


def test_a_configuration_with_a_key_too_few_is_refused(theirs: dict[str, Tensor], config: dict[str, Any]) -> None:
    del config["scaling_factor"]
    with pytest.raises(ValueError, match=r"missing keys \['scaling_factor'\]"):
        DC_AE_DIFFUSERS.load(theirs, config)
    with pytest.raises(ValueError, match=r"no config\.json"):
        DC_AE_DIFFUSERS.load(theirs, None)


@pytest.mark.parametrize("values", [{}, {"model_name": "dc-ae-f32c32-in-1.0"}, {"model_name": ["x"]}])
def test_a_name_of_other_blocks_is_refused(theirs: dict[str, Tensor], values: dict[str, Any]) -> None:
    tensors = dc_ae_efficientvit.from_diffusers(theirs)
    with pytest.raises(ValueError, match="`model_name` is"):
        DC_AE_EFFICIENTVIT.load(tensors, values)
    with pytest.raises(ValueError, match="tensors are of another size"):
        DC_AE_EFFICIENTVIT.load(tensors, {"model_name": "dc-ae-f32c32-sana-1.1"})


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("encoder.conv_in.weight", None, r"no 'encoder\.conv_in\.weight'"),
        (
            "encoder.down_blocks.3.0.attn.to_q.weight",
            None,
            r"missing \['encoder\.down_blocks\.3\.0\.attn\.to_q\.weight'\]",
        ),
        (
            "encoder.down_blocks.3.0.attn.to_q.weight",
            torch.zeros(64),
            r"attn\.to_q\.weight \(64,\), expected \(64, 64\)",
        ),
        ("decoder.norm_out.weight", torch.zeros(1), r"decoder\.norm_out\.weight \(1,\), expected \(32,\)"),
        ("encoder.conv_out.weight", torch.tensor(1.0), r"no 'encoder\.conv_out\.weight' of 1 or more axes"),
        ("decoder.up_blocks.9.0.conv.weight", torch.zeros(1), r"stages \[0, 1, 2, 3, 4, 5, 9\]"),
        ("quant_conv.weight", torch.zeros(1), r"left over \['quant_conv\.weight'\]"),
    ],
)
def test_tensors_that_no_dc_ae_has_are_refused(
    theirs: dict[str, Tensor], config: dict[str, Any], name: str, tensor: Tensor | None, message: str
) -> None:
    theirs.pop(name, None)
    with pytest.raises(ValueError, match=message):
        DC_AE_DIFFUSERS.load(theirs if tensor is None else theirs | {name: tensor}, config)


@pytest.mark.parametrize("shape", [(96,), (95, 32, 1, 1), (192, 64, 3, 3)])
def test_a_projection_that_is_none_is_refused(theirs: dict[str, Tensor], shape: tuple[int, ...]) -> None:
    name = "encoder.stages.3.op_list.0.context_module.main.qkv.conv.weight"
    with pytest.raises(ValueError, match="expected a 1 x 1 kernel, its rows a multiple of 3"):
        DC_AE_EFFICIENTVIT.load(dc_ae_efficientvit.from_diffusers(theirs) | {name: torch.zeros(shape)}, None)


def test_what_dc_ae_cannot_hold_does_not_go_back(saved: Path) -> None:
    tensors = weights(saved)
    learned = tensors | {"encoder.conv_in.weight": tensors["encoder.conv_in.weight"] + 1}
    with pytest.raises(ValueError, match="learned along time"):
        DC_AE_DIFFUSERS.export(saved, learned)
    with pytest.raises(ValueError, match="misshapen"):
        DC_AE_DIFFUSERS.export(saved, tensors | {"encoder.conv_in.weight": torch.zeros(3)})
    file = saved / "config.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps(values | {"temporal_stages": [0, 1]}))
    with pytest.raises(ValueError, match=r"`temporal_stages` is \(0, 1\)"):
        DC_AE_DIFFUSERS.export(saved, tensors)
    file.write_text(json.dumps(values | {"latent_std": [0.5] * 32}))
    with pytest.raises(ValueError, match=r"scaling factor of 2\.0"):
        DC_AE_EFFICIENTVIT.export(saved, tensors)


def target(tmp_path: Path, config: FSAEConfig) -> str:
    FSAE(config).save_pretrained(tmp_path / "target")
    return str(tmp_path / "target" / "config.json")


def test_a_model_with_one_more_stage_begins_with_it(
    theirs: dict[str, Tensor], config: dict[str, Any], tmp_path: Path
) -> None:
    same = DC_AE_DIFFUSERS.load(theirs, config)
    seven = replace(
        same.config,
        stage_kinds=(*KINDS, "attention"),
        encoder_widths=(*WIDTHS, 128),
        decoder_widths=(*WIDTHS, 128),
        encoder_depths=(1,) * 7,
        decoder_depths=(1,) * 7,
        temporal_stages=(0, 1),
        injection=(None,) * 7,
    )
    path, state = target(tmp_path, seven), torch.get_rng_state()
    models = [DC_AE_DIFFUSERS.start(theirs, config, path, seed).state_dict() for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    name = "encoder.stages.5.0.attention.qkv.weight"
    assert torch.equal(models[0][name], same.state_dict()[name])
    own = "encoder.stages.6.0.attention.qkv.weight"
    assert torch.equal(models[0][own], models[1][own])
    assert not torch.equal(models[0][own], models[2][own])
    assert not models[0]["encoder.conv_out.weight"].any()


def test_a_model_that_compresses_time_begins_with_it(
    theirs: dict[str, Tensor], config: dict[str, Any], tmp_path: Path
) -> None:
    same = DC_AE_DIFFUSERS.load(theirs, config)
    model = DC_AE_DIFFUSERS.start(theirs, config, target(tmp_path, replace(same.config, temporal_stages=(0, 1))), 0)
    assert model.stride == (4, 32, 32)
    assert all(torch.equal(tensor, same.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_a_target_that_is_none_is_refused(theirs: dict[str, Tensor], config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="`target` is 'FSAE_HUGE'; expected FSAE_STANDARD, FSAE_LITE or a folder"):
        DC_AE_DIFFUSERS.start(theirs, config, "FSAE_HUGE", 0)
