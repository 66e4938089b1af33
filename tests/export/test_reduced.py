"""The transformer of fewer tokens: what AsymRnR computes in eager attention, the graph computes from its indices."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fastvid_accel.asymrnr.matching import match
from fastvid_accel.asymrnr.partition import drawing, partition
from fastvid_accel.asymrnr.reduction import Kept, reduce_tokens, restore_tokens, select
from fastvid_dit import AttentionOp, AttentionSite, FSVideoDiT, sdpa
from fastvid_dit.rope import rotary_tables
from fastvid_export import Exportable, OnnxEngine, export_onnx, matching_exportable, transformer_exportable
from torch import Tensor

from ..tiny_models import TRANSFORMER, randomised

GRID = (3, 4, 6)
TOKENS = 72
SIZES = {"b": 2, "t": 3, "h": 4, "w": 6, "l": 5}
CONFIG = replace(TRANSFORMER, num_blocks=2)


@pytest.fixture(scope="module")
def model() -> FSVideoDiT:
    return randomised(FSVideoDiT(CONFIG))


@pytest.fixture(scope="module")
def reduced(model: FSVideoDiT) -> Exportable:
    return transformer_exportable(model, text_mask=False, block_tables=True, q_blocks=(1,), kv_blocks=(0, 1))


@pytest.fixture(scope="module")
def engine(reduced: Exportable, tmp_path_factory: pytest.TempPathFactory) -> OnnxEngine:
    path = tmp_path_factory.mktemp("reduced") / "graph.onnx"
    assert export_onnx(reduced, path).passed
    return OnnxEngine(path)


def tables(positions: Tensor) -> dict[str, Tensor]:
    """Of the positions of each block."""
    made = [rotary_tables(block, CONFIG.width // CONFIG.num_heads, CONFIG.rope_theta) for block in positions]
    return {name: torch.stack([getattr(pair, name).view(*GRID, -1) for pair in made]) for name in ("cos", "sin")}


def drawn(exportable: Exportable, **kept: int) -> tuple[dict[str, Tensor], Tensor]:
    """Inputs with tables of positions that differ from block to block, and these positions."""
    positions = torch.rand(2, 3, *GRID, generator=torch.Generator().manual_seed(1)) * 9
    return exportable.draw_inputs(SIZES | kept, seed=3) | tables(positions), positions


def eager(model: FSVideoDiT, inputs: dict[str, Tensor], positions: Tensor, attention: AttentionOp) -> Tensor:
    """The model's own way, turn included."""
    arguments = {name: inputs[name] for name in ("latents", "timestep", "text", "condition")}
    velocity: Tensor = model(**arguments, positions=positions, attention=attention)
    return velocity


def indices(name: str, kept: Kept) -> dict[str, Tensor]:
    """One matching as the graph takes it."""
    feature, block = name.split("_")
    if feature == "value":
        return {f"keep_kv_{block}": kept.positions}
    return {f"keep_q_{block}": kept.positions, f"restore_{block}": kept.rows.unflatten(-1, GRID)}


def test_all_tokens_are_the_dense_model(model: FSVideoDiT, reduced: Exportable, engine: OnnxEngine) -> None:
    inputs, positions = drawn(reduced, q1=TOKENS, k0=TOKENS, k1=TOKENS)
    every = torch.arange(TOKENS, dtype=torch.int32).expand(2, CONFIG.num_heads, TOKENS)
    inputs |= dict.fromkeys(("keep_q_1", "keep_kv_0", "keep_kv_1"), every)
    inputs["restore_1"] = every.unflatten(-1, GRID)
    torch.testing.assert_close(engine(inputs)[0], eager(model, inputs, positions, sdpa), rtol=1e-4, atol=1e-5)


def test_matched_outside_it_is_eager_attention_with_the_same_tokens(
    model: FSVideoDiT, reduced: Exportable, engine: OnnxEngine
) -> None:
    """The matching graph gives the features, AsymRnR the indices, the graph of fewer tokens the velocity."""
    matching = matching_exportable(model, text_mask=False, block_tables=True, q_blocks=(1,), kv_blocks=(0, 1))
    inputs, positions = drawn(matching)
    velocity, *features = matching.module(**inputs)
    torch.testing.assert_close(velocity, eager(model, inputs, positions, sdpa), rtol=1e-4, atol=1e-5)

    matchings: dict[str, Kept] = {}
    for name, tokens in zip(matching.outputs[1:], features, strict=True):
        generator = drawing(0, name)
        parts = partition(GRID, (1, 2, 2), "random", generator=generator, device=tokens.device)
        nearest = match(tokens, parts, "cosine", generator=generator)
        matchings[name] = select(nearest, parts, 40 if name == "query_1" else 31)
    inputs |= {key: index for name, kept in matchings.items() for key, index in indices(name, kept).items()}
    assert inputs["keep_q_1"].shape[-1] == 40

    def attention(q: Tensor, k: Tensor, v: Tensor, site: AttentionSite, /) -> Tensor:
        kv, of_q = matchings[f"value_{site.block}"], matchings.get(f"query_{site.block}")
        k, v = (reduce_tokens(x, kv, "discard") for x in (k, v))
        if of_q is None:
            return sdpa(q, k, v, site)
        return restore_tokens(sdpa(reduce_tokens(q, of_q, "discard"), k, v, site), of_q)

    got = engine({name: inputs[name] for name in reduced.inputs})[0]
    torch.testing.assert_close(got, eager(model, inputs, positions, attention), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(got, velocity, rtol=1e-2, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bits(dtype: torch.dtype, tmp_path: Path) -> None:
    model = randomised(FSVideoDiT(CONFIG))
    model.lower_precision(dtype)
    exportable = transformer_exportable(model, text_mask=True, q_blocks=(1,), kv_blocks=(1,))
    assert export_onnx(exportable, tmp_path / "graph.onnx", flavour="fused").passed


@pytest.mark.slow
def test_the_matching_graph(model: FSVideoDiT, tmp_path: Path) -> None:
    exportable = matching_exportable(model, text_mask=True, q_blocks=(0, 1), kv_blocks=(1,))
    assert export_onnx(exportable, tmp_path / "graph.onnx", flavour="fused").passed
