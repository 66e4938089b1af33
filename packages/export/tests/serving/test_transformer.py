"""A transformer by engines: what goes in and out, which engine runs, and what no engine takes."""

import logging
from typing import Any

import pytest
import torch
from fastvid_export import AxisRange, EngineError, EngineTransformer, matching_exportable, transformer_exportable
from torch import Tensor

from .served import Dropping, Kept, Transformer, loaded

GRID = (2, 3, 2)
N = 12


def inputs(frames: int = 2, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    axes = [torch.arange(size).float() for size in (frames, 3, 2)]
    return {
        "latents": draw(2, 4, frames, 3, 2),
        "timestep": torch.tensor([400.0, 400.0]),
        "text": draw(2, 5, 6),
        "condition": draw(2, 5, frames, 3, 2),
        "positions": torch.stack(torch.meshgrid(*axes, indexing="ij")),
    }


def selected() -> dict[int, Kept]:
    """Block 1 drops queries, keys and values; block 2 keys and values alone."""
    generator = torch.Generator().manual_seed(1)

    def some(count: int) -> Tensor:
        return torch.rand(2, 2, N, generator=generator).argsort(-1)[..., :count].int()

    restore = torch.randint(0, 7, (2, 2, N), generator=generator).int()
    return {1: Kept(keep_q=some(7), restore=restore, keep_kv=some(9)), 2: Kept(keep_kv=some(10))}


def served(eager: Transformer, *, text_mask: bool = False, **given: Any) -> EngineTransformer:
    blocks: dict[str, Any] = {"text_mask": text_mask, "q_blocks": (0, 1), "kv_blocks": (1, 2)}
    return EngineTransformer(
        eager,
        loaded(transformer_exportable(eager, text_mask=text_mask)),
        reduced=loaded(transformer_exportable(eager, **blocks)),
        matching=loaded(matching_exportable(eager, **blocks)),
        **given,
    )


def eagerly(eager: Transformer, call: dict[str, Any]) -> Tensor:
    with torch.no_grad():
        return eager(**call)


@pytest.fixture
def eager() -> Transformer:
    return Transformer()


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_the_same_as_eager_and_without_it(eager: Transformer, frames: int) -> None:
    call = inputs(frames)
    call["positions"] = call["positions"] * torch.tensor([1.5, 1.0, 1.0]).view(3, 1, 1, 1)  # as merged frames have
    expected = eagerly(eager, call)
    eager.eager_calls = 0
    torch.testing.assert_close(served(eager)(**call), expected)
    assert eager.eager_calls == 0


def test_without_positions_tokens_lie_on_the_integer_grid(eager: Transformer) -> None:
    call = inputs()
    expected = served(eager)(**call)
    del call["positions"]
    assert torch.equal(served(eager)(**call), expected)


def test_a_mask_of_the_words_is_made_where_the_engine_wants_one(eager: Transformer) -> None:
    call = inputs()
    torch.testing.assert_close(served(eager, text_mask=True)(**call), eagerly(eager, call))
    call["text_mask"] = torch.tensor([[True] * 5, [True, True, False, False, False]])
    torch.testing.assert_close(served(eager, text_mask=True)(**call), eagerly(eager, call))
    with pytest.raises(EngineError, match=r"unknown: \['text_mask'\]"):
        served(eager)(**call)


def test_a_mask_to_be_added_is_no_mask_of_what_counts(eager: Transformer) -> None:
    with pytest.raises(EngineError, match=r"`text_mask` is torch.float32, the engine takes torch.bool"):
        served(eager, text_mask=True)(**inputs(), text_mask=torch.zeros(2, 5))


def few(eager: Transformer, most: int, **blocks: Any) -> EngineTransformer:
    """Engines that take so many videos at once."""
    b = AxisRange(minimum=1, example=1, maximum=most)
    return EngineTransformer(
        eager,
        loaded(transformer_exportable(eager, text_mask=True), b=b),
        reduced=loaded(transformer_exportable(eager, text_mask=True, **blocks), b=b),
        matching=loaded(matching_exportable(eager, text_mask=True, **blocks), b=b),
    )


def of_batch(call: dict[str, Tensor], batch: int) -> dict[str, Tensor]:
    """The same with another number of videos, all different."""
    generator = torch.Generator().manual_seed(batch)
    drawn = {
        name: torch.randn(batch, *call[name].shape[1:], generator=generator)
        for name in ("latents", "text", "condition")
    }
    times = torch.arange(batch) * 100.0
    return {**drawn, "timestep": times, "positions": call["positions"], "text_mask": drawn["text"][..., 0] > -1}


@pytest.mark.parametrize(("batch", "most"), [(2, 1), (3, 2), (5, 2), (2, 2)])
def test_a_batch_that_no_profile_holds_runs_in_parts(eager: Transformer, batch: int, most: int) -> None:
    call = of_batch(inputs(), batch)
    blocks: dict[str, Any] = {"q_blocks": (0, 1), "kv_blocks": (1, 2)}
    engines = few(eager, most, **blocks)
    torch.testing.assert_close(engines(**call), eagerly(eager, call))
    generator = torch.Generator().manual_seed(2)
    keep = torch.rand(batch, 2, N, generator=generator).argsort(-1).int()
    restore = torch.randint(0, 7, (batch, 2, N), generator=generator).int()
    dropping = Dropping({1: Kept(keep_q=keep[..., :7], restore=restore, keep_kv=keep[..., 3:])})
    expected = eagerly(eager, call | {"attention": dropping})
    eager.eager_calls = 0
    engines(**call, attention=dropping)
    assert dropping.asked == [((batch, 2, N, 4), 3, GRID)]  # an accelerator decides for all of them together
    assert {tensor.shape[0] for pair in dropping.matched.values() for tensor in pair if tensor is not None} == {batch}
    torch.testing.assert_close(engines(**call, attention=dropping), expected)
    assert eager.eager_calls == 0


def test_parts_do_not_help_where_another_axis_is_outside(eager: Transformer) -> None:
    b, t = AxisRange(minimum=2, example=2, maximum=2), AxisRange(minimum=1, example=2, maximum=2)
    engine = EngineTransformer(eager, loaded(transformer_exportable(eager, text_mask=True), b=b, t=t))
    with pytest.raises(EngineError, match=r"b = 4 \(2 to 2\), t = 3 \(1 to 2\)"):
        engine(**of_batch(inputs(3), 4))
    with pytest.raises(EngineError, match=r"b = 3 \(2 to 2\) of"):  # parts of 2 and 1
        engine(**of_batch(inputs(2), 3))


def test_types_are_those_of_the_engine_and_of_the_latents(eager: Transformer) -> None:
    call = inputs()
    half = {name: tensor.half() if name != "positions" else tensor for name, tensor in call.items()}
    out = served(eager)(**half)
    assert out.dtype == torch.float16
    torch.testing.assert_close(out.float(), eagerly(eager, call), atol=0.02, rtol=0.02)


def test_tokens_are_dropped_after_a_step_that_ran_whole(eager: Transformer) -> None:
    call, dropping = inputs(), Dropping(selected())
    engines = served(eager)
    whole = eagerly(eager, call)
    dropped = eagerly(eager, call | {"attention": dropping})
    assert not torch.allclose(whole, dropped)
    eager.eager_calls = 0
    torch.testing.assert_close(engines(**call, attention=dropping), whole)
    assert [block for block, (q, v) in dropping.matched.items() if q is not None] == [0, 1]
    assert [block for block, (q, v) in dropping.matched.items() if v is not None] == [1, 2]
    torch.testing.assert_close(engines(**call, attention=dropping), dropped)
    assert dropping.asked == [((2, 2, N, 4), 3, GRID)] * 2
    assert eager.eager_calls == 0


def test_what_is_matched_by_is_what_attention_sees(eager: Transformer) -> None:
    call, dropping, seen = inputs(), Dropping(selected()), {}

    def watching(q: Tensor, k: Tensor, v: Tensor, site: Any) -> Tensor:
        seen[site.block] = q, v
        return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    eagerly(eager, call | {"attention": watching})
    served(eager)(**call, attention=dropping)
    for block, (q, v) in dropping.matched.items():
        if q is not None:
            torch.testing.assert_close(q, seen[block][0])
        if v is not None:
            torch.testing.assert_close(v, seen[block][1])


def test_where_nothing_is_dropped_the_dense_engine_runs(eager: Transformer) -> None:
    call, dropping = inputs(), Dropping({})
    dropping.matched[0] = (None, None)
    torch.testing.assert_close(served(eager)(**call, attention=dropping), eagerly(eager, call))


def test_tables_of_each_block_where_positions_differ(eager: Transformer) -> None:
    call = inputs()
    tabled = EngineTransformer(eager, loaded(transformer_exportable(eager, text_mask=False, block_tables=True)))
    torch.testing.assert_close(tabled(**call), eagerly(eager, call))
    of_blocks = call | {"positions": call["positions"].expand(3, -1, -1, -1, -1)}
    with pytest.raises(EngineError, match="`positions` differ from block to block; this engine has one rotary table"):
        served(eager)(**of_blocks)


def plain(q: Tensor, k: Tensor, v: Tensor, site: Any) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        (plain, "`attention` is replaced by <function plain .*>, which cannot say before the call"),
        (Dropping({0: selected()[2]}, matched={0: (None, None)}), r"it takes no \['keep_kv_0'\]"),
    ],
    ids=["unknown", "another block"],
)
def test_attention_that_no_engine_has_is_refused(eager: Transformer, attention: Any, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        served(eager)(**inputs(), attention=attention)


def test_dropped_tokens_need_an_engine_of_fewer(eager: Transformer) -> None:
    dense = loaded(transformer_exportable(eager, text_mask=False))
    with pytest.raises(EngineError, match="no engine of fewer tokens was given"):
        EngineTransformer(eager, dense)(**inputs(), attention=Dropping({}))
    with pytest.raises(ValueError, match="`reduced` and `matching` go together"):
        EngineTransformer(eager, dense, reduced=dense)


def test_sizes_outside_every_profile_are_refused_or_run_eagerly(
    eager: Transformer, caplog: pytest.LogCaptureFixture
) -> None:
    engine = loaded(transformer_exportable(eager, text_mask=False), t=AxisRange(minimum=1, example=2, maximum=2))
    with pytest.raises(EngineError, match=r"not built for t = 3 \(1 to 2\)"):
        EngineTransformer(eager, engine)(**inputs(3))
    lenient = EngineTransformer(eager, engine, fallback="eager")
    expected = eagerly(eager, inputs(3))
    eager.eager_calls = 0
    with caplog.at_level(logging.WARNING), torch.no_grad():
        assert torch.equal(lenient(**inputs(3)), expected)
        lenient(**inputs(3))
        lenient(**inputs(2))
    assert eager.eager_calls == 2
    assert [record.message for record in caplog.records] == [
        "the transformer runs eagerly, without its engine: the transformer engine was not built for t = 3 (1 to 2) of"
        " its profile 'dense'"
    ]


def test_an_accelerator_that_cannot_be_told_to_an_engine_says_why(eager: Transformer) -> None:
    class Refusing(Dropping):
        def selections(self, *shape: Any) -> Any:
            raise ValueError("`dense_matching` is False")

    with pytest.raises(EngineError, match="`dense_matching` is False"):
        served(eager)(**inputs(), attention=Refusing({}))


def test_the_rest_is_the_models_own(eager: Transformer) -> None:
    engines = served(eager)
    assert engines.config is eager.config
    assert set(engines.records) == {"dense", "reduced", "matching"}
    latents = torch.ones(1, 4, 1, 3, 2)
    assert engines.first_frame_condition(latents, 4).shape[2] == 4
    assert engines.refiner_condition(latents, latents, latents) is latents
    with pytest.raises(ValueError, match="an engine cannot be saved as a checkpoint"):
        engines.save_pretrained("anywhere")
    with pytest.raises(ValueError, match="`fallback` is 'maybe'; expected one of error, eager"):
        served(eager, fallback="maybe")
