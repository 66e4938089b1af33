"""What the embedded model's refiner learns from: pairs whose places are known, stray, and are seen in part."""

import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fastvid_dit import RefinerMask
from fastvid_pipelines.encoders.byte import ByteTextEncoder, ByteTextEncoderConfig
from fastvid_vae import FSAE, LatentUpsampler, LatentUpsamplerConfig

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "recipes" / "embedded"))

import refiner_pairs  # noqa: E402  # the recipes are scripts that import one another by their folder
import stray  # noqa: E402
import train_autoencoder  # noqa: E402
import train_refiner  # noqa: E402
import train_transformer  # noqa: E402
from camera_motion import Request  # noqa: E402
from places import Places  # noqa: E402

STD = tuple(torch.linspace(0.3, 0.8, 64).tolist())
CHOSEN = [0, 1, 2, 3, 4, 5] * 4
HOW_PLACES_STRAY = ("OTHER_REQUEST", "SAME_REQUEST", "STRETCH", "DRIFT", "NOISE")


def test_the_refiner_starts_with_the_base_models_outer_blocks() -> None:
    base = train_transformer.build(layer_memory=True)
    refiner = train_refiner.build_refiner(base, RefinerMask(error_low=0.1, error_high=0.5))
    given, last = base.state_dict(), base.config.num_blocks - 1
    for name, weight in refiner.state_dict().items():
        if "memory_router" in name:
            assert weight.shape[0] == 2
        elif "head.linear" in name:
            assert weight.abs().max() == 0  # it starts as the upsampled video
        elif "patch_embedding.weight" in name:
            assert weight[:, :64].abs().max() == 0  # of the noise
            assert torch.equal(weight[:, 64:], given[name][:, 64:])
        else:
            assert torch.equal(weight, given[name.replace("blocks.1.", f"blocks.{last}.")])


def with_places() -> tuple[FSAE, torch.nn.Module]:
    """The embedded autoencoder with random weights, and what reads places from its latents."""
    torch.manual_seed(0)
    model = FSAE(replace(train_autoencoder.EMBEDDED_FSAE, latent_std=STD))
    place = model.decoder.place
    assert place is not None
    torch.nn.init.normal_(place.weight)
    return model, place


def test_a_wrong_place_costs_more_than_anything_else_that_is_as_wrong() -> None:
    model, place = with_places()
    target = torch.randn(2, 64, 3, 4, 4)
    plane = place.weight[:, :, 0, 0, 0].detach() * torch.tensor(STD)
    off = torch.nn.functional.normalize(plane[0], dim=0)
    elsewhere = torch.randn(64)
    elsewhere -= torch.linalg.pinv(plane) @ (plane @ elsewhere)
    loss, sigma = train_refiner.distance_of_latents(Places(model)), torch.tensor([0.5, 1.0])
    costs = [
        float(loss(target + wrong.view(1, -1, 1, 1, 1), target, sigma))
        for wrong in (off, torch.nn.functional.normalize(elsewhere, dim=0))
    ]
    cells = plane[0].norm()  # of a latent that is off by one
    assert costs[0] > costs[1] * float(cells) * train_refiner.REFINER_PLACE_WEIGHT / 2


def test_a_velocity_counts_by_how_far_it_leads() -> None:
    places = Places(with_places()[0])
    loss = train_refiner.distance_of_latents(places)
    wrong, target = torch.randn(2, 2, 64, 3, 4, 4)
    halfway = loss(target + wrong, target, torch.tensor([0.5, 0.5]))
    assert torch.allclose(halfway, loss(target + 0.5 * wrong, target, torch.ones(2)))


@torch.inference_mode()
def test_large_latents_say_exactly_where_their_content_lies() -> None:
    model, place = with_places()
    latents, true = torch.randn(1, 64, 2, 2, 3), torch.randn(5, 32, 48, 2)
    places = Places(model)
    corrected = refiner_pairs.with_true_offsets(places, latents, true, model.stride)
    last = true[4].view(2, 16, 3, 16, 2).mean(dim=(1, 3)) / 16  # of the cells of the second latent, in cells
    assert torch.allclose(places.of(corrected)[0, :, 1], last.permute(2, 0, 1), atol=1e-4)
    assert (places.of(latents)[0, :, 1] - last.permute(2, 0, 1)).abs().max() > 0.1
    other = torch.eye(64) - torch.linalg.pinv(place.weight[:, :, 0, 0, 0]) @ place.weight[:, :, 0, 0, 0]
    raw = [z * torch.tensor(STD).view(-1, 1, 1, 1) for z in (latents, corrected)]
    kept = [torch.einsum("kc,bcthw->bkthw", other, z) for z in raw]  # the least change of raw latents
    assert torch.allclose(*kept, atol=1e-4)


@pytest.fixture
def places() -> Places:
    return Places(with_places()[0])


