"""Whole checkpoints: what the tensors and the config.json of PixArt-alpha must say before they become a ReducioDiT."""

from dataclasses import replace

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from fastvid_dit import REDUCIO_DIT_XL, ReducioDiT
from fastvid_dit.conversion.pixart_config import of_official, read_diffusers, write_diffusers
from fastvid_dit.conversion.pixart_diffusers import PIXART_ALPHA_256, PIXART_ALPHA_1024, invert
from fastvid_dit.conversion.pixart_layouts import PIXART_DIFFUSERS, PIXART_OFFICIAL
from fastvid_dit.conversion.pixart_official import PixArtCheckpoint, from_diffusers

from .test_pixart_official import position_table

PUBLISHED_1024 = {
    "_class_name": "Transformer2DModel",
    "_diffusers_version": "0.22.0.dev0",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_head_dim": 72,
    "attention_type": "default",
    "caption_channels": 4096,
    "cross_attention_dim": 1152,
    "double_self_attention": False,
    "dropout": 0.0,
    "in_channels": 4,
    "norm_elementwise_affine": False,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "norm_type": "ada_norm_single",
    "num_attention_heads": 16,
    "num_embeds_ada_norm": 1000,
    "num_layers": 28,
    "num_vector_embeds": None,
    "only_cross_attention": False,
    "out_channels": 8,
    "patch_size": 2,
    "sample_size": 128,
    "upcast_attention": False,
    "use_linear_projection": False,
}


@pytest.fixture
def pixart(tiny_reducio):
    """Heads of 72 channels, which official files do not say."""
    return replace(
        tiny_reducio,
        patch_size=(1, 2, 2),
        learn_sigma=True,
        content_frame=None,
        width=144,
        num_heads=2,
        ffn_width=576,
        frequency_width=256,
        num_blocks=2,
        position_span=4.0,
    )


@pytest.fixture
def ours(pixart):
    torch.manual_seed(0)
    return ReducioDiT(pixart)


@pytest.fixture
def official(ours, pixart):
    table = position_table(rows=4, width=pixart.width)
    checkpoint = PixArtCheckpoint(
        weights=invert(ours.state_dict(), pixart), null_caption=torch.randn(5, pixart.text_width), positions=table
    )
    return from_diffusers(checkpoint)


def test_published_configurations_are_the_constants():
    assert read_diffusers(PUBLISHED_1024) == PIXART_ALPHA_1024
    assert read_diffusers(PUBLISHED_1024 | {"sample_size": 32}) == PIXART_ALPHA_256


@pytest.mark.parametrize("config", [PIXART_ALPHA_256, PIXART_ALPHA_1024, replace(PIXART_ALPHA_256, position_span=21.5)])
def test_what_is_written_is_read_again_and_known_to_diffusers(config):
    written = write_diffusers(config)
    assert read_diffusers(written) == config
    with torch.device("meta"):
        oracle = PixArtTransformer2DModel.from_config(written)
        expected = {name: tensor.shape for name, tensor in invert(ReducioDiT(config).state_dict(), config).items()}
    assert {name: tensor.shape for name, tensor in oracle.state_dict().items()} == expected


def test_an_official_file_says_itself_what_it_is(ours, pixart, official):
    model = PIXART_OFFICIAL.load(official, None)
    assert model.config == pixart
    assert all(torch.equal(tensor, ours.state_dict()[name]) for name, tensor in model.state_dict().items())
    wider = official | {"pos_embed": position_table(rows=4, scale=0.5, width=pixart.width)}
    assert PIXART_OFFICIAL.load(wider, None).config == replace(pixart, position_span=8.0)  # mutant: a span is assumed
    with pytest.raises(ValueError, match="convert to 'pixart-diffusers'"):
        PIXART_OFFICIAL.export("anywhere", ours.state_dict())


