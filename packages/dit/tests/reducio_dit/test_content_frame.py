from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from fastvid_dit.reducio_dit.content_frame import ContentFrameEmbedding
from fastvid_dit.reducio_dit.cross_attention import ConditionTokens


@pytest.fixture
def config(tiny_reducio):
    return tiny_reducio.content_frame


@pytest.fixture
def embed(build_reducio, tiny_reducio):
    def make(config):
        return build_reducio(replace(tiny_reducio, content_frame=config)).content_frame_embedding

    return make


def draw(rows=12, columns=8):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 9, 14, generator=generator), torch.randn(2, 3, rows, columns, generator=generator)


def test_four_grids_hold_every_place_once(embed, config):
    """Grid 2 a + c: every other row from a, every other column from c, as DeepStack has it."""
    semantic, content = torch.zeros(2, 9, 14), draw()[1]
    (whole,) = embed(replace(config, num_grids=1))(semantic, content)
    grids = embed(config)(semantic, content)
    picture = whole.unflatten(1, (6, 4))
    assert [grid.shape for grid in grids] == [(2, 6, 48)] * 4
    for a in range(2):
        for c in range(2):
            place = picture[:, a::2, c::2].flatten(1, 2)
            torch.testing.assert_close(grids[2 * a + c], place, atol=1e-5, rtol=1e-5)
    with pytest.raises(AssertionError):  # mutant: blocks of neighbours instead
        torch.testing.assert_close(grids[1], picture[:, :3, 2:].flatten(1, 2), atol=1e-5, rtol=1e-5)


def test_every_grid_has_the_whole_meaning(embed, config):
    model, (semantic, content) = embed(config), draw()
    bare = model(torch.zeros_like(semantic), content)
    meaning = model.semantic_embedding(semantic) - model.semantic_embedding(torch.zeros_like(semantic))
    picture = meaning.transpose(1, 2).unflatten(2, (3, 3))
    resized = F.interpolate(picture, size=(3, 2), mode="bilinear").flatten(2).transpose(1, 2)
    for grid, without in zip(model(semantic, content), bare, strict=True):
        torch.testing.assert_close(grid - without, resized, atol=1e-5, rtol=1e-5)


def test_equal_grids_are_added_token_by_token(embed, config):
    model = embed(replace(config, num_grids=1))
    semantic, content = draw(6, 6)
    tokens = model.content_embedding(
        content.unflatten(3, (3, 2)).unflatten(2, (3, 2)).permute(0, 2, 4, 3, 5, 1).flatten(3)
    )
    (fused,) = model(semantic, content)
    torch.testing.assert_close(fused, model.semantic_embedding(semantic) + tokens.flatten(1, 2), atol=1e-6, rtol=1e-6)


def test_concatenated_meaning_stays_apart(embed, config):
    semantic, content = draw()
    model = embed(replace(config, fusion="concat"))
    grids = model(semantic, content)
    assert [grid.shape for grid in grids] == [(2, 9 + 6, 48)] * 4
    for grid in grids:
        assert torch.equal(grid[:, :9], model.semantic_embedding(semantic))
    assert not torch.equal(grids[0][:, 9:], grids[1][:, 9:])


def test_a_frame_left_out_is_one_token_everywhere(embed, config):
    semantic, content = draw()
    grids = embed(config)(torch.zeros_like(semantic), torch.zeros_like(content))
    token = grids[0][:1, :1]
    assert token.abs().max() > 0.1
    for grid in grids:
        torch.testing.assert_close(grid, token.expand_as(grid), atol=1e-6, rtol=1e-5)


def test_blocks_read_the_grids_in_turn(build_reducio, reducio_inputs):
    """Block k reads grid k modulo 4, and all of the text: five blocks come back to the first grid."""
    model, given, seen = build_reducio(), reducio_inputs(), []
    grids = model.content_frame_embedding(given["semantic"], given["content"])
    words = model.text_embedding(given["text"])
    for block in model.blocks:
        block.cross_attention.to_k.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(**given)
    assert len(seen) == 5
    for index, tokens in enumerate(seen):
        assert torch.equal(tokens, torch.cat((grids[index % 4], words), dim=1))
    assert not torch.equal(seen[0], seen[1])


def test_a_place_is_read_by_every_fourth_block_only(build_reducio, reducio_inputs):
    model, given = build_reducio(), reducio_inputs()
    changed = given["content"].clone()
    changed[:, :, 2:4, 4:6] += 1  # token (1, 2): grid 2
    condition = {name: given[name] for name in ("text", "semantic", "content")}
    before, after = model.condition_cache(**condition), model.condition_cache(**condition | {"content": changed})
    assert [torch.equal(x.k, y.k) for x, y in zip(before.blocks, after.blocks, strict=True)] == [1, 1, 0, 1, 1]


def test_one_grid_is_read_by_every_block(build_reducio, reducio_inputs, tiny_reducio, config):
    model = build_reducio(replace(tiny_reducio, content_frame=replace(config, num_grids=1)))
    given = reducio_inputs()
    cache = model.condition_cache(given["text"], semantic=given["semantic"], content=given["content"])
    assert {entry.k.shape[2] for entry in cache.blocks} == {8 * 4 + 5}
    assert isinstance(model.content_frame_embedding, ContentFrameEmbedding)
    tokens = ConditionTokens((given["text"],), None)
    assert tokens.batch == cache.batch == 2
