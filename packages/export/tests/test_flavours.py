"""The same module in every flavour and precision; and what no graph may hold."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
import torch.nn.functional as F
from fastvid_export import (
    OPSETS,
    AxisRange,
    EngineError,
    Exportable,
    ExportError,
    Flavour,
    InputSpec,
    OnnxEngine,
    ParityError,
    ReferenceEngine,
    export_onnx,
    runtime,
    translation,
    verify,
)
from fastvid_export.graph_rules import check_graph
from fastvid_export.rewriting import spread_masks
from fastvid_export.translation import translate
from onnx.reference.ops import op_attention
from onnxscript import ir
from torch import Tensor, nn

from .fakes import draw_normal, exportable_of

AXES = {"b": AxisRange(minimum=1, example=2, maximum=4), "t": AxisRange(minimum=1, example=6, maximum=16)}


class MaskedAttention(nn.Module):
    """Two blocks of attention with one mask, of one row for all queries; norms in float32, the rest in 16 bits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.project = nn.Linear(8, 8)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        seen = (mask | ~mask.any(1, keepdim=True))[:, None, None]
        for _ in range(2):
            q, k = (F.rms_norm(self.project(x + shift), (8,)).unflatten(-1, (2, 4)).transpose(1, 2) for shift in (0, 1))
            x = x + F.scaled_dot_product_attention(q, k, q * 2, attn_mask=seen).transpose(1, 2).flatten(2)
            x = F.layer_norm(x.float(), (8,)).to(x.dtype)
        return x


def masked_attention(dtype: torch.dtype) -> Exportable:
    def draw_mask(shape: object, generator: torch.Generator) -> Tensor:
        return torch.rand(*shape, generator=generator) < 0.5  # type: ignore[misc]

    return Exportable(
        name="attention",
        module=MaskedAttention().to(dtype).eval(),
        inputs={
            "x": InputSpec(shape=("b", "t", 8), draw=draw_normal, dtype=dtype),
            "mask": InputSpec(shape=("b", "t"), draw=draw_mask, dtype=torch.bool),
        },
        outputs=("y",),
        axes=AXES,
    )


@pytest.mark.parametrize(
    ("flavour", "dtype"),
    [
        ("portable", torch.float16),
        pytest.param("portable", torch.bfloat16, marks=pytest.mark.slow),
        ("fused", torch.float32),
        ("fused", torch.float16),
        ("fused", torch.bfloat16),
    ],
)
def test_every_flavour_in_every_precision(tmp_path: Path, flavour: Flavour, dtype: torch.dtype) -> None:
    exportable, path = masked_attention(dtype), tmp_path / "graph.onnx"
    report = export_onnx(exportable, path, flavour=flavour)
    assert report.passed
    assert report.tolerance == {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 2e-2}[dtype]
    model = onnx.load(path)
    assert next(entry.version for entry in model.opset_import if not entry.domain) == OPSETS[flavour]
    types = {value.type.tensor_type.elem_type for value in (model.graph.input[0], model.graph.output[0])}
    assert types == {{"float32": 1, "float16": 10, "bfloat16": 16}[str(dtype).removeprefix("torch.")]}
    operators = [node.op_type for node in model.graph.node]
    fused = {"Attention", "RMSNormalization"}
    assert fused <= set(operators) if flavour == "fused" else not fused & set(operators)
    if flavour == "fused":
        assert operators.count("Expand") == 1  # of the mask, for both blocks
    if dtype == torch.bfloat16:
        with pytest.raises(EngineError):  # why bfloat16 is compared by onnx's evaluator
            OnnxEngine(path)(exportable.draw_inputs(exportable.example_sizes))


def test_mutant_that_leaves_the_mask_as_it_is_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translation, "spread_masks", lambda model: 0)
    with pytest.raises(ParityError, match="inconsistent q_sequence_length"):
        export_onnx(masked_attention(torch.float32), tmp_path / "graph.onnx", flavour="fused")


def test_masks_are_spread_once() -> None:
    model = translate(masked_attention(torch.float32), opset=23).model
    assert spread_masks(model) == 0