def test_the_way_through_diffusers_keeps_every_bit(ours, pixart, tmp_path):
    ours.save_pretrained(tmp_path)
    tensors, config = PIXART_DIFFUSERS.export(tmp_path, ours.state_dict())
    again = PIXART_DIFFUSERS.load(tensors, config)
    assert again.config == pixart
    assert all(torch.equal(tensor, ours.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_a_model_for_video_begins_with_its_body(ours, pixart, official, tiny_reducio, tmp_path):
    body = {"width": 144, "num_heads": 2, "ffn_width": 576, "frequency_width": 256, "num_blocks": 2}
    target = replace(tiny_reducio, **body, position_span=4.0)
    ReducioDiT(target).save_pretrained(tmp_path)
    for layout, given in ((PIXART_OFFICIAL, (official, None)), (PIXART_DIFFUSERS, _exported(ours, tmp_path / "image"))):
        model, other = (layout.start(*given, str(tmp_path), seed) for seed in (0, 1))
        assert model.config == target
        for name in ("blocks.1.ffn.linear_in.weight", "text_embedding.linear_in.weight"):
            assert torch.equal(model.state_dict()[name], ours.state_dict()[name])
        assert not torch.equal(model.patch_embedding.weight, other.patch_embedding.weight)  # mutant: seed unused
    with pytest.raises(ValueError, match=r"position_span=4\.0"):
        PIXART_OFFICIAL.start(official, None, _folder_of(replace(target, position_span=16.0), tmp_path / "other"), 0)


def _exported(model, folder):
    model.save_pretrained(folder)
    return PIXART_DIFFUSERS.export(folder, model.state_dict())


def _folder_of(config, folder):
    ReducioDiT(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "SD3Transformer2DModel"}, "describes 'SD3Transformer2DModel'"),
        ({"in_channels": None}, "`in_channels` is None; expected a whole number"),
        ({"out_channels": 5}, "`out_channels` is 5; expected 4 or 8"),
        ({"cross_attention_dim": 768}, "`cross_attention_dim` is 768; expected 1152"),
        ({"norm_type": "layer_norm"}, "`norm_type` is 'layer_norm'; PixArt-alpha has 'ada_norm_single'"),
        ({"only_cross_attention": True}, "`only_cross_attention` is True"),
        ({"interpolation_scale": 0}, "`interpolation_scale` is 0"),
        ({"use_additional_conditions": "yes"}, "`use_additional_conditions` is 'yes'"),
        ({"norm_eps": "small"}, "`norm_eps` is 'small'"),
        ({"rope": 1}, r"unknown keys \['rope'\]"),
    ],
)
def test_other_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        read_diffusers(PUBLISHED_1024 | changes)


def test_missing_configurations_and_tensors_are_refused(official, pixart):
    with pytest.raises(ValueError, match=r"no config\.json"):
        read_diffusers(None)
    with pytest.raises(ValueError, match=r"missing keys \['sample_size'\]"):
        read_diffusers({name: value for name, value in PUBLISHED_1024.items() if name != "sample_size"})
    with pytest.raises(ValueError, match=r"final_layer\.linear\.weight is missing"):
        of_official({name: tensor for name, tensor in official.items() if name != "final_layer.linear.weight"}, 4.0)
    with pytest.raises(ValueError, match="100 channels are no whole number of heads of 72"):
        of_official(official | {"x_embedder.proj.weight": torch.zeros(100, 4, 2, 2)}, 4.0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(PIXART_ALPHA_256, ffn_width=1152), "`ffn_width` is 1152; diffusers' PixArt-alpha has 4608"),
        (replace(PIXART_ALPHA_256, patch_size=(1, 2, 1)), "`patch_size` is"),
        (replace(REDUCIO_DIT_XL, patch_size=(2, 2, 2)), "`patch_size` is"),
    ],
)
def test_what_diffusers_has_not_is_not_written(config, message):
    with pytest.raises(ValueError, match=message):
        write_diffusers(config)
