import pytest
import torch
from fastvid_dit.layer_memory import (
    LayerMemory,
    allocate_memory,
    init_router_as_identity,
    init_router_for_pretrained,
    init_router_from_scratch,
    mix,
    route,
)
from torch import nn


@pytest.mark.parametrize(("sources", "beta"), [(2, 4.60), (10, 6.79), (20, 7.54), (40, 8.26)])
def test_pretrained_initialisation_leaks_what_it_says(sources, beta):
    router = nn.Linear(6, sources)
    init_router_for_pretrained(router, leak=0.01)
    assert router.bias[-1].item() == pytest.approx(beta, abs=0.005)
    weights = route(router, torch.randn(2, 3, 6))
    torch.testing.assert_close(weights[..., -1], torch.full((2, 3), 0.99))
    torch.testing.assert_close(weights[..., :-1].sum(-1), torch.full((2, 3), 0.01))
    init_router_as_identity(router)
    assert 1 - route(router, torch.randn(2, 3, 6))[..., -1].min() < 1e-6


@pytest.mark.parametrize("leak", [0.0, 1.0, -0.1])
def test_leak_must_be_a_proportion(leak):
    with pytest.raises(ValueError, match="`leak`"):
        init_router_for_pretrained(nn.Linear(4, 3), leak=leak)


def test_from_scratch_is_nearly_uniform():
    torch.manual_seed(0)
    router = nn.Linear(256, 8)
    init_router_from_scratch(router)
    assert router.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert router.bias.abs().max() == 0
    weights = route(router, torch.randn(4, 50, 256))
    assert (weights.mean(dim=(0, 1)) - 1 / 8).abs().max() < 0.02


def test_routing_is_float32():
    router = nn.Linear(8, 5).bfloat16()
    weights = route(router, torch.randn(1, 4, 8).bfloat16())
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 4))


def test_mix_equals_the_sum_in_both_forms():
    states = torch.randn(5, 2, 7, 6)
    weights = torch.rand(2, 7, 5).softmax(-1)
    expected = sum(state.double() * weights[..., i, None].double() for i, state in enumerate(states)).float()
    torch.testing.assert_close(mix(states, weights), expected)
    torch.testing.assert_close(mix(states.unbind(0), weights), expected)
    low = states.bfloat16()
    assert mix(low, weights).dtype == mix(low.unbind(0), weights).dtype == torch.float32
    torch.testing.assert_close(mix(low, weights), expected, atol=0.05, rtol=0.02)


def test_memory_has_a_buffer_only_without_gradients():
    tokens = torch.randn(2, 3, 4)
    separate = allocate_memory(3, tokens)
    with torch.no_grad():
        buffered = allocate_memory(3, tokens)
    for memory in (separate, buffered):
        memory.append(tokens)
        memory.append(2 * tokens)
    assert isinstance(separate.states, tuple)
    assert buffered.states.shape == (2, 2, 3, 4)
    assert torch.equal(torch.stack(separate.states), buffered.states)


def test_a_buffer_refuses_more_than_it_holds():
    memory = LayerMemory(torch.empty(1, 2, 3, 4))
    memory.append(torch.zeros(2, 3, 4))
    with pytest.raises(IndexError):
        memory.append(torch.zeros(2, 3, 4))
