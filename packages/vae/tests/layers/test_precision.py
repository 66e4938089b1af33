"""Lower precision costs a little accuracy, with every kind of injection, and no more under autocast."""

from collections.abc import Callable

import pytest
import torch
from fastvid_vae import FSAE
from fastvid_vae.layers.linear_attention import relu_linear_attention
from torch import Tensor


@pytest.mark.parametrize("kind", ["content", "relative", "linear", "deformable"])
@pytest.mark.parametrize("autocast", [False, True])
@torch.no_grad()
def test_bfloat16_is_near_float32(
    kind: str, autocast: bool, build: Callable[..., FSAE], video: Callable[..., Tensor]
) -> None:
    model = build(injection=(None, None, kind, kind), noise_weight=0.0)
    frames = video(1, 3, 9, 16, 24)
    expected = model.decode(model.encode(frames), reference=frames[:, :, 0])
    if not autocast:
        model, frames = model.to(torch.bfloat16), frames.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = model.decode(model.encode(frames), reference=frames[:, :, 0])
    assert found.isfinite().all()
    assert (found.float() - expected).norm() < 0.05 * expected.norm()


def test_autocast_does_not_reach_the_sums_of_linear_attention(video: Callable[..., Tensor]) -> None:
    q, k, v = (video(2, 8, 500, seed=seed) for seed in range(3))
    expected = relu_linear_attention(q, k, v)
    with torch.autocast("cpu", torch.bfloat16):
        found = relu_linear_attention(q, k, v)
    assert torch.equal(found, expected)
