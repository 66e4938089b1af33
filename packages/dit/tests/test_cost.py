"""The formulas against torch's counter of operations, the model's parameters, and the bytes that are really alive."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from fastvid_dit import FSVIDEO_14B, WAN21_I2V_14B, FSVideoDiT
from fastvid_dit.cost import forward_cost, parameter_count
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode


class BytesAlive(TorchDispatchMode):
    """The most bytes of new storages that were alive at once."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {
            t.untyped_storage()._cdata for t in torch.utils._pytree.tree_leaves(args) if isinstance(t, torch.Tensor)
        }
        out = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in given | self.seen:
                    self.remember(storage)
        self.peak = max(self.peak, self.now)
        return out

    def remember(self, storage):
        key, size = storage._cdata, storage.nbytes()
        self.seen.add(key)
        self.now += size
        weakref.finalize(storage, self.forget, key, size)

    def forget(self, key, size):
        self.seen.discard(key)
        self.now -= size


def given_inputs(config, size, text_tokens, image_tokens):
    return {
        "latents": torch.zeros(1, config.latent_channels, *size),
        "timestep": torch.zeros(1),
        "text": torch.zeros(1, text_tokens, config.text_width),
        "condition": torch.zeros(1, config.condition_channels, *size),
        "image_tokens": None if config.image_width is None else torch.zeros(1, image_tokens, config.image_width),
    }


@pytest.mark.parametrize("changes", [{}, {"layer_memory": False}, {"image_width": None}, {"patch_size": (1, 2, 2)}])
@torch.inference_mode()
def test_operations_equal_those_that_torch_counts(tiny, changes):
    config, size = replace(tiny, **changes), (3, 4, 6)
    with torch.device("meta"):  # the counter does not know the CPU's own attention
        model = FSVideoDiT(config).eval()
        with FlopCounterMode(display=False) as counter:
            model(**given_inputs(config, size, 7, 5))
    cost = forward_cost(config, size, text_tokens=7, image_tokens=5)
    assert cost.flops == counter.get_total_flops()


@pytest.mark.parametrize("changes", [{}, {"layer_memory": False}, {"image_width": None}, {"mask_channels": 1}])
def test_parameters_are_counted_exactly(tiny, changes):
    config = replace(tiny, **changes)
    assert parameter_count(config) == sum(parameter.numel() for parameter in FSVideoDiT(config).parameters())


def test_parameters_of_the_full_sizes():
    assert parameter_count(FSVIDEO_14B) == 16_395_800_448 + 4_194_099
    assert parameter_count(WAN21_I2V_14B) == 16_394_878_784


@pytest.mark.parametrize(
    ("config", "size", "tokens", "tera"),
    [
        (FSVIDEO_14B, (31, 6, 10), 1_860, 51.7),
        (FSVIDEO_14B, (31, 12, 20), 7_440, 231.3),
        (WAN21_I2V_14B, (31, 90, 160), 111_600, 12_944),
    ],
)
def test_the_runs_of_the_paper(config, size, tokens, tera):
    cost = forward_cost(config, size)
    assert cost.tokens == tokens
    assert cost.flops / 1e12 == pytest.approx(tera, rel=0.005)


@pytest.mark.parametrize("layer_memory", [True, False])
@torch.inference_mode()
def test_bytes_alive_are_about_those_of_the_formula(tiny, layer_memory):
    config = replace(tiny, width=48, ffn_width=128, num_blocks=6, layer_memory=layer_memory)
    model, size = FSVideoDiT(config).eval(), (5, 16, 16)

    def attention(q, k, v, site):  # the CPU's own keeps the whole matrix, which a fused kernel does not
        return v

    gc.collect()
    with BytesAlive() as memory:
        model(**given_inputs(config, size, 1, 1), attention=attention)
    formula = forward_cost(config, size, text_tokens=1, image_tokens=1, itemsize=4).activation_bytes
    assert formula == pytest.approx(memory.peak, rel=0.35)
