"""The session: what a pipeline sees of AsymRnR."""

import dataclasses
import logging
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from fastvid_accel import AsymRnR, AsymRnRConfig, NoAcceleration, SimilarityTable, compose
from fastvid_accel.asymrnr import reducer as reducing
from fastvid_accel.asymrnr.config import Metric, Reduction
from fastvid_accel.no_acceleration import full_attention
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..fakes import FakeSite, HalvesFrames, denoise, steps

GRID = (4, 4, 6)
N = 96


def config(**settings: Any) -> AsymRnRConfig:
    """Always on, however little it saves at this size."""
    return AsymRnRConfig(**({"min_gain": 0.0, "window": 2} | settings))


def table(blocks: int = 2, num_steps: int = 4, window: int = 2, **values: Any) -> SimilarityTable:
    columns = -(-num_steps // window)
    rows = tuple(tuple((block + column) / (blocks + columns) for column in range(columns)) for block in range(blocks))
    settings: dict[str, Any] = {"model": "toy", "grid": GRID, "stride": (2, 2, 2), "metric": "euclidean"}
    settings |= {"num_steps": num_steps, "window": window, "q": rows, "kv": rows, "h": None}
    return SimilarityTable(**(settings | values))


def qkv(seed: int = 0, b: int = 2, n: int = N) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(b, 3, n, 8, generator=generator) for _ in "qkv")
    return q, k, v


def run(session: Any, num_steps: int, num_blocks: int = 2, **inputs: Any) -> list[Tensor]:
    """Each output of each block at each step; features drift slowly from step to step."""
    outputs = []
    for step in steps(num_steps):
        session.begin_step(step)
        for block in range(num_blocks):
            q, k, v = (x + 0.1 * step.index for x in qkv(block, **inputs))
            outputs.append(session.attention(q, k, v, FakeSite(block=block, num_blocks=num_blocks, grid=GRID)))
    return outputs


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    "rates", [{"kv": ()}, {"kv": ((0.0, 0.0),), "q": ((0.0, 0.0),)}, {"kv": (), "h": ((0.0, 0.0),)}]
)
def test_rate_zero_is_no_acceleration_to_the_bit(rates: dict[str, Any]) -> None:
    assert same(
        run(AsymRnR(config(**rates)).start(num_steps=3), 3),
        run(NoAcceleration().start(num_steps=3, attention=full_attention), 3),
    )


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "dot", "random"])
@pytest.mark.parametrize("reduction", ["discard", "mean"])
@pytest.mark.parametrize(
    "rates", [{}, {"kv": (), "q": ((0.0, 0.5),)}, {"q": ((0.0, 0.5),)}, {"kv": (), "h": ((0.0, 0.5),)}]
)
def test_tokens_that_are_left(metric: Metric, reduction: Reduction, rates: dict[str, Any]) -> None:
    seen = []

    def watch(q: Tensor, k: Tensor, v: Tensor, site: object, /) -> Tensor:
        seen.append((q.shape[2], k.shape[2], v.shape[2]))
        return F.scaled_dot_product_attention(q, k, v)

    settings = config(metric=metric, reduction=reduction, **rates)
    session = AsymRnR(settings).start(num_steps=1, attention=watch)
    (out,) = run(session, 1, 1)
    queries = 48 if settings.q or settings.h else N
    keys = {True: 48, False: 67 if settings.kv else N}[bool(settings.h)]
    assert seen == [(queries, keys, keys)]
    assert out.shape == (2, 3, N, 8)
    assert out.isfinite().all()


