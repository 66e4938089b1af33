import json
from dataclasses import dataclass, field

import pytest
import torch
from fastvid_accel import VGDFR, NoAcceleration, VGDFRConfig, compose
from fastvid_accel.vgdfr.accelerator import VGDFRSession, initial_noise
from fastvid_accel.vgdfr.record import MergeRecord
from torch import Tensor

from ..fakes import FakeSite, FakeStep, steps

STRIDE = 4
EVERYTHING = VGDFRConfig(threshold=-1.0, start_step=2)
NEVER_MERGED = [0, -2, -1]
"""Of 25 latents that are all alike, among those that are left."""


@dataclass
class FakeCodec:
    """A latent is its first frame, 8 times smaller; the other frames of it are like that one."""

    temporal_stride: int = STRIDE
    decoded: list[Tensor] = field(default_factory=list)
    side: int = 8

    def decode(self, latents: Tensor, /) -> Tensor:
        large = latents[:, :3].repeat_interleave(self.side, dim=3).repeat_interleave(self.side, dim=4)
        self.decoded.append(latents)
        return torch.cat((large[:, :, :1], large[:, :, 1:].repeat_interleave(STRIDE, dim=2)), dim=2)

    def encode(self, frames: Tensor, /) -> Tensor:
        small = frames[:, :, ::STRIDE, :: self.side, :: self.side]
        return torch.cat((small, small[:, :1]), dim=1)

    def truncated(self, stages: int, /) -> "FakeCodec":
        if stages > 3:
            raise ValueError(f"`stages` is {stages}")
        return FakeCodec(self.temporal_stride, self.decoded, self.side >> stages)


