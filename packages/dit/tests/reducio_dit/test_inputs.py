"""What is refused, and in which words."""

from dataclasses import replace

import pytest
import torch


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("latents", (2, 5, 3, 4, 2)),
        ("latents", (2, 4, 3, 4)),
        ("latents", (2, 4, 0, 4, 2)),
        ("timestep", (3,)),
        ("timestep", ()),
        ("text", (2, 5, 11)),
        ("text", (2, 10)),
        ("text_mask", (2, 4)),
        ("semantic", (2, 9, 13)),
        ("semantic", (2, 8, 14)),
        ("semantic", (3, 9, 14)),
        ("content", (2, 4, 16, 8)),
        ("content", (2, 3, 1, 16, 8)),
        ("content", (1, 3, 16, 8)),
        ("size", (2, 3)),
        ("size", (3, 2)),
        ("size", (2,)),
        ("positions", (3, 3, 4, 3)),
        ("positions", (2, 3, 4, 2)),
    ],
)
def test_wrong_shapes_are_named(build_reducio, reducio_inputs, name, shape):
    given = reducio_inputs() | {name: torch.ones(shape, dtype=torch.bool if name == "text_mask" else torch.float32)}
    with pytest.raises(ValueError, match=f"`{name}`"):
        build_reducio()(**given)


def test_text_of_another_batch_is_refused(build_reducio, reducio_inputs):
    given, other = reducio_inputs(), reducio_inputs(batch=3)
    given |= {name: other[name] for name in ("text", "semantic", "content")}
    with pytest.raises(ValueError, match="`text` is a batch of 3, `latents` one of 2"):
        build_reducio()(**given)


@pytest.mark.parametrize("name", ["semantic", "content"])
def test_the_content_frame_must_fit_the_model(build_reducio, reducio_inputs, tiny_reducio, name):
    given = reducio_inputs()
    with pytest.raises(ValueError, match=f"`{name}` is required"):
        build_reducio()(**given | {name: None})
    config = replace(tiny_reducio, content_frame=None)
    with pytest.raises(ValueError, match=f"`{name}` must be None"):
        build_reducio(config)(**reducio_inputs(config), **{name: given[name]})


@pytest.mark.parametrize(("num_grids", "rows", "near"), [(1, 15, "14, 16"), (4, 14, "12, 16"), (4, 2, "4, 8")])
def test_content_comes_in_whole_tokens_and_grids(build_reducio, reducio_inputs, tiny_reducio, num_grids, rows, near):
    config = replace(tiny_reducio, content_frame=replace(tiny_reducio.content_frame, num_grids=num_grids))
    given = reducio_inputs() | {"content": torch.zeros(2, 3, rows, 8)}
    with pytest.raises(ValueError, match=f"`content` has {rows} rows, need a multiple .*nearest: {near}"):
        build_reducio(config)(**given)


def test_the_size_must_fit_the_model(build_reducio, reducio_inputs, tiny_reducio):
    given = reducio_inputs()
    with pytest.raises(ValueError, match="`size` is required"):
        build_reducio()(**given | {"size": None})
    with pytest.raises(ValueError, match="`size` must be None"):
        build_reducio(replace(tiny_reducio, size_embedding=False))(**given)


def test_a_cache_stands_instead_of_what_it_was_made_of(build_reducio, reducio_inputs, tiny_reducio):
    model, given = build_reducio(), reducio_inputs()
    condition = {name: given.pop(name) for name in ("text", "semantic", "content")}
    cache = model.condition_cache(**condition)
    with pytest.raises(ValueError, match="`text` is required, or a `cache`"):
        model(**given)
    for name, tensor in (*condition.items(), ("text_mask", torch.ones(2, 5, dtype=torch.bool))):
        with pytest.raises(ValueError, match=f"`{name}` has no effect beside `cache`"):
            model(**given, cache=cache, **{name: tensor})
    with pytest.raises(ValueError, match="`cache` is a batch of 2, `latents` one of 1"):
        model(**{name: value[:1] for name, value in given.items()}, cache=cache)
    for change in ({"num_blocks": 4}, {"num_heads": 2}, {"width": 96}):
        with pytest.raises(ValueError, match=r"`cache` is of another model.*\(5, 4, 12\)"):
            build_reducio(replace(tiny_reducio, **change))(**given, cache=cache)
    with pytest.raises(ValueError, match="`content` is required"):
        model.condition_cache(condition["text"], semantic=condition["semantic"])


def test_sizes_must_fit_the_patch(build_reducio, reducio_inputs, tiny_reducio):
    config = replace(tiny_reducio, patch_size=(1, 2, 2))
    with pytest.raises(ValueError, match="5 rows, need a multiple of 2; nearest: 4, 6"):
        build_reducio(config)(**reducio_inputs(config, size=(2, 5, 4)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 50}, "`width` must be a multiple of 12 .*got 50; nearest legal values: 48, 60"),
        ({"width": 50, "size_embedding": False}, "`width` .* of 4 .*nearest legal values: 48, 52"),
        ({"width": 3}, "nearest legal values: 12, 24"),
        ({"frequency_width": 15}, "`frequency_width` must be even, got 15"),
        ({"num_blocks": 0}, "`num_blocks` must be at least 1 and at most 1024, got 0"),
        ({"width": 16.0}, "`width` must be a whole number, got 16.0"),
        ({"num_blocks": 10**9}, "`num_blocks` must be .* at most 1024"),
        ({"width": 2**40}, "`width` must be .* at most 1048576"),
        ({"norm_eps": 0.0}, "need finite `norm_eps`"),
        ({"position_span": float("inf")}, "need finite .*`position_span`"),
        ({"position_span": 0.0}, "need finite .*`position_span`"),
        ({"patch_size": (1, 0, 1)}, "`patch_size"),
        ({"patch_size": (1, 1)}, "`patch_size"),
    ],
)
def test_config_names_what_is_wrong(tiny_reducio, change, message):
    with pytest.raises(ValueError, match=message):
        replace(tiny_reducio, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"semantic_grid": (16,)}, "`semantic_grid` must have two entries"),
        ({"semantic_grid": (16, 0)}, r"`semantic_grid\[1\]` must be at least 1"),
        ({"semantic_width": 0}, "`semantic_width`"),
        ({"content_channels": 0}, "`content_channels`"),
        ({"content_patch": -1}, "`content_patch`"),
        ({"fusion": "mean"}, "`fusion` must be 'add' or 'concat', got 'mean'"),
        ({"num_grids": 2}, "`num_grids` must be 1 or 4, got 2"),
    ],
)
def test_config_of_the_content_frame_names_what_is_wrong(tiny_reducio, change, message):
    with pytest.raises(ValueError, match=message):
        replace(tiny_reducio.content_frame, **change)
