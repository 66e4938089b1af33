import math
from dataclasses import replace

import pytest
import torch
from diffusers import WanTransformer3DModel
from fastvid_dit import FSVideoDiT
from fastvid_dit.conversion.wan_diffusers import convert, invert, start_from_wan


@pytest.fixture
def wan(tiny):
    return replace(tiny, patch_size=(1, 2, 2), layer_memory=False)


def build_oracle(config):
    torch.manual_seed(0)
    oracle = WanTransformer3DModel(
        patch_size=config.patch_size,
        num_attention_heads=config.num_heads,
        attention_head_dim=config.width // config.num_heads,
        in_channels=config.latent_channels + config.condition_channels,
        out_channels=config.latent_channels,
        text_dim=config.text_width,
        freq_dim=config.frequency_width,
        ffn_dim=config.ffn_width,
        num_layers=config.num_blocks,
        image_dim=config.image_width,
        added_kv_proj_dim=None if config.image_width is None else config.width,
        rope_max_seq_len=64,
    )
    with torch.no_grad():
        for parameter in oracle.parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3
            parameter.copy_(torch.randn(parameter.shape) * scale)
    return oracle


@pytest.mark.parametrize("image_width", [14, None])
def test_velocity_equals_diffusers(wan, inputs, image_width):
    config = replace(wan, image_width=image_width)
    oracle = build_oracle(config)
    model = FSVideoDiT(config)
    model.load_state_dict(convert(oracle.state_dict(), config))
    given = inputs(config, size=(3, 6, 4))
    given["text"] = torch.randn(2, 512, config.text_width)  # the length is fixed in the oracle
    expected = oracle(
        hidden_states=torch.cat((given["latents"], given["condition"]), dim=1),
        timestep=given["timestep"],
        encoder_hidden_states=given["text"],
        encoder_hidden_states_image=given.get("image_tokens"),
        return_dict=False,
    )[0]
    assert expected.std() > 0.1
    error = (model(**given) - expected).abs().max() / expected.abs().max()
    assert error < 1e-5
    with torch.no_grad():  # mutant: the trap of the swapped norms
        model.blocks[0].norm_cross.weight.fill_(1)
    assert (model(**given) - expected).abs().max() / expected.abs().max() > 1e-3


def test_maps_invert_each_other(wan):
    foreign = build_oracle(wan).state_dict()
    ours = convert(foreign, wan)
    back = invert(ours, wan)
    assert back.keys() == foreign.keys()
    assert all(torch.equal(back[name], foreign[name]) for name in foreign)
    again = convert(back, wan)
    assert all(torch.equal(again[name], ours[name]) for name in ours)


def test_the_unused_tensor_of_published_files_is_dropped(wan):
    foreign = build_oracle(wan).state_dict()
    extra = foreign | {"blocks.0.attn2.norm_added_q.weight": torch.ones(48)}
    assert convert(extra, wan).keys() == convert(foreign, wan).keys()


def test_maps_are_strict(wan):
    foreign = build_oracle(wan).state_dict()
    ours = convert(foreign, wan)
    name = "blocks.1.attn1.to_q.weight"
    with pytest.raises(ValueError, match=rf"missing tensors \['{name}'\]"):
        convert({key: value for key, value in foreign.items() if key != name}, wan)
    with pytest.raises(ValueError, match=r"unexpected tensors \['other'\]"):
        convert(foreign | {"other": torch.ones(1)}, wan)
    with pytest.raises(ValueError, match=rf"{name} \(48, 47\), expected \(48, 48\)"):
        convert(foreign | {name: torch.ones(48, 47)}, wan)
    kernel = foreign["patch_embedding.weight"]
    with pytest.raises(ValueError, match=r"patch_embedding\.weight"):  # same size, patch turned
        convert(foreign | {"patch_embedding.weight": kernel.permute(0, 1, 3, 2, 4)}, wan)
    with pytest.raises(ValueError, match="missing tensors"):
        invert({key: value for key, value in ours.items() if key != "time_projection.bias"}, wan)
    with pytest.raises(ValueError, match="misshapen"):
        invert(ours | {"time_projection.bias": torch.ones(3)}, wan)
    with pytest.raises(ValueError, match=r"`config\.layer_memory`"):
        convert(foreign, replace(wan, layer_memory=True))


def test_start_from_wan_keeps_the_function_up_to_the_leak(wan, inputs):
    foreign = build_oracle(wan).state_dict()
    plain, model = FSVideoDiT(wan), FSVideoDiT(replace(wan, layer_memory=True))
    plain.load_state_dict(convert(foreign, wan))
    given = inputs(wan)
    errors = []
    for leak in (1e-2, 1e-4):
        start_from_wan(model, foreign, wan, leak=leak)
        errors.append(((model(**given) - plain(**given)).norm() / plain(**given).norm()).item())
    assert errors[1] < errors[0] / 10 < 0.1


KEPT = ("patch_embedding.", "head.linear.")


@pytest.mark.parametrize("latent_channels", [6, 4 * 4])  # sixteen give the head the shape of four in patches of 2 x 2
def test_start_from_wan_with_other_patches_and_latents(wan, latent_channels):
    assert wan.latent_channels * math.prod(wan.patch_size) == 16
    foreign = build_oracle(wan).state_dict()
    model = FSVideoDiT(replace(wan, patch_size=(1, 1, 1), latent_channels=latent_channels, layer_memory=True))
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith(KEPT)}
    assert len(kept) == 4
    start_from_wan(model, foreign, wan, leak=0.01)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in kept.items())
    assert torch.equal(model.blocks[1].ffn.linear_in.weight, foreign["blocks.1.ffn.net.0.proj.weight"])
    assert model.blocks[2].memory_router.bias[-1] > 4
    with pytest.raises(ValueError, match="misshapen"):
        start_from_wan(FSVideoDiT(replace(wan, ffn_width=32, layer_memory=True)), foreign, wan, leak=0.01)
    with pytest.raises(ValueError, match=r"missing|unexpected"):
        start_from_wan(FSVideoDiT(replace(wan, num_blocks=5, layer_memory=True)), foreign, wan, leak=0.01)