@pytest.fixture
def pairs(places: Places) -> refiner_pairs.Pairs:
    """Six clips; two each were asked for the same."""
    large, upsampled = torch.randn(2, 6, 64, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return refiner_pairs.Pairs(
            large=large,
            upsampled=upsampled,
            upsampled_first=upsampled[:, :, :1],
            large_places=places.of(large),
            upsampled_places=places.of(upsampled),
            requests=[Request(("the camera pans left",), strength) for strength in (0.5, 0.5, 1.0, 1.0, 1.5, 1.5)],
        )


def strays_only_in(monkeypatch: pytest.MonkeyPatch, **amounts: float) -> None:
    """All other ways to stray are off."""
    for name in HOW_PLACES_STRAY:
        monkeypatch.setattr(stray, name, amounts.get(name, 0.0))


@torch.inference_mode()
def strayed(pairs: refiner_pairs.Pairs, places: Places) -> tuple[torch.Tensor, torch.Tensor, list[Request]]:
    return stray.stray(pairs, CHOSEN, places, random.Random(0), torch.Generator().manual_seed(1))


def found(cells: torch.Tensor, among: torch.Tensor) -> list[int]:
    """For each clip which of these lies, behind its first frame, where it does: one does, and no other."""
    matches = [
        [index for index, one in enumerate(among) if torch.allclose(one[:, 1:], where[:, 1:], atol=1e-4)]
        for where in cells
    ]
    assert all(len(match) == 1 for match in matches)
    return [match[0] for match in matches]


@torch.inference_mode()
def test_targets_lie_where_what_is_asked_for_does(places: Places, pairs: refiner_pairs.Pairs) -> None:
    given, target, asked = strayed(pairs, places)
    assert torch.equal(target[:, :, 0], pairs.large[CHOSEN][:, :, 0])
    assert torch.allclose(given[:, :, 0], pairs.upsampled[CHOSEN][:, :, 0], atol=1e-6)
    lies = found(places.of(target), pairs.large_places)
    assert [pairs.requests[index] for index in lies] == asked
    assert 4 <= sum(index != own for index, own in zip(lies, CHOSEN, strict=True)) <= 20  # half, or so
    rest = target - pairs.large[CHOSEN]
    assert torch.allclose(places.moved(rest, -places.part(rest)), torch.zeros(()), atol=1e-4)  # nothing else changes


@torch.inference_mode()
def test_what_strays_in_no_way_stays_as_it_is(
    places: Places, pairs: refiner_pairs.Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    strays_only_in(monkeypatch)
    given, target, asked = strayed(pairs, places)
    assert torch.allclose(given, pairs.upsampled[CHOSEN], atol=1e-4)
    assert torch.allclose(target, pairs.large[CHOSEN], atol=1e-4)
    assert asked == [pairs.requests[index] for index in CHOSEN]


@torch.inference_mode()
def test_small_videos_lie_where_one_of_the_same_words_does(
    places: Places, pairs: refiner_pairs.Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    strays_only_in(monkeypatch, OTHER_REQUEST=0.5, SAME_REQUEST=0.25)
    given, target, asked = strayed(pairs, places)
    lies = found(places.of(given), pairs.upsampled_places)
    assert [pairs.requests[index] for index in lies] == asked
    strays_only_in(monkeypatch, SAME_REQUEST=1.0)
    given, target, asked = strayed(pairs, places)
    assert torch.allclose(target, pairs.large[CHOSEN], atol=1e-4)
    lies = found(places.of(given), pairs.upsampled_places)
    assert {abs(index - own) for index, own in zip(lies, CHOSEN, strict=True)} == {0, 1}  # the other of the two, or not
    rest = given - pairs.upsampled[CHOSEN]
    assert torch.allclose(places.moved(rest, -places.part(rest)), torch.zeros(()), atol=1e-4)  # nothing else changes


@torch.inference_mode()
def test_motions_go_too_far_by_a_factor_of_each_clip(
    places: Places, pairs: refiner_pairs.Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    strays_only_in(monkeypatch, STRETCH=0.1)
    given, _, _ = strayed(pairs, places)
    before, after = (cells[:, :, 1:].flatten(1) for cells in (pairs.upsampled_places[CHOSEN], places.of(given)))
    factors = (before * after).sum(dim=1) / before.square().sum(dim=1)
    assert torch.allclose(after, factors[:, None] * before, atol=1e-3)
    assert 0.05 < factors.std() < 0.2
    assert abs(factors.mean() - 1) < 0.1


@torch.inference_mode()
def test_places_drift_away_in_time_by_a_plane_of_each_clip(
    places: Places, pairs: refiner_pairs.Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    strays_only_in(monkeypatch, DRIFT=0.15)
    given, _, _ = strayed(pairs, places)
    drift = places.of(given) - pairs.upsampled_places[CHOSEN]
    assert torch.allclose(drift[:, :, 0], torch.zeros(()), atol=1e-4)
    assert torch.allclose(2 * drift[:, :, 1], drift[:, :, 2], atol=1e-3)
    for axis in (3, 4):
        assert torch.allclose(drift.diff(2, dim=axis), torch.zeros(()), atol=1e-3)
        assert drift.diff(dim=axis).abs().mean() > 0.01
    assert 0.07 < drift[:, :, 2].mean(dim=(2, 3)).std() < 0.3


@torch.inference_mode()
def test_noise_leaves_places_alone(places: Places, pairs: refiner_pairs.Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    strays_only_in(monkeypatch, NOISE=0.2)
    given, target, _ = strayed(pairs, places)
    noise = given - pairs.upsampled[CHOSEN]
    assert torch.allclose(places.part(noise), torch.zeros(()), atol=1e-3)
    assert noise[:, :, 0].abs().max() == 0
    assert 0.15 < noise[:, :, 1:].std() < 0.25
    assert torch.allclose(target, pairs.large[CHOSEN], atol=1e-4)


@torch.inference_mode()
def test_refiner_batches_are_tokens_at_their_own_positions(
    places: Places, pairs: refiner_pairs.Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = train_transformer.build(layer_memory=True)
    refiner = train_refiner.build_refiner(base, RefinerMask(error_low=0.1, error_high=0.5))
    words = ByteTextEncoder(ByteTextEncoderConfig(width=8, num_layers=1, num_heads=2, max_bytes=128))
    strayed_to: list[tuple[torch.Tensor, torch.Tensor, list[Request]]] = []
    said: list[list[str]] = []

    def remembered(*arguments: object) -> tuple[torch.Tensor, torch.Tensor, list[Request]]:
        strayed_to.append(stray.stray(*arguments))  # type: ignore[arg-type]
        return strayed_to[-1]

    def encoded(encoder: ByteTextEncoder, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        said.append(prompts)
        return train_transformer.padded_text(encoder, prompts)

    monkeypatch.setattr(train_refiner, "stray", remembered)
    monkeypatch.setattr(train_refiner, "padded_text", encoded)
    monkeypatch.setattr(Request, "prompt", lambda self, rng: f"as much as {self.strength}")
    degradation = replace(train_refiner.EMBEDDED_DEGRADATION, shuffle=0.0, replacement=1.0)
    monkeypatch.setattr(train_refiner, "EMBEDDED_DEGRADATION", degradation)
    batches = train_refiner.refiner_batches(refiner, words, pairs, places, 0)
    seen, replaced = set(), []
    for _ in range(8):
        batch = next(batches)
        given, target, asked = strayed_to[-1]
        assert said[-1] == [f"as much as {request.strength}" for request in asked]
        assert batch.positions is not None
        t, rows, columns = (batch.positions[axis].long() for axis in range(3))
        given, target = given[:, :, t, rows, columns], target[:, :, t, rows, columns]
        assert torch.equal(batch.latents, target)
        mask = batch.condition[:, :1]
        shown = batch.condition[:, refiner.config.mask_channels :]
        assert (mask[:, :, 0] == 1).all()
        assert torch.equal(shown, torch.where(mask == 1, target, given))  # frames may be replaced by true ones
        replaced.append((mask[:, :, 1:] == 1).float().mean().item())
        seen.add((int(rows.min()), int(columns.min())))
    assert seen == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert 0 < max(replaced) < 1
    later = next(train_refiner.refiner_batches(refiner, words, pairs, places, 7))
    assert torch.equal(later.latents, batch.latents)
    assert torch.equal(later.condition, batch.condition)


@torch.inference_mode()
def test_the_range_of_the_mask_is_that_of_most_errors_of_first_frames() -> None:
    upsampler = LatentUpsampler(LatentUpsamplerConfig(latent_channels=2, width=4, num_blocks=1))  # nearest upsampling
    small = torch.randn(5, 2, 3, 4, 5)
    errors = torch.linspace(0, 1, 5 * 8 * 10).view(5, 1, 1, 8, 10)
    large = upsampler(small)
    large[:, :, 1:] += 100  # later frames do not count
    large[:, :, :1] += errors * torch.tensor([-1.0, 1.0]).view(-1, 1, 1, 1)
    mask = train_refiner.measure_mask(upsampler, small, large)
    assert mask.error_low == pytest.approx(0.05, abs=1e-4)
    assert mask.error_high == pytest.approx(0.95, abs=1e-4)


def test_what_was_made_is_read_until_what_it_was_made_of_changes(tmp_path: Path) -> None:
    sources = [tmp_path / "weights", tmp_path / "settings"]
    for source in sources:
        source.write_text("before")
    made: list[float] = []

    def make() -> tuple[torch.Tensor]:
        made.append(len(made))
        return (torch.tensor(made[-1]),)

    assert [refiner_pairs.cached(tmp_path / "made", sources, make) for _ in range(2)] == [(0,), (0,)]
    for again, source in enumerate(sources, 1):
        source.write_text("after")
        assert refiner_pairs.cached(tmp_path / "made", sources, make) == (again,)
