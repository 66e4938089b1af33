from dataclasses import replace

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from fastvid_dit import REDUCIO_DIT_XL, ReducioDiT
from fastvid_dit.conversion.pixart_diffusers import (
    PIXART_ALPHA_256,
    PIXART_ALPHA_1024,
    convert,
    invert,
    position_span,
    start_from_pixart,
)

SAMPLE_SIZE, SCALE = 8, 0.5  # a table of 4 x 4 positions, spread over 8: those of other sizes are interpolated


@pytest.fixture
def pixart(tiny_reducio):
    return replace(
        tiny_reducio,
        patch_size=(1, 2, 2),
        learn_sigma=True,
        content_frame=None,
        frequency_width=256,  # fixed in the oracle
        ffn_width=192,  # as well
        num_blocks=3,
        position_span=position_span(SAMPLE_SIZE, 2, SCALE),
    )


def build_oracle(config):
    torch.manual_seed(0)
    oracle = PixArtTransformer2DModel(
        num_attention_heads=config.num_heads,
        attention_head_dim=config.width // config.num_heads,
        in_channels=config.latent_channels,
        out_channels=config.out_channels,
        num_layers=config.num_blocks,
        cross_attention_dim=config.width,
        sample_size=SAMPLE_SIZE,
        patch_size=config.patch_size[1],
        interpolation_scale=SCALE,
        use_additional_conditions=config.size_embedding,
        caption_channels=config.text_width,
    )
    with torch.no_grad():
        for parameter in oracle.parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3
            parameter.copy_(torch.randn(parameter.shape) * scale)
    return oracle


@pytest.mark.parametrize("size_embedding", [True, False])
@pytest.mark.parametrize("size", [(1, 8, 8), (1, 12, 6)])
@torch.no_grad()
def test_a_picture_is_predicted_as_by_diffusers(pixart, reducio_inputs, size, size_embedding):
    config = replace(pixart, size_embedding=size_embedding)
    oracle, model = build_oracle(config), ReducioDiT(config)
    model.load_state_dict(convert(oracle.state_dict(), config))
    given, added = reducio_inputs(config, size=size), None
    if size_embedding:
        height, width = given["size"].unbind(1)
        added = {"resolution": given["size"], "aspect_ratio": (height / width)[:, None]}
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    expected = oracle(
        hidden_states=given["latents"][:, :, 0],
        timestep=given["timestep"],
        encoder_hidden_states=given["text"],
        encoder_attention_mask=mask,
        added_cond_kwargs=added,
        return_dict=False,
    )[0].unsqueeze(2)

    def error():
        return (model(**given, text_mask=mask) - expected).abs().max() / expected.abs().max()

    assert expected.std() > 0.1
    assert error() < 1e-5
    block = model.blocks[1].self_attention  # mutant: queries and keys swapped
    block.to_q, block.to_k = block.to_k, block.to_q
    assert error() > 1e-3


def test_another_span_is_another_picture(pixart, reducio_inputs):
    models = [ReducioDiT(replace(pixart, position_span=span)) for span in (8.0, 4.0)]
    for model in models:
        model.load_state_dict(convert(build_oracle(pixart).state_dict(), pixart))
    given = reducio_inputs(pixart, size=(1, 8, 8))
    assert (models[0](**given) - models[1](**given)).abs().max() > 1e-3


def test_the_span_of_a_diffusers_configuration():
    assert position_span(32, 2, 1.0) == PIXART_ALPHA_256.position_span == 16
    assert position_span(32, 2, 0.5) == 32
    assert position_span(64, 2, None) == 32
    assert position_span(128, 2, None) == position_span(128, 2, 2) == PIXART_ALPHA_1024.position_span == 32


def test_maps_invert_each_other(pixart):
    foreign = build_oracle(pixart).state_dict()
    ours = convert(foreign, pixart)
    back = invert(ours, pixart)
    assert back.keys() == foreign.keys()
    assert all(torch.equal(back[name], foreign[name]) for name in foreign)
    again = convert(back, pixart)
    assert all(torch.equal(again[name], ours[name]) for name in ours)


