"""Whole checkpoints: what the tensors and the config.json of Wan2.1 must say before they become an FSVideoDiT."""

import json
from dataclasses import replace

import pytest
import torch
from fastvid_dit import FSVIDEO_14B, WAN21_I2V_14B, FSVideoDiT, RefinerMask
from fastvid_dit.conversion import wan_config, wan_diffusers, wan_official
from fastvid_dit.conversion.wan_layouts import WAN_DIFFUSERS, WAN_OFFICIAL
from safetensors.torch import load_file

from .test_wan_diffusers import build_oracle

OFFICIAL_14B = {
    "_class_name": "WanModel",
    "_diffusers_version": "0.30.0",
    "dim": 5120,
    "eps": 1e-06,
    "ffn_dim": 13824,
    "freq_dim": 256,
    "in_dim": 36,
    "model_type": "i2v",
    "num_heads": 40,
    "num_layers": 40,
    "out_dim": 16,
    "text_len": 512,
}
DIFFUSERS_14B = {
    "_class_name": "WanTransformer3DModel",
    "_diffusers_version": "0.33.0.dev0",
    "added_kv_proj_dim": 5120,
    "attention_head_dim": 128,
    "cross_attn_norm": True,
    "eps": 1e-06,
    "ffn_dim": 13824,
    "freq_dim": 256,
    "image_dim": 1280,
    "in_channels": 36,
    "num_attention_heads": 40,
    "num_layers": 40,
    "out_channels": 16,
    "patch_size": [1, 2, 2],
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 1024,
    "text_dim": 4096,
}


@pytest.fixture
def plain(tiny):
    return replace(tiny, patch_size=(1, 2, 2), layer_memory=False)


@pytest.fixture
def foreign(plain):
    return build_oracle(plain).state_dict()


@pytest.fixture
def config(plain):
    return wan_config.write_diffusers(plain)


@pytest.fixture
def saved(tmp_path, foreign, config):
    WAN_DIFFUSERS.load(foreign, config).save_pretrained(tmp_path / "ours")
    return tmp_path / "ours"


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_the_published_configurations_are_read_and_written():
    assert wan_config.read_official(OFFICIAL_14B) == WAN21_I2V_14B
    assert wan_config.read_diffusers(DIFFUSERS_14B) == WAN21_I2V_14B
    without_version = {name: value for name, value in OFFICIAL_14B.items() if name != "_diffusers_version"}
    assert wan_config.write_official(WAN21_I2V_14B) == without_version
    without_version = {name: value for name, value in DIFFUSERS_14B.items() if name != "_diffusers_version"}
    assert wan_config.write_diffusers(WAN21_I2V_14B) == without_version | {"pos_embed_seq_len": None}


def test_layer_memory_enters_as_the_identity(plain, foreign, config, inputs):
    model, alone = WAN_DIFFUSERS.load(foreign, config), FSVideoDiT(plain)
    alone.load_state_dict(wan_diffusers.convert(foreign, plain))
    assert model.config == replace(plain, layer_memory=True)
    mixes = []
    with torch.no_grad():
        given = inputs(plain, size=(3, 6, 4))
        found, expected = model(**given, memory_weights=mixes), alone(**given)
    assert (found - expected).abs().max() / expected.abs().max() < 1e-6
    assert len(mixes) == plain.num_blocks - 1
    assert all(bool((mix[..., -1] == 1).all()) for mix in mixes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_comes_back_to_the_bit(foreign, config, tmp_path, dtype):
    given = {name: tensor.to(dtype) for name, tensor in foreign.items()}
    WAN_DIFFUSERS.load(given, config).save_pretrained(tmp_path / "ours")
    back, written = WAN_DIFFUSERS.export(tmp_path / "ours", weights(tmp_path / "ours"))
    assert written == config
    assert back.keys() == given.keys()
    assert all(torch.equal(back[name], given[name]) and back[name].dtype == dtype for name in given)


def test_wans_own_names_give_the_same_model(foreign, plain):
    wide = replace(plain, text_width=4096, image_width=1280)
    theirs = build_oracle(wide).state_dict()
    ours = WAN_OFFICIAL.load(wan_official.from_diffusers(theirs), wan_config.write_official(wide))
    same = WAN_DIFFUSERS.load(theirs, wan_config.write_diffusers(wide))
    assert ours.config == same.config
    assert all(torch.equal(tensor, same.state_dict()[name]) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_dim": None}, "without image encoder"),
        ({"pos_embed_seq_len": 514}, "first and last frame"),
        ({"in_channels": 16, "out_channels": 16}, "`in_channels` is 16 and `out_channels` 16"),
        ({"qk_norm": None}, "`qk_norm` is None"),
        ({"cross_attn_norm": False}, "`cross_attn_norm` is False"),
        ({"added_kv_proj_dim": 7}, "`added_kv_proj_dim` is 7; only 48"),
        ({"num_layers": True}, "`num_layers` is True"),
        ({"num_layers": 10**9}, "`num_blocks` must be at least 1 and at most"),
        ({"num_layers": "40"}, "`num_layers` is '40'"),
        ({"patch_size": [1, 2]}, "`patch_size` is"),
        ({"patch_size": 2}, "`patch_size` is 2"),
        ({"eps": "small"}, "`eps` is 'small'"),
        ({"vace_layers": [0]}, r"unknown keys \['vace_layers'\]"),
        ({"_class_name": "WanVACETransformer3DModel"}, "describes 'WanVACETransformer3DModel'"),
    ],
)
def test_other_transformers_of_diffusers_are_refused(foreign, config, changes, message):
    with pytest.raises(ValueError, match=message):
        WAN_DIFFUSERS.load(foreign, config | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "t2v", "in_dim": 16}, "`model_type` is 't2v'; only 'i2v'"),
        ({"model_type": "flf2v"}, "`model_type` is 'flf2v'"),
        ({"in_dim": 16}, "`in_dim` is 16 and `out_dim` 16"),
        ({"text_len": None}, "`text_len` is None"),
        ({"window_size": [-1, -1]}, "unknown keys"),
        ({"_class_name": "VaceWanModel"}, "describes 'VaceWanModel'"),
    ],
)
def test_other_transformers_of_wan_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        wan_config.read_official(OFFICIAL_14B | changes)


