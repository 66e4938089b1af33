"""AsymRnR beside caches that skip blocks at some steps: diffusers' own, and cache-dit."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers", reason="an extra")

from diffusers import FirstBlockCacheConfig
from fastvid_accel import AsymRnR, AsymRnRConfig
from fastvid_accel.asymrnr import reducer as reducing
from fastvid_accel.asymrnr.reducer import TokenReducer
from fastvid_accel.integrations.diffusers import accelerate

from .tiny_diffusers import Pipe, build

WINDOW, NUM_STEPS = 3, 8
ACCELERATOR = AsymRnR(AsymRnRConfig(q=((0.0, 0.5),), window=WINDOW, first_block=1, min_gain=0.0))

Cache = Callable[[Any, float], Callable[[], None]]
"""Switches a cache on that answers where less than this changed; what comes back is called before each video."""


def first_block(model: Any, threshold: float) -> Callable[[], None]:
    model.enable_cache(FirstBlockCacheConfig(threshold=threshold))
    return lambda: None


def cache_dit(model: Any, threshold: float) -> Callable[[], None]:
    import cache_dit

    logging.getLogger("CACHE_DIT").setLevel(logging.ERROR)
    settings = cache_dit.DBCacheConfig(
        Fn_compute_blocks=1,
        Bn_compute_blocks=0,
        residual_diff_threshold=threshold,
        max_warmup_steps=2,
        max_continuous_cached_steps=2,
        num_inference_steps=NUM_STEPS,
    )
    cache_dit.enable_cache(model, cache_config=settings)
    return lambda: cache_dit.refresh_context(model, cache_config=settings)


CACHES: dict[str, tuple[Cache, float]] = {"first block": (first_block, 0.3), "cache-dit": (cache_dit, 10.0)}
"""Each with a threshold at which it answers some steps of these tiny models, and not all."""

PAIRS = [("first block", "Wan"), ("cache-dit", "Wan"), ("cache-dit", "CogVideoX-5B")]


def pipe_of(name: str) -> Pipe:
    return Pipe(name, build(name), num_steps=NUM_STEPS, branches="separate" if name == "Wan" else "joint")


def watch(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """For each use of a matching, the step that made it and the step that uses it."""
    select, reduce_tokens, begin_step = reducing.select, reducing.reduce_tokens, TokenReducer.begin_step
    now = 0
    made: dict[int, tuple[object, int]] = {}
    uses: list[tuple[int, int]] = []

    def begins(self: TokenReducer, step: int) -> None:
        nonlocal now
        now = step
        begin_step(self, step)

    def selects(*args: Any) -> Any:
        kept = select(*args)
        made[id(kept)] = kept, now  # holding it keeps its id its own
        return kept

    def reduces(tokens: Any, kept: Any, how: Any) -> Any:
        uses.append((made[id(kept)][1], now))
        return reduce_tokens(tokens, kept, how)

    monkeypatch.setattr(TokenReducer, "begin_step", begins)
    monkeypatch.setattr(reducing, "select", selects)
    monkeypatch.setattr(reducing, "reduce_tokens", reduces)
    return uses


@pytest.mark.parametrize(("cache", "name"), PAIRS)
def test_a_cache_that_answers_nothing_changes_nothing(cache: str, name: str) -> None:
    pipe = pipe_of(name)
    with accelerate(pipe, ACCELERATOR):
        expected = pipe()
    switch_on, _ = CACHES[cache]
    begin_video = switch_on(pipe.transformer, 0.0)
    with accelerate(pipe, ACCELERATOR):
        for _ in range(2):
            begin_video()
            torch.testing.assert_close(pipe(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("cache", "name"), PAIRS)
def test_indices_never_outlive_their_window(cache: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uses = watch(monkeypatch)
    pipe = pipe_of(name)
    switch_on, threshold = CACHES[cache]
    begin_video = switch_on(pipe.transformer, threshold)
    with accelerate(pipe, ACCELERATOR) as acceleration:
        begin_video()
        first = pipe()
        report = acceleration.report()
        begin_video()
        assert torch.equal(pipe(), first)
    assert first.isfinite().all()
    compared, answered = report["heat_map"]["kv"]
    assert compared == NUM_STEPS * "."
    assert "3" in answered
    assert " " in answered
    assert all(made <= used and made // WINDOW == used // WINDOW for made, used in uses)
    assert any(made % WINDOW for made, _ in uses)  # a window whose first step the cache answered


def test_indices_that_outlive_their_window_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def once(self: Any, feature: Any, place: Any, rows: Any) -> Any:
        known = self._matches.get((place.branch, place.block, feature))
        return None if known is None else known.kept

    monkeypatch.setattr(TokenReducer, "_known", once)
    monkeypatch.setattr(TokenReducer, "begin_step", lambda self, step: setattr(self, "_step", step))
    with pytest.raises(AssertionError):
        test_indices_never_outlive_their_window("first block", "Wan", monkeypatch)