@pytest.mark.parametrize("protected", [True, False])
def test_small_numbers_that_guard_a_division_stay_in_16_bits(
    protected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the mutant: not protected, they are optimised away, as 0 within 1e-8."""
    plain = exportable_of(lambda x: x.relu() / (x.relu().sum(dim=-1, keepdim=True) + 1e-15))
    dtype = torch.bfloat16
    inputs = {"x": InputSpec(shape=("b", "t", 4), draw=draw_normal, dtype=dtype)}
    exportable = replace(plain, module=plain.module.to(dtype), inputs=inputs)
    if protected:
        assert export_onnx(exportable, tmp_path / "graph.onnx").passed
        return
    monkeypatch.setattr(translation, "protect_near_identities", lambda model: 0)
    with pytest.raises(ParityError, match=r"invalid value|not finite"):
        export_onnx(exportable, tmp_path / "graph.onnx")


@pytest.mark.parametrize("changed", [True, False])
def test_group_norms_sum_in_float32(changed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the mutant: sums of a few thousand numbers in bfloat16."""
    plain = exportable_of(lambda x: F.group_norm((x + 3).unsqueeze(1).repeat(1, 4, 1, 250), 2))
    dtype = torch.bfloat16
    inputs = {"x": InputSpec(shape=("b", "t", 4), draw=draw_normal, dtype=dtype)}
    exportable = replace(plain, module=plain.module.to(dtype), inputs=inputs)
    if changed:
        assert export_onnx(exportable, tmp_path / "graph.onnx", cases=[exportable.example_sizes]).passed
        return
    monkeypatch.setattr(translation, "norms_in_float32", lambda model: 0)
    with pytest.raises(ParityError, match=r"differs from eager|not finite"):
        export_onnx(exportable, tmp_path / "graph.onnx", cases=[exportable.example_sizes])


@pytest.mark.parametrize("changed", [True, False])
def test_attention_sums_in_float32(changed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the mutant: onnx's own, over 1,200 tokens in bfloat16."""

    def attend(x: Tensor) -> Tensor:
        tokens = x.repeat(1, 200, 1).unsqueeze(1)
        return F.scaled_dot_product_attention(tokens, tokens, tokens)[:, 0, :1]

    plain, dtype = exportable_of(attend), torch.bfloat16
    inputs = {"x": InputSpec(shape=("b", "t", 4), draw=draw_normal, dtype=dtype)}
    exportable = replace(plain, module=plain.module.to(dtype), inputs=inputs)
    path, cases = tmp_path / "graph.onnx", [exportable.example_sizes]
    if changed:
        assert export_onnx(exportable, path, flavour="fused", cases=cases).passed
        return
    monkeypatch.setattr(runtime, "_attention_in_float32", lambda: op_attention.Attention)
    with pytest.raises(ParityError, match="differs from eager"):
        export_onnx(exportable, path, flavour="fused", cases=cases)


def test_both_engines_give_the_same(tmp_path: Path) -> None:
    exportable, path = masked_attention(torch.float32), tmp_path / "graph.onnx"
    export_onnx(exportable, path)
    report = verify(exportable, ReferenceEngine(path))
    assert report.passed
    assert ReferenceEngine(path).inputs == OnnxEngine(path).inputs == ("x", "mask")
    assert ReferenceEngine(path).outputs == OnnxEngine(path).outputs == ("y",)


def test_the_reference_refuses_with_the_file_and_the_reason(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(EngineError, match=r"onnx cannot load broken\.onnx"):
        ReferenceEngine(tmp_path / "broken.onnx")
    export_onnx(exportable_of(torch.sin), tmp_path / "good.onnx")
    with pytest.raises(EngineError, match="onnx's reference"):
        ReferenceEngine(tmp_path / "good.onnx")({})


def test_an_engine_that_answers_in_another_type_is_refused() -> None:
    exportable = masked_attention(torch.bfloat16)
    with torch.no_grad():
        report = verify(exportable, lambda inputs: (exportable.module(**inputs).float(),))
        assert verify(exportable, lambda inputs: (exportable.module(**inputs),)).passed
    assert not report.passed
    assert report.cases[0].problem == "shape (2, 6, 8) torch.float32, eager has (2, 6, 8) torch.bfloat16"


def top_k(x: Tensor) -> Tensor:
    return x.topk(2, dim=-1).values


def gather_over_channels(x: Tensor) -> Tensor:
    return x.gather(1, (x[..., :1] > 0).long().expand_as(x))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (top_k, "holds TopK, which engine builders refuse; it comes from matching or sorting"),
        (gather_over_channels, "holds GatherElements, .* comes from an index that is repeated"),
        (lambda x: x[x > 0], "NonZero|data-dependent|cannot trace"),
    ],
)
def test_operators_that_builders_refuse(tmp_path: Path, function: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export_onnx(exportable_of(function), tmp_path / "graph.onnx")
    assert list(tmp_path.iterdir()) == []


def tiny_graph(
    *nodes: ir.Node, dtype: ir.DataType = ir.DataType.FLOAT, sizes: tuple[str | int, ...] = ("b", "t", 4)
) -> ir.Model:
    """x -> y of `exportable_of`, with operators that nothing uses."""
    x, y = (ir.Value(name=name, shape=ir.Shape(sizes), type=ir.TensorType(dtype)) for name in ("x", "y"))
    out = ir.Node("", "Identity", [x], outputs=[y])
    return ir.Model(ir.Graph([x], [y], nodes=[*nodes, out], opset_imports={"": 20}), ir_version=10)


def test_the_rules_one_by_one() -> None:
    exportable = exportable_of(torch.sin)
    check_graph(exportable, tiny_graph())
    half, full = (ir.Value(type=ir.TensorType(kind)) for kind in (ir.DataType.BFLOAT16, ir.DataType.FLOAT))
    check_graph(exportable, tiny_graph(ir.node("ConvTranspose", [full, full])))
    with pytest.raises(ExportError, match="a transposed convolution in bfloat16"):
        check_graph(exportable, tiny_graph(ir.node("ConvTranspose", [half, half])))
    check_graph(exportable, tiny_graph(ir.node("GatherElements", [full, full])))
    repeated = ir.node("Expand", [full, full])
    with pytest.raises(ExportError, match="an index that is repeated for every channel"):
        check_graph(exportable, tiny_graph(repeated, ir.node("GatherElements", [full, repeated.outputs[0]])))
    with pytest.raises(
        ExportError, match=r"takes `x` as FLOAT \['b', 4, 4\]; asked for was torch.float32 \['b', 't', 4\]"
    ):
        check_graph(exportable, tiny_graph(sizes=("b", 4, 4)))
    with pytest.raises(ExportError, match="takes `x` as FLOAT16"):
        check_graph(exportable, tiny_graph(dtype=ir.DataType.FLOAT16))
