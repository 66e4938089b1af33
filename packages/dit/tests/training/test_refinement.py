from collections import Counter
from dataclasses import replace

import pytest
import torch
from fastvid_dit.config import RefinerMask
from fastvid_dit.flow import add_noise
from fastvid_dit.refinement import RefinerCondition
from fastvid_dit.training import refinement
from fastvid_dit.training.refinement import (
    LOWEST_SIGMA,
    Degradation,
    deviated_latents,
    drop_small_video,
    replace_frames,
    shuffled_order,
    training_condition,
)
from torch import Tensor

MASK = RefinerMask(error_low=0.1, error_high=0.5)
NEVER = Degradation(shuffle=0.0, replacement=0.0, dropout=0.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def test_the_four_forms_of_equation_13_agree() -> None:
    clean, seen = draw(2, 3, 4, 2, 2), {}

    def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
        seen.update(noisy=noisy, sigma=sigma.view(-1, 1, 1, 1, 1))
        return noisy.sin()  # any network

    deviated = deviated_latents(clean, velocity, seeded())
    noise = torch.randn(clean.shape, generator=seeded()).to(clean)
    noisy, sigma, guess = seen["noisy"], seen["sigma"], seen["noisy"].sin()
    assert torch.equal(noisy, add_noise(clean, noise, sigma.flatten()))
    denoised = noisy - sigma * guess
    predicted_noise = guess + denoised
    for form in (
        noise - guess,
        denoised + (noise - predicted_noise),
        (denoised - clean) / sigma + clean,
        clean + (noise - clean) - guess,
    ):
        assert (deviated - form).abs().max() < 1e-12
    assert sigma.min() >= LOWEST_SIGMA


def test_a_perfect_base_model_deviates_by_nothing() -> None:
    clean = draw(1, 3, 4, 2, 2)

    def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
        return (noisy - clean) / sigma.view(-1, 1, 1, 1, 1)

    assert (deviated_latents(clean, velocity, seeded()) - clean).abs().max() < 1e-6


@pytest.mark.parametrize("kind", ["window", "pair", "clip"])
def test_shuffles_keep_frame_0_and_every_frame(kind: str) -> None:
    changed, generator = 0, seeded()
    for _ in range(100):
        order = shuffled_order(8, kind, generator).tolist()
        assert order[0] == 0
        assert sorted(order) == list(range(8))
        moved = [frame for frame in range(8) if order[frame] != frame]
        changed += bool(moved)
        if kind == "window":
            assert not moved or moved[-1] - moved[0] < 4
        if kind == "pair":
            assert len(moved) == 2
            assert moved[1] - moved[0] > 1
    assert changed > 30


def test_windows_change_places_six_times_as_often_as_whole_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: Counter[str] = Counter()

    def counted(num_frames: int, kind: str, generator: torch.Generator) -> Tensor:
        kinds[kind] += 1
        return shuffled_order(num_frames, kind, generator)

    monkeypatch.setattr(refinement, "shuffled_order", counted)
    shuffling, clean, generator = replace(NEVER, shuffle=1.0), draw(500, 1, 4, 1, 1), seeded()
    training_condition(clean, clean[:, :, :1] + 1, clean, MASK, shuffling, generator)
    assert kinds.total() == 500
    assert [round(kinds[kind] / 50) for kind in ("window", "pair", "clip")] == [6, 3, 1]


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["window", "pair", "clip"])
def test_short_clips_can_be_shuffled(num_frames: int, kind: str) -> None:
    for seed in range(20):
        assert sorted(shuffled_order(num_frames, kind, seeded(seed)).tolist()) == list(range(num_frames))


def test_replaced_frames_are_the_truth_and_dropped_ones_are_nothing() -> None:
    condition = RefinerCondition(latents=draw(2, 3, 4, 2, 2), mask=torch.full((2, 1, 4, 2, 2), 0.5).double())
    clean = draw(2, 3, 4, 2, 2, seed=1)
    replaced = torch.tensor([[False, True, False, True], [False] * 4])
    edited = replace_frames(condition, clean, replaced)
    assert torch.equal(edited.latents[0, :, [1, 3]], clean[0, :, [1, 3]])
    assert (edited.mask[0, :, [1, 3]] == 1).all()
    assert torch.equal(edited.latents[0, :, [0, 2]], condition.latents[0, :, [0, 2]])
    assert torch.equal(edited.latents[1], condition.latents[1])
    dropped = drop_small_video(edited, torch.tensor([False, True]))
    assert torch.equal(dropped.latents[0], edited.latents[0])
    assert torch.equal(dropped.latents[1, :, 0], edited.latents[1, :, 0])
    assert (dropped.latents[1, :, 1:] == 0).all()
    assert (dropped.mask[1, :, 1:] == 0).all()
    assert (dropped.mask[1, :, 0] == edited.mask[1, :, 0]).all()


def test_without_degradation_the_condition_is_that_of_inference() -> None:
    upsampled, first, clean = draw(2, 3, 4, 2, 2), draw(2, 3, 1, 2, 2, seed=1), draw(2, 3, 4, 2, 2, seed=2)
    condition = training_condition(upsampled, first, clean, MASK, NEVER, seeded())
    assert torch.equal(condition.latents[:, :, :1], clean[:, :, :1])
    assert torch.equal(condition.latents[:, :, 1:], upsampled[:, :, 1:])


def test_every_degradation_happens_as_often_as_asked() -> None:
    happened: Counter[str] = Counter()
    upsampled, clean = draw(1, 2, 6, 1, 1), draw(1, 2, 6, 1, 1, seed=2)
    for seed in range(400):
        condition = training_condition(upsampled, clean[:, :, :1] + 1, clean, MASK, Degradation(), seeded(seed))
        later, mask = condition.latents[0, :, 1:], condition.mask[0, 0, 1:, 0, 0]
        if (mask == 0).all():
            happened["dropout"] += 1
            continue
        happened["replacement"] += bool((mask == 1).any())
        kept = mask < 1
        happened["shuffle"] += not torch.equal(later[:, kept], upsampled[0, :, 1:][:, kept])
    assert 0.05 < happened["dropout"] / 400 < 0.16
    assert 0.15 < happened["replacement"] / 400 < 0.5
    assert 0.25 < happened["shuffle"] / 400 < 0.55