def reduced(accelerator: AsymRnR, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What attention sees in a video of its own: within one, the matching of its first step would be reused."""
    seen = []

    def watch(q: Tensor, k: Tensor, v: Tensor, site: object, /) -> Tensor:
        seen.append((q, k, v))
        return q

    session = accelerator.start(num_steps=1, attention=watch)
    session.begin_step(steps(1)[0])
    session.attention(q, k, v, FakeSite(block=0, num_blocks=1, grid=GRID))
    return seen[0]


def test_keys_go_with_values_that_are_alike_and_not_with_keys_that_are() -> None:
    accelerator = AsymRnR(config(kv=((0.0, 0.5),)))
    q, k, v = qkv(b=1)
    places = torch.arange(N).float().view(1, 1, N, 1).expand_as(k)
    _, of_places, kept = reduced(accelerator, q, places, v)
    assert torch.equal(kept, v.gather(2, of_places.long()))  # each key beside its own value
    assert torch.equal(reduced(accelerator, q, k, v)[2], kept)  # k does not decide
    assert not torch.equal(reduced(accelerator, q, places, v.flip(2))[1], of_places)  # v does


def test_symmetric_reduction_matches_on_keys() -> None:
    accelerator = AsymRnR(config(kv=(), h=((0.0, 0.5),)))
    q, k, v = qkv(b=1)
    places = torch.arange(N).float().view(1, 1, N, 1).expand_as(k)
    of_queries, kept, _ = reduced(accelerator, places, k, v)
    assert torch.equal(kept, k.gather(2, of_queries.long()))
    for others in ((q, k, v.flip(2)), (q.flip(2), k, v)):
        assert torch.equal(reduced(accelerator, *others)[1], kept)
    assert not torch.equal(reduced(accelerator, places, k.flip(2), v)[0], of_queries)


def test_a_second_video_equals_the_first_and_ends_in_no_error_of_the_one_before() -> None:
    accelerator = AsymRnR(config(q=((0.0, 0.4),)))
    first = run(accelerator.start(num_steps=5), 5)
    assert same(run(accelerator.start(num_steps=5), 5), first)
    session = accelerator.start(num_steps=5)
    run(session, 3)  # breaks off in the middle of a window
    assert same(run(session, 5), first)


def test_two_videos_at_once_do_not_mix() -> None:
    accelerator = AsymRnR(config(q=((0.0, 0.4),)))
    alone = run(accelerator.start(num_steps=2), 2, 1)
    one, other = accelerator.start(num_steps=2), accelerator.start(num_steps=2)
    mixed = []
    site = FakeSite(block=0, num_blocks=1, grid=GRID)
    for step in steps(2):
        for session in (one, other):
            session.begin_step(step)
        mixed.append(one.attention(*(x + 0.1 * step.index for x in qkv(0)), site))
        other.attention(*(x + 0.1 * step.index for x in qkv(9)), site)
    assert same(mixed, alone)


def test_rows_of_a_batch_are_as_in_calls_of_their_own() -> None:
    accelerator = AsymRnR(config(q=((0.0, 0.4),)))
    together, *_ = run(accelerator.start(num_steps=1), 1, 1)
    site = FakeSite(block=0, num_blocks=1, grid=GRID)
    for row in range(2):
        session = accelerator.start(num_steps=1)
        session.begin_step(steps(1)[0])
        alone = session.attention(*(x[row : row + 1] for x in qkv(0)), site)
        torch.testing.assert_close(alone, together[row : row + 1], rtol=0, atol=1e-5)


def test_a_matching_serves_its_window_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(reducing, "match", lambda *args, **rest: calls.append(1) or MATCH(*args, **rest))
    session = AsymRnR(config(window=3)).start(num_steps=7)
    counts = []
    for step in steps(7):
        session.begin_step(step)
        session.attention(*qkv(), FakeSite(block=0, num_blocks=1, grid=GRID))
        counts.append(len(calls))
    assert counts == [1, 1, 1, 2, 2, 2, 3]
    session.begin_step(steps(7)[0])
    session.attention(*qkv(), FakeSite(block=0, num_blocks=1, grid=GRID))
    assert len(calls) == 4


MATCH = reducing.match


def test_a_block_that_a_cache_skips_matches_anew_in_its_next_window() -> None:
    accelerator = AsymRnR(config(window=2))
    every, some = accelerator.start(num_steps=6), accelerator.start(num_steps=6)
    site = FakeSite(block=0, num_blocks=1, grid=GRID)
    for step in steps(6):
        inputs = qkv(step.index)
        every.begin_step(step)
        some.begin_step(step)
        expected = every.attention(*inputs, site)
        if step.index not in (1, 2, 3):  # a step cache answers these
            assert torch.equal(some.attention(*inputs, site), expected)


def test_a_grid_that_shrinks_is_matched_anew() -> None:
    accelerator = compose(AsymRnR(config(window=5, kv=((0.0, 0.4),), stride=(1, 2, 2))), HalvesFrames())
    assert denoise(accelerator.start(num_steps=3), 3).isfinite().all()


def test_schedule_decides_by_block_and_window() -> None:
    settings = config(q=((0.5, 0.25), (0.7, 0.5)), kv=())
    session = AsymRnR(settings, table(blocks=3)).start(num_steps=4)
    run(session, 4, 3)
    # similarities are (block + window) / 5: 0, .2 | .2, .4 | .4, .6
    assert session.report()["heat_map"]["q"] == ["....", "....", "..33"]
    assert session.report()["heat_map"]["kv"] == ["....", "....", "...."]


def test_blocks_before_the_first_stay_whole() -> None:
    session = AsymRnR(config(first_block=1)).start(num_steps=2)
    run(session, 2)
    assert session.report()["heat_map"]["kv"] == ["..", "33"]


def test_counts_by_formula_are_those_of_torch() -> None:
    session = AsymRnR(config(q=((0.0, 0.4),))).start(num_steps=4)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run(session, 4)
    facts = session.report()
    assert facts["flops"]["attention"] + facts["flops"]["matching"] == counter.get_total_flops()
    assert {name: facts["flops"][name] for name in facts["counted"]} == facts["counted"]
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run(NoAcceleration().start(num_steps=4, attention=full_attention), 4)
    assert facts["flops"]["dense"] == counter.get_total_flops()
    assert facts["matchings"] == 8
    assert facts["predicted_gain"] == pytest.approx(facts["flops"]["removed_share"])


def test_where_too_little_would_be_saved_it_says_so_and_runs_dense(caplog: pytest.LogCaptureFixture) -> None:
    session = AsymRnR(AsymRnRConfig(min_gain=0.5)).start(num_steps=2)
    with caplog.at_level(logging.WARNING):
        out = run(session, 2)
    assert same(out, run(NoAcceleration().start(num_steps=2, attention=full_attention), 2))
    assert "AsymRnR is off: it would save" in caplog.text
    assert len(caplog.records) == 1
    facts = session.report()
    assert not facts["is_on"]
    assert facts["flops"]["removed"] == 0
    assert 0 < facts["predicted_gain"] < 0.5


def test_a_rate_that_the_stride_does_not_allow_is_lowered_and_said(caplog: pytest.LogCaptureFixture) -> None:
    session = AsymRnR(config(kv=((0.0, 0.95),))).start(num_steps=1)
    with caplog.at_level(logging.WARNING):
        run(session, 1)
    assert "a rate of 0.95 for kv is more than the stride (2, 2, 2) allows; 0.8750 holds" in caplog.text
    assert session.report()["clamped"] == [{"feature": "kv", "asked": 0.95, "given": 0.875}]
    assert session.report()["tokens"]["key_share"] == 0.125


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kv": ((0.0, 1.0),)}, "`kv` has a rate 1"),
        ({"kv": ((1.5, 0.5),)}, "`kv` has a threshold 1.5"),
        ({"kv": ((0.5, 0.1), (0.5, 0.2))}, "names a threshold twice"),
        ({"h": ((0.0, 0.1),)}, "exclude one another"),
        ({"stride": (1, 1, 1)}, "`stride` is"),
        ({"stride": (0, 2, 2)}, "`stride` is"),
        ({"metric": "hamming"}, "`metric` is 'hamming'"),
        ({"reduction": "sum"}, "`reduction` is 'sum'"),
        ({"window": 0}, "`window` is 0"),
        ({"seed": -1}, "`seed` is -1"),
        ({"min_gain": 1.0}, "`min_gain` is 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AsymRnRConfig(**settings)


def test_settings_go_through_json() -> None:
    settings = config(q=((0.6, 0.4), (0.7, 0.8)))
    assert AsymRnRConfig.from_json(settings.to_json()) == settings
    with pytest.raises(ValueError, match="know nothing of"):
        AsymRnRConfig.from_json(settings.to_json() | {"tempo": 1})


@pytest.mark.parametrize(
    ("settings", "of_table", "message"),
    [
        ({"kv": ((0.5, 0.3),)}, None, "`table` is None"),
        ({}, {"stride": (1, 2, 2)}, "measured with `stride`"),
        ({}, {"metric": "cosine"}, "measured with `metric`"),
        ({}, {"kv": None}, "rates for `kv`"),
    ],
)
def test_a_table_that_does_not_fit_the_settings_is_refused(
    settings: dict[str, Any], of_table: dict[str, Any] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        AsymRnR(config(**settings), None if of_table is None else table(**of_table))


def test_a_table_of_another_model_or_size_is_refused() -> None:
    with pytest.raises(ValueError, match="of 'toy' with 3 blocks, the model here has 2"):
        run(AsymRnR(config(), table(blocks=3)).start(num_steps=4), 4)
    with pytest.raises(ValueError, match="calibrate at this size"):
        run(AsymRnR(config(), table(grid=(4, 4, 4))).start(num_steps=4), 4)


def test_tokens_that_do_not_fill_the_grid_are_refused() -> None:
    session = AsymRnR(config()).start(num_steps=1)
    session.begin_step(steps(1)[0])
    with pytest.raises(ValueError, match="95 tokens do not fill the grid"):
        session.attention(*qkv(n=95), FakeSite(block=0, num_blocks=1, grid=GRID))
    inner = AsymRnR(config())
    with pytest.raises(ValueError, match="only one accelerator may drop tokens"):
        denoise(compose(inner, AsymRnR(config(q=((0.0, 0.3),)))).start(num_steps=1), 1)


def test_attention_before_the_first_step_is_refused() -> None:
    with pytest.raises(ValueError, match="`begin_step` has not been called"):
        AsymRnR().start(num_steps=1).attention(*qkv(), FakeSite(block=0, num_blocks=1, grid=GRID))


def test_settings_are_frozen_and_steps_are_checked() -> None:
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        AsymRnR().tempo = 2  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="`num_steps`"):
        AsymRnR().start(num_steps=0)


def test_a_compiled_model_gives_the_same_and_is_not_compiled_for_each_step() -> None:
    session, plain = (AsymRnR(config(window=2)).start(num_steps=4) for _ in "ab")
    counter = CompileCounter()
    site = FakeSite(block=0, num_blocks=1, grid=GRID)

    def block(attention: Any, x: Tensor) -> Tensor:
        out: Tensor = attention(x + 1, x.cos(), x.sin(), site) * 2
        return out

    compiled = torch.compile(lambda x: block(session.attention, x), backend=counter)
    for step in steps(4):
        for each in (session, plain):
            each.begin_step(step)
        x = qkv(step.index)[0]
        torch.testing.assert_close(compiled(x), block(plain.attention, x))
    assert counter.frame_count == 2  # one graph before attention and one after it


def test_resampling_takes_the_value_at_the_middle_of_a_window() -> None:
    rows = ((0.0, 0.1, 0.2, 0.3, 0.4),)
    whole = table(blocks=1, num_steps=10, window=2, q=rows, kv=None)
    assert whole.resampled(10, 2) == whole
    assert whole.resampled(5, 1).q == rows
    assert whole.resampled(10, 5).q == ((0.1, 0.3),)
    assert whole.resampled(3, 1).q == ((0.0, 0.2, 0.4),)
    assert len((whole.resampled(50, 5).q or ((),))[0]) == 10
    assert whole.resampled(20, 2).resampled(10, 2) == whole


def test_a_table_goes_through_json_and_says_what_is_wrong() -> None:
    assert SimilarityTable.from_json(table().to_json()) == table()
    with pytest.raises(ValueError, match="make 2"):
        table(q=((0.1,), (0.2,)))
    with pytest.raises(ValueError, match="outside"):
        table(q=((0.1, 2.0), (0.2, 0.1)))
    with pytest.raises(ValueError, match="at least one"):
        table(q=None, kv=None)
