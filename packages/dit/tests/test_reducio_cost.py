"""As `test_cost`, for Reducio-DiT; the bytes alive are measured there and follow the same formula here."""

from dataclasses import replace

import pytest
import torch
from fastvid_dit import REDUCIO_DIT_XL, ReducioDiT
from fastvid_dit.cost import reducio_cost, reducio_parameter_count
from torch.utils.flop_counter import FlopCounterMode

FOUR_GRIDS = replace(REDUCIO_DIT_XL, content_frame=replace(REDUCIO_DIT_XL.content_frame, num_grids=4))
FRAME = {"num_grids": 1, "fusion": "add"}


def changed(config, changes):
    """With changes of the content frame under their own names."""
    frame = {name: changes[name] for name in changes if name in FRAME}
    rest = {name: changes[name] for name in changes if name not in FRAME}
    return (
        replace(config, content_frame=replace(config.content_frame, **frame), **rest)
        if frame
        else replace(config, **rest)
    )


CHANGES = [
    {},
    {"num_grids": 1},
    {"fusion": "concat"},
    {"content_frame": None},
    {"size_embedding": False, "learn_sigma": True},
    {"temporal_blocks": True, "learn_time_scale": True},
    {"patch_size": (1, 2, 2)},
]


@pytest.mark.parametrize("changes", CHANGES)
@torch.inference_mode()
def test_operations_equal_those_that_torch_counts(tiny_reducio, reducio_inputs, changes):
    config, size = changed(tiny_reducio, changes), (3, 4, 6)
    given = {name: value.to("meta") for name, value in reducio_inputs(config, size=size, batch=1).items()}
    with torch.device("meta"):  # the counter does not know the CPU's own attention
        model = ReducioDiT(config).eval()
        with FlopCounterMode(display=False) as counter:
            model(**given)
        assert reducio_cost(config, size, text_tokens=5).flops == counter.get_total_flops()
        names = {"text", "semantic", "content"}
        cache = model.condition_cache(**{name: given[name] for name in names if name in given})
        with FlopCounterMode(display=False) as counter:
            model(**{name: value for name, value in given.items() if name not in names}, cache=cache)
    cost = reducio_cost(config, size, text_tokens=5, cached=True, itemsize=4)
    assert cost.flops == counter.get_total_flops()
    cache_bytes = sum(tensor.nbytes for entry in cache.blocks for tensor in entry)
    rest = reducio_cost(replace(config, num_blocks=1), size, text_tokens=5, cached=True, itemsize=4).activation_bytes
    assert cost.activation_bytes - rest == cache_bytes * (config.num_blocks - 1) // config.num_blocks


@pytest.mark.parametrize("changes", CHANGES)
def test_parameters_are_counted_exactly(tiny_reducio, changes):
    config = changed(tiny_reducio, changes)
    assert reducio_parameter_count(config) == sum(parameter.numel() for parameter in ReducioDiT(config).parameters())


def test_parameters_of_the_full_size():
    assert reducio_parameter_count(REDUCIO_DIT_XL) == 611_330_704 + 4_151_808
    assert reducio_parameter_count(replace(REDUCIO_DIT_XL, temporal_blocks=True)) == 615_482_512 + 446_390_784


@pytest.mark.parametrize(
    ("config", "size", "tokens", "tera"),
    [
        (REDUCIO_DIT_XL, (4, 8, 8), 256, 0.343),
        (REDUCIO_DIT_XL, (4, 16, 16), 1024, 1.52),
        (FOUR_GRIDS, (4, 32, 32), 4096, 7.20),
        (FOUR_GRIDS, (4, 24, 42), 4032, 7.05),
        (REDUCIO_DIT_XL, (4, 32, 32), 4096, 9.28),
    ],
)
def test_the_sizes_of_the_paper(config, size, tokens, tera):
    """Within what the embeddings add to the blocks: 1 % at 256 pixels."""
    cost = reducio_cost(config, size)
    assert cost.tokens == tokens
    assert cost.flops / 1e12 == pytest.approx(tera, rel=0.012)