def noisy(num_latents: int = 25, size: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(1, 4, num_latents, size, size, generator=torch.Generator().manual_seed(seed))


def grid(latents: Tensor) -> Tensor:
    return torch.stack(torch.meshgrid(*(torch.arange(size).float() for size in latents.shape[2:]), indexing="ij"))


def walk(session: VGDFRSession, latents: Tensor, clean: Tensor, num_steps: int) -> tuple[Tensor, Tensor]:
    """Euler from noise, with an estimate of the clean latents that never changes until the shape does."""
    positions = grid(latents)
    for step in steps(num_steps):
        session.begin_step(step)
        q = torch.zeros(1, 1, latents.shape[2], 2)
        if session.attention is not None:
            session.attention(q, q, q, FakeSite(block=0, num_blocks=3, grid=(latents.shape[2], 1, 1)))
        estimate = clean if clean.shape == latents.shape else latents
        moved = estimate + (step.next_sigma / step.sigma) * (latents - estimate)
        latents, positions = session.end_step(moved, estimate, positions, step)
    return latents, positions


def still(num_latents: int = 25) -> Tensor:
    return (noisy(1, seed=1) / 3).expand(-1, -1, num_latents, -1, -1).clone()


def test_merges_after_the_asked_step_and_restores_every_frame() -> None:
    codec, lengths = FakeCodec(), []
    session = VGDFR(EVERYTHING).start(num_steps=4, codec=codec)
    latents, positions = noisy(), grid(noisy())
    for step in steps(4):
        moved = still() + step.next_sigma * (latents - still()) if latents.shape[2] == 25 else latents
        latents, positions = session.end_step(moved, still(latents.shape[2]), positions, step)
        lengths.append(latents.shape[2])
    assert lengths == [25, 9, 9, 9]
    assert positions.shape == (3, 9, 4, 4)
    assert session.record is not None
    assert session.record.start_step == 2
    assert session.finish(codec.decode(latents)).shape[2] == 97
    assert len(codec.decoded) == 2  # one preview; the second is this test's


def test_merged_latents_lie_on_the_line_from_the_first_noise_to_the_merged_video() -> None:
    session = VGDFR(EVERYTHING).start(num_steps=4, codec=FakeCodec())
    first, clean = noisy(), still()
    after_two = [step for step in steps(4) if step.index < 2]
    latents, positions = first, grid(first)
    for step in after_two:
        moved = clean + (step.next_sigma / step.sigma) * (latents - clean)
        latents, positions = session.end_step(moved, clean, positions, step)
    assert session.record is not None
    kept = list(session.record.rate.kept_latents)
    merged = clean[:, :, kept]
    merged[:, 3, 1:-2] = merged[:, 0, 1:-2]  # what the fake encodes
    torch.testing.assert_close(latents, 0.5 * first[:, :, kept] + 0.5 * merged, atol=1e-5, rtol=0)


def test_latents_that_stand_alone_stay_to_the_bit() -> None:
    """Here the encoder loses a lot. Encoded anew, as a mutant would have it, no latent is what it was."""

    class Lossy(FakeCodec):
        def encode(self, frames: Tensor, /) -> Tensor:
            return 0.5 * super().encode(frames)

    clean = still()
    clean[:, :, 13:] = noisy(12, seed=7)  # moves from there on
    session = VGDFR(VGDFRConfig(threshold=0.9, start_step=1)).start(num_steps=4, codec=Lossy())
    moved = 0.75 * noisy() + 0.25 * clean
    latents, _ = session.end_step(moved, clean, grid(clean), steps(4)[0])
    assert session.record is not None
    rate = session.record.rate
    assert rate.kept_latents == (0, 1, 5, 9, 11, *range(12, 25))
    stayed = [latent not in rate.merged_latents for latent in rate.kept_latents]
    assert torch.tensor(stayed).nonzero().flatten().tolist() == [0, *range(4, 18)]
    same = (latents == moved[:, :, list(rate.kept_latents)]).all(dim=(0, 1, 3, 4))
    assert same.tolist() == stayed


@pytest.mark.parametrize("sigma", [1.0, 1 - 1e-6, 0.9])
def test_the_noise_is_told_from_the_first_step(sigma: float) -> None:
    noise, clean = noisy(), still()
    first = sigma * noise + (1 - sigma) * clean
    step = FakeStep(index=0, num_steps=50, sigma=sigma, next_sigma=0.85)
    estimate = noisy(seed=5)
    moved = estimate + (0.85 / sigma) * (first - estimate)
    with_true_clean = clean + (0.85 / sigma) * (first - clean)
    torch.testing.assert_close(initial_noise(with_true_clean, clean, step), noise, atol=1e-5, rtol=0)
    if sigma == 1.0:  # then it is exact whatever the estimate
        torch.testing.assert_close(initial_noise(moved, estimate, step), noise, atol=1e-5, rtol=0)


def test_noise_keeps_its_variance() -> None:
    """It is selected. Averaged, as a mutant would have it, a quarter of the variance would be left."""
    session = VGDFR(EVERYTHING).start(num_steps=100, codec=FakeCodec())
    zero = torch.zeros(1, 4, 25, 16, 16)
    noise = noisy(size=16)
    latents, _ = walk_two(session, noise, zero)
    assert latents.std().item() == pytest.approx(0.98, abs=0.02)
    averaged = noise[:, :, 1:].unflatten(2, (6, 4)).mean(3)
    assert averaged.std().item() == pytest.approx(0.5, abs=0.02)


def walk_two(session: VGDFRSession, latents: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    positions = grid(latents)
    for step in steps(100)[:2]:
        latents, positions = session.end_step(
            clean + (step.next_sigma / step.sigma) * (latents - clean), clean, positions, step
        )
    return latents, positions


def test_nothing_alike_is_the_same_to_the_bit() -> None:
    config = VGDFRConfig(threshold=1.0, start_step=2)
    clean = noisy(seed=3)
    ours = walk(VGDFR(config).start(num_steps=4, codec=FakeCodec()), noisy(), clean, 4)
    none = walk(NoAcceleration().start(num_steps=4), noisy(), clean, 4)  # type: ignore[arg-type]
    assert torch.equal(ours[0], none[0])
    assert torch.equal(ours[1], none[1])
    session = VGDFR(config).start(num_steps=4, codec=FakeCodec())
    walk(session, noisy(), clean, 4)
    frames = torch.rand(1, 3, 97, 8, 8)
    assert session.finish(frames) is frames


@pytest.mark.parametrize(
    ("positions", "times"),
    [
        ("local", list(range(9))),
        ("global", [0, 1, 5, 9, 13, 17, 21, 23, 24]),
        ("centre", [0, 2.5, 6.5, 10.5, 14.5, 18.5, 21.5, 23, 24]),
        (None, [0, 2.5, 6.5, 10.5, 14.5, 18.5, 21.5, 23, 24]),
    ],
)
def test_positions_count_anew_stay_or_are_means(positions: str | None, times: list[float]) -> None:
    config = VGDFRConfig(threshold=-1.0, start_step=1, positions=positions)  # type: ignore[arg-type]
    _, after = walk(VGDFR(config).start(num_steps=3, codec=FakeCodec()), noisy(), still(), 3)
    assert after[0, :, 0, 0].tolist() == times
    assert torch.equal(after[1:], grid(noisy(9))[1:])


def test_positions_of_named_blocks_stay_while_the_others_count_anew() -> None:
    config = VGDFRConfig(threshold=-1.0, start_step=1, positions=(0, 2))
    _, after = walk(VGDFR(config).start(num_steps=3, codec=FakeCodec()), noisy(), still(), 3)
    assert after.shape == (3, 3, 9, 4, 4)
    assert [rows[0, -1, 0, 0].item() for rows in after] == [24, 8, 24]


@pytest.mark.parametrize("threshold", [-1.0, 1.0])
def test_blocks_that_the_transformer_lacks_are_refused(threshold: float) -> None:
    """Also where nothing merges."""
    config = VGDFRConfig(threshold=threshold, start_step=1, positions=(3,))
    with pytest.raises(ValueError, match=r"`positions` names block 3; the transformer has 3"):
        walk(VGDFR(config).start(num_steps=3, codec=FakeCodec()), noisy(), still(), 3)


def test_a_ratio_and_lengths_decide_how_many_latents_are_left() -> None:
    for config, left in [
        (VGDFRConfig(threshold=None, keep_ratio=0.75, start_step=1), 19),
        (VGDFRConfig(threshold=-1.0, start_step=1, lengths=(25, 21, 17, 13)), 13),
        (VGDFRConfig(threshold=-1.0, start_step=1, lengths=(25,)), 25),
        (VGDFRConfig(threshold=-1.0, start_step=1, highest_rate=2), 14),
    ]:
        latents, _ = walk(VGDFR(config).start(num_steps=3, codec=FakeCodec()), noisy(), still(), 3)
        assert latents.shape[2] == left


def test_a_second_video_equals_the_first() -> None:
    accelerator = VGDFR(EVERYTHING)
    one, two = (walk(accelerator.start(num_steps=4, codec=FakeCodec()), noisy(), still(), 4) for _ in range(2))
    assert torch.equal(one[0], two[0])


def test_two_videos_at_once_do_not_meet() -> None:
    accelerator = VGDFR(EVERYTHING)
    first = accelerator.start(num_steps=4, codec=FakeCodec())
    second = accelerator.start(num_steps=4, codec=FakeCodec())
    alone = walk(accelerator.start(num_steps=4, codec=FakeCodec()), noisy(seed=8), still(), 4)[0]
    first.end_step(noisy(seed=9), still(), grid(noisy()), steps(4)[0])
    assert torch.equal(walk(second, noisy(seed=8), still(), 4)[0], alone)


def test_last_in_a_composition() -> None:
    both = compose(NoAcceleration(), VGDFR(EVERYTHING)).start(num_steps=4, codec=FakeCodec())
    alone = VGDFR(EVERYTHING).start(num_steps=4, codec=FakeCodec())
    one, two = walk(both, noisy(), still(), 4), walk(alone, noisy(), still(), 4)  # type: ignore[arg-type]
    assert torch.equal(one[0], two[0])


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="`codec` is None"):
        VGDFR().start(num_steps=10)
    with pytest.raises(ValueError, match=r"`start_step` is 10 of 10 steps.*nearest: 9 of 10"):
        VGDFR(VGDFRConfig(start_step=10)).start(num_steps=10, codec=FakeCodec())
    with pytest.raises(ValueError, match=r"`start_step` is 1 of 1 steps.*nearest: 1 of 2"):
        VGDFR().start(num_steps=1, codec=FakeCodec())
    session = VGDFR(VGDFRConfig(start_step=1)).start(num_steps=3, codec=FakeCodec())
    with pytest.raises(ValueError, match="`positions` has 13 tokens along time for 25 latent frames"):
        session.end_step(noisy(), still(), grid(noisy(13)), steps(3)[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": None}, "expected one of them"),
        ({"keep_ratio": 0.5}, "expected one of them"),
        ({"threshold": 1.5}, r"similarity in \[-1, 1\]"),
        ({"threshold": float("nan")}, r"similarity in \[-1, 1\]"),
        ({"threshold": None, "keep_ratio": 0.0}, "above 0 and at most 1"),
        ({"start_step": 0}, "at least 1"),
        ({"start_step": True}, "at least 1"),
        ({"highest_rate": 3}, "expected 2 or 4"),
        ({"positions": "relative"}, "'local', 'global', 'centre', a tuple of blocks"),
        ({"positions": (-1,)}, "counted from 0"),
        ({"lengths": (0,)}, "each at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VGDFRConfig(**settings)  # type: ignore[arg-type]


def test_by_default_a_tenth_of_the_steps_comes_first() -> None:
    assert [VGDFRConfig().first_merged_step(count) for count in (2, 4, 10, 20, 50)] == [1, 1, 1, 2, 5]


def test_the_record_says_what_was_merged() -> None:
    session = VGDFR(EVERYTHING).start(num_steps=4, codec=FakeCodec())
    walk(session, noisy(), still(), 4)
    assert session.record is not None
    written = session.record.to_json()
    assert written["num_frames"] == 97
    assert written["kept_latents"] == [0, 1, 5, 9, 13, 17, 21, 23, 24]
    assert [merge["rate"] for merge in written["merges"]] == [4, 4, 4, 4, 4, 2]
    assert len(written["similarity"]) == 96
    assert MergeRecord.from_json(json.loads(json.dumps(session.report()))) == session.record
    assert session.report()["settings"]["threshold"] == EVERYTHING.threshold
    for wrong in ([], None, written | {"merges": 3}):
        with pytest.raises(ValueError, match="is no record of VGDFR"):
            MergeRecord.from_json(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="it has no 'stride'"):
        MergeRecord.from_json({name: value for name, value in written.items() if name != "stride"})
    picture = session.record.picture()
    assert picture.shape == (64, 97 * 8, 3)
    colours = {tuple(pixel) for pixel in picture[-1].tolist()}
    assert len(colours) == 4  # kept, twice, four times, and the gaps


@pytest.mark.parametrize("count", [1, 3])
def test_a_preview_is_refined_by_even_coarse_steps(count: int) -> None:
    """Where the estimate is right on a line, the last one is seen; each is asked for where Euler led."""
    asked: list[tuple[Tensor, float]] = []
    noise, clean = noisy(), still()

    def estimate(latents: Tensor, sigma: float) -> Tensor:
        asked.append((latents, sigma))
        return clean + len(asked)

    codec = FakeCodec()
    config = VGDFRConfig(threshold=-1.0, start_step=1, refining_steps=count)
    session = VGDFR(config).start(num_steps=4, codec=codec)
    step = steps(4)[0]  # from 1 to 3 / 4
    moved = 0.75 * noise + 0.25 * clean
    latents, _ = session.end_step(moved, clean, grid(noise), step, estimate=estimate)
    assert [sigma for _, sigma in asked] == pytest.approx([0.75 * (1 - i / (count + 1)) for i in range(1, count + 1)])
    expected, before = moved, clean
    for index, (found, sigma) in enumerate(asked):
        last = asked[index - 1][1] if index else 0.75
        expected = expected + (sigma - last) * (expected - before) / last  # Euler along the velocity
        torch.testing.assert_close(found, expected)
        before = clean + index + 1
    assert torch.equal(codec.decoded[0], clean + count)
    assert session.record is not None
    assert session.report()["refining_steps"] == count
    assert MergeRecord.from_json(json.loads(json.dumps(session.report()))) == session.record
    kept = list(session.record.rate.kept_latents)
    expected = 0.75 * noise[:, :, kept] + 0.25 * codec.encode(codec.decode(clean + count))[:, :, kept]
    expected[:, :, NEVER_MERGED] = moved[:, :, kept][:, :, NEVER_MERGED]
    torch.testing.assert_close(latents, expected)


def test_without_refinement_nothing_is_asked() -> None:
    def refuse(latents: Tensor, sigma: float) -> Tensor:
        raise AssertionError("the transformer was called")

    session = VGDFR(EVERYTHING).start(num_steps=4, codec=FakeCodec())
    latents, positions = noisy(), grid(noisy())
    for step in steps(4)[:2]:
        latents, positions = session.end_step(latents, still(), positions, step, estimate=refuse)
    assert latents.shape[2] == 9
    refining = VGDFR(VGDFRConfig(start_step=1, refining_steps=2)).start(num_steps=4, codec=FakeCodec())
    with pytest.raises(ValueError, match="`refining_steps` is 2, and this loop offers no `estimate`"):
        refining.end_step(noisy(), still(), grid(noisy()), steps(4)[0])


def test_previews_may_be_small() -> None:
    codec = FakeCodec()
    config = VGDFRConfig(threshold=-1.0, start_step=2, skipped_stages=1)
    session = VGDFR(config).start(num_steps=4, codec=codec)
    latents, _ = walk(session, noisy(), still(), 4)
    full, _ = walk(VGDFR(EVERYTHING).start(num_steps=4, codec=FakeCodec()), noisy(), still(), 4)
    assert torch.equal(latents, full)  # this codec loses nothing
    assert codec.decoded
    with pytest.raises(ValueError, match="`stages` is 5"):
        VGDFR(VGDFRConfig(skipped_stages=5)).start(num_steps=4, codec=codec)


@pytest.mark.parametrize("name", ["skipped_stages", "refining_steps"])
@pytest.mark.parametrize("value", [-1, 0.5, True])
def test_counts_that_are_none_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is {value}; expected at least 0"):
        VGDFRConfig(**{name: value})  # type: ignore[arg-type]
