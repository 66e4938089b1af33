"""Memory savers of diffusers work on the model from outside."""

import torch
from diffusers.hooks import apply_group_offloading, apply_layerwise_casting


def test_layerwise_casting(build, inputs):
    model, given = build(), inputs()
    with torch.no_grad():
        exact = model(**given)
        apply_layerwise_casting(
            model,
            storage_dtype=torch.float8_e4m3fn,
            compute_dtype=torch.float32,
            skip_modules_pattern=("patch_embedding", "time_embedding", "norm", "modulation"),
        )
        assert model.blocks[0].ffn.linear_in.weight.dtype == torch.float8_e4m3fn
        assert model.blocks[1].memory_router.weight.dtype == torch.float8_e4m3fn
        error = (model(**given) - exact).norm() / exact.norm()
    assert 1e-4 < error < 0.3


def test_group_offloading(build, inputs):
    model, given = build(), inputs()
    cpu = torch.device("cpu")
    with torch.no_grad():
        exact = model(**given)
        apply_group_offloading(model, onload_device=cpu, offload_device=cpu, offload_type="leaf_level")
        assert torch.equal(model(**given), exact)
