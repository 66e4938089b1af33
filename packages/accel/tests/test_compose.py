import pytest
import torch
from fastvid_accel import NoAcceleration, compose
from fastvid_accel.compose import CompositionSession

from .fakes import FakeSite, HalvesFrames, Recorder, denoise, steps


def test_of_nothing_changes_nothing() -> None:
    alone = denoise(NoAcceleration().start(num_steps=3), 3)
    both = denoise(compose(NoAcceleration(), NoAcceleration()).start(num_steps=3), 3)
    assert torch.equal(alone, both)


def test_order_is_the_order_given_and_frames_go_back_the_other_way() -> None:
    log: list[str] = []
    session = compose(Recorder("a", log), Recorder("b", log)).start(num_steps=1)
    log.clear()
    denoise(session, 1, num_blocks=1)
    assert log == [
        "a.begin_step 0",
        "b.begin_step 0",
        "a.attention 0",
        "b.attention 0",
        "a.end_step 0",
        "b.end_step 0",
        "b.finish",
        "a.finish",
    ]


def test_every_session_is_started_once_with_the_number_of_steps() -> None:
    log: list[str] = []
    compose(Recorder("a", log), Recorder("b", log), Recorder("c", log)).start(num_steps=7)
    assert sorted(log) == ["a.start 7", "b.start 7", "c.start 7"]


def test_each_reports_in_order() -> None:
    session = compose(Recorder("a"), NoAcceleration(), Recorder("b")).start(num_steps=1)
    assert session.report() == {"accelerators": [{"name": "a"}, {}, {"name": "b"}]}


def test_innermost_attention_is_the_one_given() -> None:
    v = torch.ones(1, 1, 4, 2)
    site = FakeSite(block=0, num_blocks=1, grid=(1, 2, 2))
    session = compose(Recorder("a"), Recorder("b")).start(num_steps=1, attention=lambda q, k, v, site: v * 3)
    assert torch.equal(session.attention(v, v, v, site), v * 3)


def test_nests() -> None:
    log: list[str] = []
    session = compose(compose(Recorder("a", log), Recorder("b", log)), Recorder("c", log)).start(num_steps=1)
    log.clear()
    session.begin_step(steps(1)[0])
    assert log == ["a.begin_step 0", "b.begin_step 0", "c.begin_step 0"]


def test_one_that_thins_out_frames_may_stand_last() -> None:
    both = denoise(compose(Recorder("a"), HalvesFrames()).start(num_steps=3), 3)
    alone = denoise(HalvesFrames().start(num_steps=3), 3)
    assert both.shape == (2, 3, 5, 2, 3)
    assert torch.equal(both, alone)


def test_one_that_thins_out_frames_may_not_stand_first() -> None:
    session = compose(HalvesFrames(), Recorder("a")).start(num_steps=3)
    with pytest.raises(ValueError, match=r"`accelerators` are in an order .* \(2, 4, 5, 2, 3\) into \(2, 4, 3, 2, 3\)"):
        denoise(session, 3)


def test_mutant_of_the_order_check_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def unchecked(self, latents, denoised, positions, step, /):  # type: ignore[no-untyped-def]
        for session in self._sessions:
            latents, positions = session.end_step(latents, denoised, positions, step)
        return latents, positions

    monkeypatch.setattr(CompositionSession, "end_step", unchecked)
    session = compose(HalvesFrames(), Recorder("a")).start(num_steps=3)
    assert denoise(session, 3).shape == (2, 3, 5, 2, 3)  # goes through, which is what the check is there to stop


def test_every_video_gets_fresh_sessions() -> None:
    together = compose(NoAcceleration(), HalvesFrames())
    alone = denoise(together.start(num_steps=2), 2, seed=1)
    denoise(together.start(num_steps=3), 3, seed=2)
    assert torch.equal(denoise(together.start(num_steps=2), 2, seed=1), alone)


def test_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="`accelerators` is empty"):
        compose()


def test_checks_of_each_part_still_hold() -> None:
    with pytest.raises(ValueError, match="`num_steps`"):
        compose(Recorder("a"), NoAcceleration()).start(num_steps=0)
