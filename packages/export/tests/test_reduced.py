"""The transformer of fewer tokens, and the one that says what tokens are matched by."""

import copy

import pytest
import torch
from fastvid_export import Exportable, OnnxEngine, export_onnx, matching_exportable, transformer_exportable
from fastvid_export.graphs.attention import take
from torch import Tensor

from .fakes import FakeTransformer, fake_tables
from .test_graphs import shapes

SIZES = {"b": 2, "t": 2, "h": 3, "w": 4, "l": 5}
TOKENS = 24


def model() -> FakeTransformer:
    return FakeTransformer(image=False, num_blocks=2).eval()


@pytest.fixture(scope="module")
def reduced() -> Exportable:
    """Its second block alone, with tables for each."""
    return transformer_exportable(model(), text_mask=False, q_blocks=(1,), kv_blocks=(1,), block_tables=True)


@pytest.fixture(scope="module")
def engine(reduced: Exportable, tmp_path_factory: pytest.TempPathFactory) -> OnnxEngine:
    path = tmp_path_factory.mktemp("reduced") / "graph.onnx"
    assert export_onnx(reduced, path).passed
    found = shapes(path)
    expected = {
        "cos": [2, "t", "h", "w", 2],
        "keep_kv_1": ["b", 2, "k1"],
        "keep_q_1": ["b", 2, "q1"],
        "restore_1": ["b", 2, "t", "h", "w"],
    }
    assert {name: found[name] for name in expected} == expected
    return OnnxEngine(path)


def tables(positions: Tensor) -> dict[str, Tensor]:
    """Of both blocks, at these positions."""
    pair = zip(("cos", "sin"), fake_tables(positions), strict=True)
    return {name: table.view(2, 3, 4, 2).repeat(2, 1, 1, 1, 1) for name, table in pair}


def test_all_tokens_in_any_order_are_the_dense_graph(reduced: Exportable, engine: OnnxEngine) -> None:
    inputs = reduced.draw_inputs({**SIZES, "q1": TOKENS, "k1": TOKENS})
    order = torch.stack([torch.randperm(TOKENS) for _ in range(4)]).view(2, 2, TOKENS)
    inputs |= {name: order.int() for name in ("keep_kv_1", "keep_q_1")}
    inputs["restore_1"] = order.argsort(-1).int().view(2, 2, 2, 3, 4)
    dense = transformer_exportable(model(), text_mask=False, block_tables=True)
    with torch.no_grad():
        expected = dense.module(**{name: inputs[name] for name in dense.inputs})
    torch.testing.assert_close(engine(inputs)[0], expected)


def test_fewer_tokens_are_what_attention_over_them_gives(reduced: Exportable, engine: OnnxEngine) -> None:
    positions = torch.rand(3, 2, 3, 4)
    inputs = reduced.draw_inputs({**SIZES, "q1": 5, "k1": 9}, seed=3) | tables(positions)

    def gather(tokens: Tensor, places: Tensor) -> Tensor:
        return tokens.gather(2, places.long().unsqueeze(-1).expand(*places.shape, 4))

    def attend(q: Tensor, k: Tensor, v: Tensor, site: object) -> Tensor:
        if site.block == 0:  # type: ignore[attr-defined]
            return (q @ k.mT / 2).softmax(-1) @ v
        k, v = (gather(x, inputs["keep_kv_1"]) for x in (k, v))
        out = (gather(q, inputs["keep_q_1"]) @ k.mT / 2).softmax(-1) @ v
        return gather(out, inputs["restore_1"].flatten(2))

    with torch.no_grad():
        names = ("latents", "timestep", "text")
        expected = model()(
            *(inputs[name] for name in names), condition=inputs["condition"], positions=positions, attention=attend
        )
    torch.testing.assert_close(engine(inputs)[0], expected)
    for name in ("keep_kv_1", "keep_q_1", "restore_1"):
        other = inputs | {name: inputs[name].flip(-1)}
        # another order of keys is nothing; other queries and other rows are something else
        assert torch.allclose(engine(other)[0], expected, atol=1e-5) == name.startswith("keep_kv"), name


def test_rows_are_of_their_own_head_and_video() -> None:
    tokens = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5)
    places = torch.randint(4, (2, 3, 6), dtype=torch.int32)
    assert torch.equal(take(tokens, places), torch.take_along_dim(tokens, places.long().unsqueeze(-1), dim=2))


def test_a_copy_of_the_module_computes_with_weights_of_its_own(reduced: Exportable) -> None:
    inputs = reduced.draw_inputs(reduced.example_sizes)
    with torch.no_grad():
        before = reduced.module(**inputs)
        twin = copy.deepcopy(reduced.module)
        for parameter in twin.parameters():
            parameter.zero_()
        assert not twin(**inputs).any()
        assert torch.equal(reduced.module(**inputs), before)


def test_the_matching_graph_gives_queries_and_values_of_its_blocks() -> None:
    exportable = matching_exportable(model(), text_mask=False, q_blocks=(1,), kv_blocks=(0, 1), block_tables=True)
    assert exportable.outputs == ("velocity", "query_1", "value_0", "value_1")
    positions = torch.rand(3, 2, 3, 4)
    inputs = exportable.draw_inputs(SIZES) | tables(positions)
    seen: dict[str, Tensor] = {}

    def watch(q: Tensor, k: Tensor, v: Tensor, site: object) -> Tensor:
        block = site.block  # type: ignore[attr-defined]
        seen[f"query_{block}"], seen[f"value_{block}"] = q, v
        return (q @ k.mT / 2).softmax(-1) @ v

    with torch.no_grad():
        arguments = (inputs[name] for name in ("latents", "timestep", "text"))
        seen["velocity"] = model()(*arguments, condition=inputs["condition"], positions=positions, attention=watch)
        got = dict(zip(exportable.outputs, exportable.module(**inputs), strict=True))
    for name, tensor in got.items():
        torch.testing.assert_close(tensor, seen[name], msg=name)


def test_each_block_has_tables_of_its_own(reduced: Exportable, engine: OnnxEngine) -> None:
    inputs = reduced.draw_inputs(reduced.example_sizes)
    got = engine(inputs)[0]
    for block in range(2):
        other = inputs["cos"].clone()
        other[block] = inputs["sin"][block]
        assert not torch.allclose(engine(inputs | {"cos": other})[0], got, atol=1e-4), block


@pytest.mark.parametrize(
    ("q_blocks", "kv_blocks", "message"),
    [
        ((2,), (), r"`q_blocks` names block 2; the model has 0 to 1; the nearest legal value is 1"),
        ((), (-1,), r"`kv_blocks` names block -1; .* nearest legal value is 0"),
        ((1, 1), (), r"`q_blocks` names a block twice: \[1, 1\]"),
    ],
)
def test_blocks_that_are_refused(q_blocks: tuple[int, ...], kv_blocks: tuple[int, ...], message: str) -> None:
    for make in (transformer_exportable, matching_exportable):
        with pytest.raises(ValueError, match=message):
            make(model(), text_mask=False, q_blocks=q_blocks, kv_blocks=kv_blocks)


def test_matching_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="`q_blocks` and `kv_blocks` are empty"):
        matching_exportable(model(), text_mask=False, q_blocks=(), kv_blocks=())
