"""Deformable injection: looks where it is told, to fractions of a cell, at nothing outside, exactly in a stream."""

from collections.abc import Callable

import pytest
import torch
from fastvid_vae import FSAE
from fastvid_vae.layers.deformable_attention import REACH, DeformableFirstFrameAttention
from torch import Tensor, nn

DEFORMABLE = ("deformable", "deformable", "deformable", "deformable")


@pytest.fixture
def looking() -> Callable[..., DeformableFirstFrameAttention]:
    """A layer whose heads all look (dx, dy) cells away, fully, and that gives what they see."""

    def looking(*offset: float) -> DeformableFirstFrameAttention:
        layer = DeformableFirstFrameAttention(8, head_width=4, affine_norm=False).requires_grad_(False)
        nn.init.dirac_(layer.v.weight)
        nn.init.dirac_(layer.out.weight)
        layer.look.project.bias.copy_(torch.tensor([*(cells / REACH for cells in offset), 100.0] * 2))
        return layer

    return looking


def test_heads_see_what_lies_at_their_offset(looking: Callable[..., nn.Module], video: Callable[..., Tensor]) -> None:
    first = video(2, 8, 1, 5, 7)
    seen = looking(2.0, -1.0)(torch.zeros(2, 8, 3, 5, 7), first)
    expected = torch.zeros(2, 8, 3, 5, 7)
    expected[..., 1:, :-2] = first[..., :-1, 2:]  # x to the right, y up; outside the first frame there is nothing
    torch.testing.assert_close(seen, expected)


def test_between_cells_it_interpolates(looking: Callable[..., nn.Module], video: Callable[..., Tensor]) -> None:
    first = video(1, 8, 1, 5, 7)
    seen = looking(0.25, 0.0)(torch.zeros(1, 8, 1, 5, 7), first)
    torch.testing.assert_close(seen[..., :-1], 0.75 * first[..., :-1] + 0.25 * first[..., 1:])


@torch.no_grad()
def test_a_head_may_look_at_nothing(looking: Callable[..., nn.Module], video: Callable[..., Tensor]) -> None:
    layer, x = looking(0.0, 0.0), video(1, 8, 2, 5, 7, seed=1)
    layer.look.project.bias[2::3] = -100.0
    torch.testing.assert_close(layer(x, video(1, 8, 1, 5, 7)), x)


def test_gradients_reach_the_offsets(video: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    layer = DeformableFirstFrameAttention(8, head_width=4, affine_norm=True)
    nn.init.dirac_(layer.out.weight)
    layer(video(1, 8, 2, 5, 7), video(1, 8, 1, 5, 7, seed=1)).square().mean().backward()
    gradient = layer.look.project.weight.grad
    assert gradient is not None
    assert gradient.view(2, 3, 8).abs().amin(dim=(0, 2)).gt(0).all()


@pytest.mark.parametrize("temporal_stages", [(0, 1), (1, 2)])
def test_chunked_equals_whole(
    temporal_stages: tuple[int, ...], build: Callable[..., FSAE], video: Callable[..., Tensor]
) -> None:
    model = build(injection=DEFORMABLE, injection_head_width=4, temporal_stages=temporal_stages, noise_weight=0.0)
    frames = video(1, 3, 13, 16, 24)
    latents = model.encode(frames)
    assert latents.shape == (1, 4, 4, 2, 3)
    parts = list(model.encode_chunks([frames[:, :, :5], frames[:, :, 5:]]))
    torch.testing.assert_close(torch.cat(parts, dim=2), latents)
    reference = frames[:, :, 0]
    whole = model.decode(latents, reference=reference)
    parts = list(model.decode_chunks([latents[:, :, :2], latents[:, :, 2:]], reference=reference))
    torch.testing.assert_close(torch.cat(parts, dim=2), whole)
    assert not torch.allclose(model.decode(latents), whole, atol=1e-3)