def test_the_empty_caption_of_published_files_is_dropped(pixart):
    foreign = build_oracle(pixart).state_dict()
    extra = foreign | {"caption_projection.y_embedding": torch.ones(5, 10)}
    assert convert(extra, pixart).keys() == convert(foreign, pixart).keys()


def test_maps_are_strict(pixart, tiny_reducio):
    foreign = build_oracle(pixart).state_dict()
    ours = convert(foreign, pixart)
    name = "transformer_blocks.1.attn1.to_q.weight"
    with pytest.raises(ValueError, match=rf"missing tensors \['{name}'\]"):
        convert({key: value for key, value in foreign.items() if key != name}, pixart)
    with pytest.raises(ValueError, match=r"unexpected tensors \['other'\]"):
        convert(foreign | {"other": torch.ones(1)}, pixart)
    with pytest.raises(ValueError, match=rf"{name} \(48, 47\), expected \(48, 48\)"):
        convert(foreign | {name: torch.ones(48, 47)}, pixart)
    with pytest.raises(ValueError, match=r"unexpected tensors .*resolution_embedder"):
        convert(foreign, replace(pixart, size_embedding=False))
    with pytest.raises(ValueError, match="missing tensors"):
        invert({key: value for key, value in ours.items() if key != "time_projection.bias"}, pixart)
    with pytest.raises(ValueError, match="misshapen"):
        invert(ours | {"time_projection.bias": torch.ones(3)}, pixart)
    frame = tiny_reducio.content_frame
    for change in ({"content_frame": frame}, {"temporal_blocks": True}, {"learn_time_scale": True}):
        with pytest.raises(ValueError, match=r"`config` must have no .*`start_from_pixart`"):
            convert(foreign, replace(pixart, **change))
    with pytest.raises(ValueError, match="patches of one frame"):
        convert(foreign, replace(pixart, patch_size=(2, 2, 2)))


@pytest.mark.parametrize("latent_channels", [6, 16])  # sixteen give the embedding the shape of four in patches of 2 x 2
@pytest.mark.parametrize("size_embedding", [True, False])
def test_start_from_pixart_keeps_what_it_has_not(pixart, tiny_reducio, latent_channels, size_embedding):
    source = replace(pixart, size_embedding=size_embedding)
    foreign = build_oracle(source).state_dict()
    config = replace(
        tiny_reducio,
        latent_channels=latent_channels,
        learn_sigma=True,
        temporal_blocks=True,
        learn_time_scale=True,
        frequency_width=256,
        ffn_width=192,
        num_blocks=3,
        position_span=8.0,
    )
    model = ReducioDiT(config)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start_from_pixart(model, foreign, source)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    new = ("patch_embedding.", "head.linear.", "content_frame_embedding.", "temporal_blocks.", "time_scale")
    new += () if size_embedding else ("size_embedding.",)
    assert changed == {name for name in before if not name.startswith(new)}
    assert torch.equal(model.blocks[2].ffn.linear_in.weight, foreign["transformer_blocks.2.ff.net.0.proj.weight"])
    with pytest.raises(ValueError, match=r"scales positions to 16\.0, .* scaled to 8\.0"):
        start_from_pixart(ReducioDiT(replace(config, position_span=16.0)), foreign, source)
    with pytest.raises(ValueError, match="misshapen"):
        start_from_pixart(ReducioDiT(replace(config, ffn_width=32)), foreign, source)
    with pytest.raises(ValueError, match="missing"):
        start_from_pixart(ReducioDiT(replace(config, num_blocks=4)), foreign, source)


def test_a_model_for_the_same_pictures_keeps_embedding_and_head(pixart):
    foreign = build_oracle(pixart).state_dict()
    model = ReducioDiT(replace(pixart, temporal_blocks=True))
    start_from_pixart(model, foreign, pixart)
    assert torch.equal(model.head.linear.weight, foreign["proj_out.weight"])


def count(config):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in ReducioDiT(config).parameters())


def test_published_sizes():
    assert count(PIXART_ALPHA_256) == 610_856_096
    assert count(PIXART_ALPHA_1024) == 611_349_152
    assert REDUCIO_DIT_XL.position_span == PIXART_ALPHA_256.position_span
