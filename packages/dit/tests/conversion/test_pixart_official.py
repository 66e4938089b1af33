from dataclasses import replace

import pytest
import torch
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from fastvid_dit import ReducioDiT
from fastvid_dit.conversion.pixart_diffusers import convert, invert
from fastvid_dit.conversion.pixart_official import from_diffusers, position_span, to_diffusers

WIDTH = 24


def position_table(rows=4, scale=1.0, width=WIDTH):
    return get_2d_sincos_pos_embed(width, rows, base_size=rows, interpolation_scale=scale)[None].float()


def official_state_dict(size=True, rows=4, scale=1.0):
    """Names and shapes of the original code, two blocks small."""
    linears = {
        "t_embedder.mlp.0": (WIDTH, 16),
        "t_embedder.mlp.2": (WIDTH, WIDTH),
        "t_block.1": (6 * WIDTH, WIDTH),
        "y_embedder.y_proj.fc1": (WIDTH, 10),
        "y_embedder.y_proj.fc2": (WIDTH, WIDTH),
        "final_layer.linear": (2 * 4 * 4, WIDTH),
    }
    for index in range(2):
        linears |= {
            f"blocks.{index}.attn.qkv": (3 * WIDTH, WIDTH),
            f"blocks.{index}.attn.proj": (WIDTH, WIDTH),
            f"blocks.{index}.cross_attn.q_linear": (WIDTH, WIDTH),
            f"blocks.{index}.cross_attn.kv_linear": (2 * WIDTH, WIDTH),
            f"blocks.{index}.cross_attn.proj": (WIDTH, WIDTH),
            f"blocks.{index}.mlp.fc1": (32, WIDTH),
            f"blocks.{index}.mlp.fc2": (WIDTH, 32),
        }
    for name in ("csize_embedder", "ar_embedder") if size else ():
        linears |= {f"{name}.mlp.0": (WIDTH // 3, 16), f"{name}.mlp.2": (WIDTH // 3, WIDTH // 3)}
    shapes = {f"{name}.weight": shape for name, shape in linears.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in linears.items()}
    shapes |= {"x_embedder.proj.weight": (WIDTH, 4, 2, 2), "x_embedder.proj.bias": (WIDTH,)}
    shapes |= {"y_embedder.y_embedding": (5, 10), "final_layer.scale_shift_table": (2, WIDTH)}
    shapes |= {f"blocks.{index}.scale_shift_table": (6, WIDTH) for index in range(2)}
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return state | {"pos_embed": position_table(rows, scale)}


@pytest.fixture
def config(tiny_reducio):
    return replace(
        tiny_reducio,
        patch_size=(1, 2, 2),
        learn_sigma=True,
        content_frame=None,
        width=WIDTH,
        num_blocks=2,
        ffn_width=32,
        position_span=4.0,
    )


@pytest.mark.parametrize("size", [True, False])
def test_an_official_file_becomes_a_model_and_back(config, size):
    official, config = official_state_dict(size), replace(config, size_embedding=size)
    checkpoint = to_diffusers(official)
    assert checkpoint.position_span == config.position_span
    assert torch.equal(checkpoint.null_caption, official["y_embedder.y_embedding"])
    ours = convert(checkpoint.weights, config)
    model = ReducioDiT(config)
    model.load_state_dict(ours)
    back = from_diffusers(replace(checkpoint, weights=invert(model.state_dict(), config)))
    assert back.keys() == official.keys()
    assert all(torch.equal(back[name], official[name]) for name in official)


def test_fused_matrices_are_cut_in_order():
    official = official_state_dict()
    weights = to_diffusers(official).weights
    for index, name in enumerate(("to_q", "to_k", "to_v")):
        rows = slice(index * WIDTH, (index + 1) * WIDTH)
        assert torch.equal(
            weights[f"transformer_blocks.1.attn1.{name}.weight"], official["blocks.1.attn.qkv.weight"][rows]
        )
    for index, name in enumerate(("to_k", "to_v")):
        rows = slice(index * WIDTH, (index + 1) * WIDTH)
        assert torch.equal(
            weights[f"transformer_blocks.0.attn2.{name}.bias"], official["blocks.0.cross_attn.kv_linear.bias"][rows]
        )


@pytest.mark.parametrize(("rows", "scale", "span"), [(16, 1.0, 16), (16, 0.5, 32), (32, 1.0, 32), (64, 2.0, 32)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_span_is_read_from_the_table(rows, scale, span, dtype):
    assert position_span(position_table(rows, scale, width=1152).to(dtype)) == span


def test_a_table_of_something_else_is_refused():
    table = position_table(8)
    for wrong in (
        table.roll(1, 1),
        table * 1.1,
        table.flip(2),
        position_table(8, 0.3),  # steps beyond pi cannot be told from others
        torch.cat((table[..., 12:], table[..., :12]), dim=2),  # rows first
        torch.full_like(table, float("nan")),
    ):
        with pytest.raises(ValueError, match="`pos_embed` is no table"):
            position_span(wrong)
    for shape in ((1, 15, 24), (1, 1, 24), (1, 16, 22)):
        with pytest.raises(ValueError, match="`pos_embed` has shape"):
            position_span(torch.zeros(shape))


def test_maps_are_strict():
    official = official_state_dict()
    for name in ("pos_embed", "y_embedder.y_embedding"):
        with pytest.raises(ValueError, match=rf"missing tensors \['{name}'\]"):
            to_diffusers({key: value for key, value in official.items() if key != name})
    for name in ("blocks.0.attn.q_norm.weight", "blocks.weight", "other", "blocks.0.x_embedder.proj.weight"):
        with pytest.raises(ValueError, match=f"'{name}', which no PixArt-alpha has"):
            to_diffusers(official | {name: torch.ones(3)})
    with pytest.raises(ValueError, match="cannot be cut into 3 equal parts"):
        to_diffusers(official | {"blocks.0.attn.qkv.bias": torch.ones(10)})
    checkpoint = to_diffusers(official)
    lonely = dict(checkpoint.weights)
    del lonely["transformer_blocks.0.attn1.to_k.weight"]
    with pytest.raises(ValueError, match=r"only in a group: .*attn1\.to_q\.weight"):
        from_diffusers(replace(checkpoint, weights=lonely))
    with pytest.raises(ValueError, match=r"no PixArt-alpha has.*other"):
        from_diffusers(replace(checkpoint, weights={**checkpoint.weights, "other": torch.ones(1)}))