def test_a_configuration_that_is_not_whole_is_refused(foreign, config):
    with pytest.raises(ValueError, match=r"no config\.json"):
        WAN_DIFFUSERS.load(foreign, None)
    del config["num_attention_heads"]
    with pytest.raises(ValueError, match=r"missing keys \['num_attention_heads'\]"):
        WAN_DIFFUSERS.load(foreign, config)


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_a_router_that_has_learned_does_not_go_back(saved, part):
    tensors = weights(saved)
    tensors[f"blocks.2.memory_router.{part}"].view(-1)[0] = 1e-6
    with pytest.raises(ValueError, match=rf"no longer the identity in \['blocks\.2\.memory_router\.{part}'\]"):
        WAN_DIFFUSERS.export(saved, tensors)


def test_a_router_that_is_missing_is_named(saved):
    tensors = weights(saved)
    del tensors["blocks.1.memory_router.bias"]
    with pytest.raises(ValueError, match=r"missing tensors \['blocks\.1\.memory_router\.bias'\]"):
        WAN_DIFFUSERS.export(saved, tensors)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_width": None}, "`image_width` is None"),
        ({"refiner_mask": RefinerMask(error_low=0.1, error_high=0.9)}, "no refiner"),
        ({"rope_theta": 500.0}, r"`rope_theta` is 500\.0"),
    ],
)
def test_what_wan_has_not_does_not_go_back(plain, changes, message):
    for write in (wan_config.write_diffusers, wan_config.write_official):
        with pytest.raises(ValueError, match=message):
            write(replace(plain, text_width=4096, **{"image_width": 1280} | changes))


def test_wans_own_code_knows_one_patch_size_and_width(plain):
    with pytest.raises(ValueError, match=r"`text_width` is 10; Wan2\.1's own code knows 4096 only"):
        wan_config.write_official(plain)


def test_a_model_of_other_latents_begins_with_the_body(foreign, config, plain, tmp_path):
    wanted = replace(plain, patch_size=(1, 1, 1), latent_channels=6, layer_memory=True)
    FSVideoDiT(wanted).save_pretrained(tmp_path / "target")
    state = torch.get_rng_state()
    models = [WAN_DIFFUSERS.start(foreign, config, str(tmp_path / "target"), seed).state_dict() for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(models[0]["blocks.1.ffn.linear_in.weight"], foreign["blocks.1.ffn.net.0.proj.weight"])
    name = "patch_embedding.weight"
    assert torch.equal(models[0][name], models[1][name])
    assert not torch.equal(models[0][name], models[2][name])
    bias = models[0]["blocks.3.memory_router.bias"]
    assert bias.softmax(0)[-1].item() == pytest.approx(0.99)  # a gradient, which the identity would not have


def test_a_target_that_is_none_is_refused(foreign, config, tmp_path):
    with pytest.raises(ValueError, match="`target` is 'FSVIDEO_1B'; expected FSVIDEO_14B or a folder"):
        WAN_DIFFUSERS.start(foreign, config, "FSVIDEO_1B", 0)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "FSAE"}))
    with pytest.raises(ValueError, match="describes 'FSAE'"):
        WAN_DIFFUSERS.start(foreign, config, str(tmp_path), 0)


def test_full_size_fits_full_size():
    with torch.device("meta"):
        foreign = wan_diffusers.invert(FSVideoDiT(WAN21_I2V_14B).state_dict(), WAN21_I2V_14B)
        larger = FSVideoDiT(FSVIDEO_14B)
    wan_diffusers.start_from_wan(larger, foreign, WAN21_I2V_14B, leak=0.01)
