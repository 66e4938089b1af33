from contextlib import nullcontext
from pathlib import Path

import onnx
import pytest
import torch
from fastvid_export import (
    DECODER_AXES,
    TRANSFORMER_AXES,
    AxisRange,
    Exportable,
    ExportError,
    OnnxEngine,
    ParityError,
    content_transformer_exportable,
    decoder_exportable,
    export_onnx,
    transformer_exportable,
)

from .fakes import FakeContentTransformer, FakeDecoder, FakeTransformer, fake_tables


def shapes(path: Path) -> dict[str, list[str | int]]:
    graph = onnx.load(path).graph
    return {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }


@pytest.mark.parametrize("reference", [False, True])
def test_decoder(tmp_path: Path, reference: bool) -> None:
    exportable = decoder_exportable(FakeDecoder().eval(), reference=reference)
    report = export_onnx(exportable, tmp_path / "decoder.onnx")
    assert report.passed
    expected: dict[str, list[str | int]] = {"latents": ["b", 4, "t", "h", "w"]}
    if reference:
        expected["reference"] = ["b", 3, "4*h", "4*w"]
    assert shapes(tmp_path / "decoder.onnx") == expected | {"frames": ["b", 3, "2*t - 1", "4*h", "4*w"]}


@pytest.mark.parametrize("mask_and_image", [False, True])
def test_transformer(tmp_path: Path, mask_and_image: bool) -> None:
    model = FakeTransformer(image=mask_and_image).eval()
    exportable = transformer_exportable(model, text_mask=mask_and_image)
    assert export_onnx(exportable, tmp_path / "transformer.onnx").passed
    grid = ["t", "h", "w"]
    expected: dict[str, list[str | int]] = {
        "latents": ["b", 4, *grid],
        "timestep": ["b"],
        "text": ["b", "l", 6],
        "condition": ["b", 5, *grid],
        "cos": [*grid, 2],
        "sin": [*grid, 2],
    }
    if mask_and_image:
        expected |= {"text_mask": ["b", "l"], "image_tokens": ["b", "m", 7]}
    assert shapes(tmp_path / "transformer.onnx") == expected | {"velocity": ["b", 4, *grid]}


@pytest.mark.parametrize("frame", [False, True])
def test_transformer_with_content_frame(tmp_path: Path, frame: bool) -> None:
    """Its places, and what it is told of the frame and the size, are inputs that count."""
    model = FakeContentTransformer(frame=frame).eval()
    exportable = content_transformer_exportable(model, text_mask=frame)
    assert export_onnx(exportable, tmp_path / "transformer.onnx").passed
    grid = ["t", "h", "w"]
    expected: dict[str, list[str | int]] = {
        "latents": ["b", 4, *grid],
        "timestep": ["b"],
        "text": ["b", "l", 6],
        "positions": [3, *grid],
    }
    if frame:
        expected |= {
            "text_mask": ["b", "l"],
            "semantic": ["b", 5, 3],
            "content": ["b", 2, "2*y", "2*x"],
            "size": ["b", 2],
        }
    assert shapes(tmp_path / "transformer.onnx") == expected | {"prediction": ["b", 4, *grid]}
    sizes = {"b": 1, "t": 2, "h": 3, "w": 4, "l": 5} | ({"y": 2, "x": 5} if frame else {})
    inputs, engine = exportable.draw_inputs(sizes), OnnxEngine(tmp_path / "transformer.onnx")
    got = engine(inputs)[0]
    for name in inputs.keys() - {"text_mask"}:
        assert not torch.allclose(engine(inputs | {name: inputs[name] * 2})[0], got, rtol=1e-2, atol=1e-3), name


def test_tables_from_uneven_positions_give_what_the_model_gives_at_those_positions(tmp_path: Path) -> None:
    model = FakeTransformer(image=False).eval()
    exportable = transformer_exportable(model, text_mask=False)
    export_onnx(exportable, tmp_path / "transformer.onnx", cases=[exportable.example_sizes])
    positions = torch.rand(3, 2, 3, 4) * 7
    cos, sin = (table.reshape(2, 3, 4, 2) for table in fake_tables(positions))
    inputs = exportable.draw_inputs({"b": 1, "t": 2, "h": 3, "w": 4, "l": 5}) | {"cos": cos, "sin": sin}
    engine = OnnxEngine(tmp_path / "transformer.onnx")
    with torch.no_grad():
        expected = model(
            inputs["latents"], inputs["timestep"], inputs["text"], condition=inputs["condition"], positions=positions
        )
    torch.testing.assert_close(engine(inputs)[0], expected)
    assert not torch.allclose(engine(inputs | {"cos": sin, "sin": cos})[0], expected, atol=1e-3)


def test_mutant_that_cuts_by_its_memory_budget_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeDecoder, "tiled", lambda self, **kwargs: nullcontext())
    with pytest.raises((ExportError, ParityError)):
        export_onnx(decoder_exportable(FakeDecoder().eval(), reference=False), tmp_path / "decoder.onnx")
    assert list(tmp_path.iterdir()) == []


def test_patches_make_latents_multiples_of_the_grid() -> None:
    exportable = transformer_exportable(FakeTransformer(image=False, patch_size=(1, 2, 2)).eval(), text_mask=False)
    assert exportable.inputs["latents"].shape == ("b", 4, "t", (2, "h"), (2, "w"))
    assert exportable.inputs["cos"].shape == ("t", "h", "w", 2)
    inputs = exportable.draw_inputs({"b": 1, "t": 2, "h": 3, "w": 4, "l": 5})
    with torch.no_grad():
        assert exportable.module(**inputs).shape == (1, 4, 2, 6, 8)


def test_axes_can_be_narrowed() -> None:
    axes = {**DECODER_AXES, "t": AxisRange(minimum=5, example=5, maximum=5)}
    exportable = decoder_exportable(FakeDecoder().eval(), reference=False, axes=axes)
    assert {case["t"] for case in exportable.corner_sizes()} == {5}


def test_a_model_in_training_mode_is_refused_and_left_as_it_is() -> None:
    model = FakeDecoder()
    with pytest.raises(ValueError, match=r"training mode \(decoder\)"):
        decoder_exportable(model, reference=False)
    assert model.training


def test_default_axes_begin_at_one() -> None:
    assert {bounds.minimum for bounds in TRANSFORMER_AXES.values()} == {1}


def test_values_look_like_the_real_ones() -> None:
    exportable: Exportable = transformer_exportable(FakeTransformer(image=True).eval(), text_mask=True)
    inputs = exportable.draw_inputs({"b": 4, "t": 5, "h": 6, "w": 7, "l": 50, "m": 3})
    assert inputs["cos"].abs().max() <= 1
    assert 1 < inputs["timestep"].max() <= 1000
    assert inputs["text_mask"].dtype == torch.bool
    assert 0.4 < inputs["text_mask"].float().mean() < 0.9
