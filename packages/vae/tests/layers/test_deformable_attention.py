"""Deformable injection: looks where it is told, to fractions of a cell, at nothing outside, from coarse to fine."""

from collections.abc import Callable

import pytest
import torch
from fastvid_vae import FSAE
from fastvid_vae.layers.deformable_attention import REACH, DeformableFirstFrameAttention, upsample_offsets
from fastvid_vae.layers.stream import Stream
from torch import Tensor, nn

DEFORMABLE = ("deformable", "deformable", "deformable", "deformable")


STILL = torch.zeros(2, 2, 3, 5, 7)


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
    seen, offsets = looking(2.0, -1.0)(torch.zeros(2, 8, 3, 5, 7), first, STILL)
    expected = torch.zeros(2, 8, 3, 5, 7)
    expected[..., 1:, :-2] = first[..., :-1, 2:]  # x to the right, y up; outside the first frame there is nothing
    torch.testing.assert_close(seen, expected)
    torch.testing.assert_close(offsets, torch.tensor([2.0, -1.0]).view(1, 2, 1, 1, 1).expand(2, 2, 3, 5, 7))


def test_it_starts_from_where_the_stage_below_looked(
    looking: Callable[..., nn.Module], video: Callable[..., Tensor]
) -> None:
    x, first = torch.zeros(1, 8, 3, 5, 7), video(1, 8, 1, 5, 7)
    coarse = torch.tensor([1.5, -2.0]).view(1, 2, 1, 1, 1).expand(1, 2, 3, 5, 7)
    expected = looking(2.0, -1.0)(x, first, STILL[:1])
    for ours, theirs in zip(looking(0.5, 1.0)(x, first, coarse), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("time", [1, 2])
def test_offsets_of_a_camera_motion_stay_exact_on_the_finer_grid(time: int) -> None:
    """Offsets linear in x, y and the frame, of 4 frames and cells of 4 pixels, then of 7 frames and 2 pixels."""

    def motion(frames: int, every: int, height: int, width: int) -> Tensor:
        cell = 12 / height
        t = every * torch.arange(float(frames)).view(-1, 1, 1)
        y, x = cell * (torch.arange(float(height)).view(-1, 1) + 0.5), cell * (torch.arange(float(width)) + 0.5)
        return torch.stack(torch.broadcast_tensors(t * (1 + x / 10), t * (y / 5 - 2))).unsqueeze(0) / cell

    finer = upsample_offsets(motion(4, 2, 3, 5), Stream(), time=time)
    expected = motion(7, 1, 6, 10) if time == 2 else motion(4, 2, 6, 10)
    inner = (..., slice(1, -1), slice(1, -1))  # at the border the nearest offset stands in
    torch.testing.assert_close(finer[inner], expected[inner])


@torch.no_grad()
def test_the_latents_say_where_the_first_stage_starts(build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    model = build(injection=(None, None, "deformable", None), injection_head_width=4, noise_weight=0.0)
    seen: list[Tensor] = []
    model.decoder.injections["2"].look.register_forward_hook(lambda *args: seen.append(args[-1][0]))
    for offset in (0.0, 1.5):
        model.decoder.place.weight.zero_()
        model.decoder.place.bias.fill_(offset)
        model.decode(video(1, 4, 3, 2, 3), reference=video(1, 3, 16, 24))
    torch.testing.assert_close(seen[1] - seen[0], torch.full_like(seen[0], 3.0))  # cells half as large


def test_between_cells_it_interpolates(looking: Callable[..., nn.Module], video: Callable[..., Tensor]) -> None:
    first = video(1, 8, 1, 5, 7)
    seen, _ = looking(0.25, 0.0)(torch.zeros(1, 8, 3, 5, 7), first, STILL[:1])
    torch.testing.assert_close(seen[:, :, 1:2, :, :-1], 0.75 * first[..., :-1] + 0.25 * first[..., 1:])


@torch.no_grad()
def test_a_head_may_look_at_nothing(looking: Callable[..., nn.Module], video: Callable[..., Tensor]) -> None:
    layer, x = looking(0.0, 0.0), video(1, 8, 3, 5, 7, seed=1)
    layer.look.project.bias[2::3] = -100.0
    torch.testing.assert_close(layer(x, video(1, 8, 1, 5, 7), STILL[:1])[0], x)


def test_gradients_reach_the_offsets(video: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    layer = DeformableFirstFrameAttention(8, head_width=4, affine_norm=True)
    nn.init.dirac_(layer.out.weight)
    seen, _ = layer(video(1, 8, 3, 5, 7), video(1, 8, 1, 5, 7, seed=1), STILL[:1])
    seen.square().mean().backward()
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


@pytest.mark.parametrize("mode", ["causal", "lite", "standard"])
def test_tiles_in_time_decode_in_every_mode(
    mode: str, build: Callable[..., FSAE], video: Callable[..., Tensor]
) -> None:
    model = build(injection=DEFORMABLE, injection_head_width=4, decoder_mode=mode, noise_weight=0.0)
    frames = video(1, 3, 33, 16, 24)
    latents, reference = model.encode(frames), frames[:, :, 0]
    whole = model.decode(latents, reference=reference)
    with model.tiled(spatial=None, temporal=17):
        tiled = model.decode(latents, reference=reference)
    assert tiled.shape == whole.shape
    if mode != "standard":  # whose tiles fade
        torch.testing.assert_close(tiled, whole)
