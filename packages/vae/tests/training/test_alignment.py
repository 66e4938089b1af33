"""Test H: the video VF loss."""

import pytest
import torch
from fastvid_vae.training.alignment import (
    VideoVFLoss,
    marginal_cosine_loss,
    marginal_distance_loss,
    pool_time,
)
from torch import Tensor, nn
from torch.nn import functional


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_equal_features_cost_nothing() -> None:
    """Z = F and W the identity."""
    loss = VideoVFLoss(6, 6)
    nn.init.eye_(loss.project.weight)
    latents = draw(2, 6, 2, 3, 3)
    features = torch.cat([latents[:, :, :1], latents[:, :, 1:].repeat_interleave(4, 2)], dim=2)
    assert loss(latents, features) == 0
    assert loss(latents, -features) > 0


def test_opposite_vectors_cost_the_whole_margin() -> None:
    z = functional.normalize(draw(1, 5, 3), dim=2)
    assert torch.allclose(marginal_cosine_loss(z, -z), torch.tensor(1.5))
    assert marginal_distance_loss(z, -z) == 0  # distances within are the same


def test_the_distance_loss_of_two_places() -> None:
    """cos is 1 and 0 between the pairs: |1 - 0| - 0.25 off the diagonal, which is half of the entries."""
    z = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    f = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    assert torch.allclose(marginal_distance_loss(z, f), torch.tensor(0.375))


def test_a_small_angle_is_within_the_margin() -> None:
    z = torch.tensor([[[1.0, 0.0]]])
    f = torch.tensor([[[0.6, 0.8]]])
    assert marginal_cosine_loss(z, f) == 0


def test_places_too_alike_cost_what_places_too_unlike_do() -> None:
    """|cos z - cos f| is 1 for two pairs of four; a mutant without the bars counts one of the two cases alone."""
    same, across = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])[:, None]
    assert marginal_distance_loss(same, across) == marginal_distance_loss(across, same) == 0.75 / 2


def test_time_is_pooled_behind_the_first_frame() -> None:
    features = draw(1, 2, 9, 1, 1)
    pooled = pool_time(features, 3)
    assert torch.equal(pooled[:, :, 0], features[:, :, 0])
    assert torch.allclose(pooled[:, :, 2], features[:, :, 5:9].mean(2))
    assert torch.equal(pool_time(features[:, :, :1], 1), features[:, :, :1])


@pytest.mark.parametrize(("frames", "latents"), [(9, 4), (8, 3), (1, 2), (5, 1), (5, 0)])
def test_frames_that_do_not_belong_to_the_latents(frames: int, latents: int) -> None:
    with pytest.raises(ValueError, match=f"`features` has {frames} frames for {latents} latents"):
        pool_time(draw(1, 2, frames, 1, 1), latents)


def test_shapes_of_17_frames_of_256_pixels() -> None:
    """Z (128, 5, 4, 4) against DINOv2-large on 16 x 16 patches: 1,280 places."""
    with torch.device("meta"):
        z, f = VideoVFLoss(128, 1024).align(torch.empty(1, 128, 5, 4, 4), torch.empty(1, 1024, 17, 16, 16))
    assert z.shape == f.shape == (1, 1280, 1024)


def test_the_gradient_reaches_latents_and_map_only() -> None:
    loss, latents, features = VideoVFLoss(4, 6), draw(1, 4, 2, 2, 2).requires_grad_(), draw(1, 6, 5, 4, 4)
    features.requires_grad_()
    loss(latents, features).backward()
    assert latents.grad is not None
    assert (latents.grad != 0).any()
    assert loss.project.weight.grad is not None
    assert features.grad is None
