"""AsymRnR told to an engine, which gets indices before it runs: the same as inside attention."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from fastvid_accel import AsymRnR, AsymRnRConfig, Calibrator, compose
from fastvid_accel.asymrnr.attention import ReducingAttention
from fastvid_accel.asymrnr.reducer import TokenReducer
from fastvid_accel.no_acceleration import full_attention
from torch import Tensor

from ..fakes import FakeSite, Recorder, steps
from .test_accelerator import GRID, N, config, qkv, run, same

BLOCKS = 2


def settings(**values: Any) -> AsymRnRConfig:
    return config(**({"q": ((0.0, 0.4),), "window": 3, "dense_matching": True, "first_block": 1} | values))


def serve(attention: ReducingAttention, site: FakeSite, q: Tensor, k: Tensor, v: Tensor, kept: Any) -> Tensor:
    """What an engine does in one block with the indices of a step."""

    def gather(x: Tensor, index: Tensor) -> Tensor:
        return x.gather(2, index.long().unsqueeze(-1).expand(*index.shape, x.shape[-1]))

    if kept is None:
        return full_attention(q, k, v, site)
    if kept.keep_kv is not None:
        k, v = gather(k, kept.keep_kv), gather(v, kept.keep_kv)
    out = full_attention(q if kept.keep_q is None else gather(q, kept.keep_q), k, v, site)
    return out if kept.restore is None else gather(out, kept.restore)


def run_engine(session: Any, num_steps: int) -> tuple[list[Tensor], list[bool]]:
    """As `run`, but step by step with indices; and which steps ran whole."""
    outputs, whole = [], []
    for step in steps(num_steps):
        session.begin_step(step)
        attention = session.attention
        assert isinstance(attention, ReducingAttention)
        selections = attention.selections((2, 3, N, 8), BLOCKS, GRID)
        whole.append(selections is None)
        for block in range(BLOCKS):
            site = FakeSite(block=block, num_blocks=BLOCKS, grid=GRID)
            q, k, v = (x + 0.1 * step.index for x in qkv(block))
            kept = None if selections is None else selections.get(block)
            outputs.append(serve(attention, site, q, k, v, kept))
            if selections is None:
                attention.match(q, v, site)
    return outputs, whole


@pytest.mark.parametrize("rates", [{}, {"q": ()}, {"kv": ()}], ids=["both", "keys and values", "queries"])
def test_an_engine_computes_what_attention_does(rates: dict[str, Any]) -> None:
    accelerator = AsymRnR(settings(**rates))
    inside, told = accelerator.start(num_steps=8), accelerator.start(num_steps=8)
    outputs, whole = run_engine(told, 8)
    assert same(run(inside, 8), outputs)
    assert whole == [True, False, False, True, False, False, True, False]
    assert told.report() == inside.report()


def test_the_step_that_matches_runs_whole_and_is_counted_so() -> None:
    dense = run(AsymRnR(settings()).start(num_steps=4), 4)
    plain = run(AsymRnR(settings(q=(), kv=())).start(num_steps=4), 4)
    assert same(dense[:2], plain[:2])
    assert not same(dense[2:4], plain[2:4])
    report = AsymRnR(settings()).start(num_steps=4)
    run(report, 4)
    facts = report.report()
    assert [row[0] for row in facts["heat_map"]["q"]] == [".", "."]
    assert facts["heat_map"]["q"][1][1] == "4"
    assert facts["flops"]["removed_share"] == pytest.approx(facts["predicted_gain"])


def test_a_mutant_that_drops_tokens_while_it_matches_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    start = TokenReducer.reduce

    def at_once(self: Any, *tokens_and_place: Any) -> Any:
        self.config = replace(self.config, dense_matching=False)
        return start(self, *tokens_and_place)

    monkeypatch.setattr(TokenReducer, "reduce", at_once)
    with pytest.raises(AssertionError):
        test_the_step_that_matches_runs_whole_and_is_counted_so()


def test_where_it_is_off_nothing_is_asked_for() -> None:
    session = AsymRnR(settings(min_gain=0.9)).start(num_steps=3)
    session.begin_step(steps(3)[0])
    assert session.attention.selections((2, 3, N, 8), BLOCKS, GRID) == {}


def test_a_step_that_an_engine_refused_and_eager_ran_counts_once() -> None:
    reports = []
    for refused in (False, True):
        session = AsymRnR(settings()).start(num_steps=3)
        session.begin_step(steps(3)[0])
        if refused:
            assert session.attention.selections((2, 3, N, 8), BLOCKS, GRID) is None
        for block in range(BLOCKS):
            session.attention(*qkv(block), FakeSite(block=block, num_blocks=BLOCKS, grid=GRID))
        reports.append(session.report())
    assert reports[0] == reports[1]
    assert reports[0]["attention_calls"] == BLOCKS


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dense_matching": False}, r"`dense_matching` of AsymRnR is False; with an engine it has to be True"),
        ({"reduction": "mean"}, r"`reduction` of AsymRnR is 'mean'; with an engine it has to be 'discard'"),
        ({"q": (), "kv": (), "h": ((0.0, 0.3),)}, r"`h` of AsymRnR is \(\(0.0, 0.3\),\); with an engine it has to be"),
    ],
)
def test_settings_that_no_engine_can_follow_are_refused(values: dict[str, Any], message: str) -> None:
    session = AsymRnR(settings(**values)).start(num_steps=3)
    session.begin_step(steps(3)[0])
    with pytest.raises(ValueError, match=message):
        session.attention.selections((2, 3, N, 8), BLOCKS, GRID)


def test_others_inside_and_calibration_are_refused() -> None:
    for accelerator, message in (
        (compose(AsymRnR(settings()), Recorder("a")), "another accelerator replaces attention inside AsymRnR"),
        (Calibrator(), "calibration measures inside attention"),
    ):
        session = accelerator.start(num_steps=3)
        session.begin_step(steps(3)[0])
        assert isinstance(session.attention, ReducingAttention)
        with pytest.raises(ValueError, match=message):
            session.attention.selections((2, 3, N, 8), BLOCKS, GRID)


def test_a_feature_that_the_engine_does_not_show_is_named() -> None:
    session = AsymRnR(settings()).start(num_steps=3)
    session.begin_step(steps(3)[0])
    assert session.attention.selections((2, 3, N, 8), BLOCKS, GRID) is None
    q, _, v = qkv()
    with pytest.raises(ValueError, match="block 1 drops q, and the engine does not show that feature"):
        session.attention.match(None, v, FakeSite(block=1, num_blocks=BLOCKS, grid=GRID))
    session.attention.match(q, v, FakeSite(block=0, num_blocks=BLOCKS, grid=GRID))  # keeps all: nothing to match


def test_a_window_of_one_step_would_never_drop_a_token() -> None:
    with pytest.raises(ValueError, match="`window` is 1 with `dense_matching`"):
        AsymRnRConfig(window=1, dense_matching=True)
    torch.testing.assert_close(AsymRnRConfig(window=2, dense_matching=True).window, 2)
