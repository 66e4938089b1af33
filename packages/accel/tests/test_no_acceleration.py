import dataclasses

import pytest
import torch
import torch.nn.functional as F
from fastvid_accel import NoAcceleration
from fastvid_accel.no_acceleration import full_attention
from torch._dynamo.testing import CompileCounter

from .fakes import FakeSite, denoise, steps

SITE = FakeSite(block=0, num_blocks=1, grid=(1, 2, 5))


def qkv() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, 3, 10, 8, generator=generator) for _ in range(3))
    return q, k, v


def test_the_attention_of_the_transformer_stays() -> None:
    assert NoAcceleration().start(num_steps=1).attention is None


def test_attention_given_is_the_one_used() -> None:
    assert NoAcceleration().start(num_steps=1, attention=full_attention).attention is full_attention


def test_full_attention_is_that_of_torch_to_the_bit() -> None:
    q, k, v = qkv()
    assert torch.equal(full_attention(q, k, v, SITE), F.scaled_dot_product_attention(q, k, v))


def test_hands_the_same_tensors_on() -> None:
    session = NoAcceleration().start(num_steps=1)
    latents, denoised, positions = torch.zeros(1, 4, 2, 3, 3), torch.ones(1, 4, 2, 3, 3), torch.zeros(3, 2, 3, 3)
    step = steps(1)[0]
    session.begin_step(step)
    out, where = session.end_step(latents, denoised, positions, step)
    assert out is latents
    assert where is positions
    frames = torch.zeros(1, 3, 5, 8, 8)
    assert session.finish(frames) is frames


def test_second_video_is_not_affected_by_the_first() -> None:
    accelerator = NoAcceleration()
    alone = denoise(accelerator.start(num_steps=3), 3, seed=1)
    denoise(accelerator.start(num_steps=5), 5, seed=2)
    assert torch.equal(denoise(accelerator.start(num_steps=3), 3, seed=1), alone)


def test_settings_are_frozen() -> None:
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        NoAcceleration().tempo = 2  # type: ignore[attr-defined]
    assert NoAcceleration() == NoAcceleration()


@pytest.mark.parametrize("num_steps", [0, -1])
def test_refuses_no_steps(num_steps: int) -> None:
    with pytest.raises(ValueError, match=rf"`num_steps` must be at least 1, got {num_steps}"):
        NoAcceleration().start(num_steps=num_steps)


def test_compiles_without_recompiling_per_step() -> None:
    session = NoAcceleration().start(num_steps=4, attention=full_attention)
    attend = session.attention
    assert attend is not None
    counter = CompileCounter()

    @torch.compile(backend=counter)
    def block(x: torch.Tensor) -> torch.Tensor:
        return attend(x, x + 1, x + 2, SITE)

    x = qkv()[0]
    expected = F.scaled_dot_product_attention(x, x + 1, x + 2)
    for step in steps(4):
        session.begin_step(step)
        torch.testing.assert_close(block(x), expected)
    assert counter.frame_count == 1
