"""Injection of the first frame: none at initialisation, exact kinds, features that are those of the image."""

from collections.abc import Callable

import pytest
import torch
from fastvid_vae import FSAE
from fastvid_vae.layers.first_frame_attention import FirstFrameAttention
from fastvid_vae.layers.stream import Stream
from torch import Tensor
from torch.nn import functional

KINDS = ["content", "relative", "linear"]


@pytest.mark.parametrize("kind", [*KINDS, "deformable"])
@torch.no_grad()
def test_a_reference_changes_nothing_before_training(
    kind: str, tiny_config: Callable[..., object], build: Callable[..., FSAE], video: Callable[..., Tensor]
) -> None:
    torch.manual_seed(0)
    injection = (None, None, kind, kind)
    model = FSAE(tiny_config(injection=injection))  # type: ignore[arg-type]
    latents, reference = video(1, 4, 3, 2, 2), video(1, 3, 16, 16)
    assert torch.equal(model.decode(latents, reference=reference), model.decode(latents))
    trained = build(injection=injection)
    assert not torch.allclose(trained.decode(latents, reference=reference), trained.decode(latents), atol=1e-3)


@torch.no_grad()
def test_features_of_frame_0_are_those_of_the_image(build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    model, frames = build(), video(2, 3, 9, 16, 24)
    of_video = model.encoder(frames, Stream())[1]
    of_image = model.first_frame_features(frames[:, :, 0])
    for stage, (whole, alone) in enumerate(zip(of_video, of_image, strict=True)):
        assert alone.shape[2] == 1, stage
        assert torch.allclose(whole[:, :, :1], alone, atol=1e-6)


def attention(kind: str) -> FirstFrameAttention:
    torch.manual_seed(1)
    layer = FirstFrameAttention(16, head_width=8, kind=kind, affine_norm=True)  # type: ignore[arg-type]
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer.requires_grad_(False)


def tokens(layer: FirstFrameAttention, projection: torch.nn.Module, x: Tensor) -> Tensor:
    """(heads, places, head width), frames folded into places."""
    y = projection(x)[0].flatten(1).T
    return y.view(y.shape[0], layer.heads, -1).transpose(0, 1)


@pytest.mark.parametrize("kind", ["content", "linear"])
def test_kinds_equal_their_formula(kind: str, video: Callable[..., Tensor]) -> None:
    layer, x, first = attention(kind), video(1, 16, 2, 3, 4), video(1, 16, 1, 3, 4, seed=1)
    normed = layer.norm_first(first)
    q, k, v = tokens(layer, layer.q, layer.norm_x(x)), tokens(layer, layer.k, normed), tokens(layer, layer.v, normed)
    if kind == "content":
        weights = torch.softmax(q @ k.transpose(1, 2) / 8**0.5, dim=-1)
    else:
        scores = functional.relu(q) @ functional.relu(k).transpose(1, 2)
        weights = scores / (scores.sum(dim=-1, keepdim=True) + 1e-15)
    mixed = (weights @ v).transpose(0, 1).reshape(1, 2, 3, 4, 16).permute(0, 4, 1, 2, 3)
    assert torch.allclose(layer(x, first), x + layer.out(mixed), atol=1e-5)


def test_relative_looks_at_its_own_place_first(video: Callable[..., Tensor]) -> None:
    """With no content in q and k, what a place takes from the first frame comes mostly from where it stands."""
    torch.manual_seed(0)
    layer = FirstFrameAttention(16, head_width=16, kind="relative", affine_norm=True).requires_grad_(False)
    torch.nn.init.zeros_(layer.q.weight)
    torch.nn.init.zeros_(layer.k.weight)
    layer.v.weight.copy_(torch.eye(16).view(16, 16, 1, 1, 1))
    layer.out.weight.copy_(torch.eye(16).view(16, 16, 1, 1, 1))
    marked = torch.zeros(1, 16, 1, 6, 6)
    marked[0, 0, 0, 4, 1] = 1
    taken = layer(torch.zeros(1, 16, 2, 6, 6), marked)[0, 0]
    for frame in taken:
        assert divmod(int(frame.argmax()), 6) == (4, 1)


def test_relative_places_move_together(video: Callable[..., Tensor]) -> None:
    """Only differences of places count: a corner of a larger picture attends as that corner alone does."""
    layer = attention("relative")
    q = layer.here[0, :, None]  # type: ignore[index]
    from fastvid_vae.layers import first_frame_attention as module

    angles = module._angles(torch.zeros(1, 1, 1, 5, 5), 8)
    turned = module._rotate(q.expand(-1, 25, -1), angles)
    scores = (turned @ turned.transpose(1, 2)).view(2, 5, 5, 5, 5)
    assert torch.allclose(scores[:, 1:, 1:, 1:, 1:], scores[:, :-1, :-1, :-1, :-1], atol=1e-5)


@pytest.mark.parametrize("kind", ["content", "relative"])
def test_no_table_of_all_pairs_is_ever_held(kind: str, live_bytes: Callable[[Callable[[], object]], int]) -> None:
    """2048 positions that look at 1024, in two heads; at full size such a table alone would take 2 TB."""
    layer, x, first = attention(kind), torch.randn(1, 16, 2, 32, 32), torch.randn(1, 16, 1, 32, 32)
    assert live_bytes(lambda: layer(x, first)) < 2 * 2048 * 1024 * 4 / 4
