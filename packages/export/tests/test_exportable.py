from typing import Any

import pytest
import torch
from fastvid_export import AxisRange, Exportable, IndexSpec, InputSpec
from fastvid_export.exportable import precision_of
from torch import Tensor, nn

from .fakes import Lambda, draw_normal, exportable_of


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor, z: Tensor | None = None) -> Tensor:
        return x + y


def two_inputs(**changes: Any) -> Exportable:
    fields: dict[str, Any] = {
        "name": "two",
        "module": TwoInputs().eval(),
        "inputs": {
            "x": InputSpec(shape=("b", 3, (16, "h")), draw=draw_normal),
            "y": InputSpec(shape=("b", 3, (16, "h")), draw=draw_normal),
        },
        "outputs": ("sum",),
        "axes": {
            "b": AxisRange(minimum=1, example=2, maximum=3),
            "h": AxisRange(minimum=1, example=5, maximum=100),
        },
    }
    return Exportable(**fields | changes)


@pytest.mark.parametrize(("minimum", "example", "maximum"), [(0, 1, 2), (-1, 1, 2), (2, 1, 3), (1, 4, 3)])
def test_axis_range_refuses(minimum: int, example: int, maximum: int) -> None:
    with pytest.raises(ValueError, match=r"`minimum`|`example`"):
        AxisRange(minimum=minimum, example=example, maximum=maximum)


def test_inputs_have_the_sizes_asked_for() -> None:
    inputs = two_inputs().draw_inputs({"b": 3, "h": 2})
    assert {name: tuple(tensor.shape) for name, tensor in inputs.items()} == {"x": (3, 3, 32), "y": (3, 3, 32)}


def test_inputs_differ_from_one_another_and_repeat_by_seed() -> None:
    exportable = two_inputs()
    inputs = exportable.draw_inputs(exportable.example_sizes, seed=1)
    assert inputs["x"] is not inputs["y"]
    assert not torch.equal(inputs["x"], inputs["y"])
    assert torch.equal(exportable.draw_inputs(exportable.example_sizes, seed=1)["y"], inputs["y"])
    assert not torch.equal(exportable.draw_inputs(exportable.example_sizes, seed=2)["y"], inputs["y"])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"b": 0, "h": 1}, r"b = 0, legal are 1 to 3; the nearest legal value is 1"),
        ({"b": 4, "h": 1}, r"b = 4, legal are 1 to 3; the nearest legal value is 3"),
        ({"b": 1}, r"`sizes` must give every axis, \['b', 'h'\]; got \['b'\]"),
        ({"b": 1, "h": 1, "w": 1}, r"`sizes` must give every axis"),
    ],
)
def test_sizes_out_of_range_are_refused(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        two_inputs().draw_inputs(sizes)


def test_equal_axes_are_one_dim_and_multiples_derive_from_it() -> None:
    shapes = two_inputs().dynamic_shapes()
    assert shapes["x"][0] is shapes["y"][0]
    assert shapes["x"][0].__name__ == "b"
    assert shapes["x"][2].__name__ == "16*h"
    assert 1 not in shapes["x"]


def test_corners_hold_what_a_trace_may_bake_in() -> None:
    exportable = two_inputs()
    corners = exportable.corner_sizes()
    example = exportable.example_sizes
    assert corners[0] == example
    assert {"b": 1, "h": 1} in corners
    assert {"b": 1, "h": 5} in corners
    assert {"b": 2, "h": 1} in corners
    assert any(all(case[axis] != example[axis] for axis in case) and 1 not in case.values() for case in corners)
    assert any(case["h"] % 2 for case in corners)
    assert any(case["h"] % 2 == 0 for case in corners)
    assert len({tuple(case.values()) for case in corners}) == len(corners)
    for case in corners:
        exportable.draw_inputs(case)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": {"b": AxisRange(minimum=1, example=2, maximum=3)}}, r"`axes` must range exactly .* \['b', 'h'\]"),
        ({"inputs": {"x": InputSpec(shape=("b", "h"), draw=draw_normal)}}, r"missing: \['y'\]"),
        ({"outputs": ()}, r"`outputs` needs at least one name"),
        ({"outputs": ("a", "a")}, r"`outputs` needs at least one name, none twice"),
        ({"outputs": ("x",)}, r"`outputs` needs at least one name, none twice and none of an input"),
        ({"module": TwoInputs()}, r"`module` is in training mode"),
    ],
)
def test_exportable_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        two_inputs(**changes)


def test_an_unknown_input_is_named() -> None:
    spec = InputSpec(shape=("b", 3, (16, "h")), draw=draw_normal)
    with pytest.raises(ValueError, match=r"unknown: \['q'\]"):
        two_inputs(inputs={"x": spec, "y": spec, "q": spec})


def test_parts_in_training_mode_are_found() -> None:
    module = Lambda(torch.sin)
    module.part = nn.Dropout()
    module.eval()
    module.part.train()
    with pytest.raises(ValueError, match=r"training mode \(part\)"):
        Exportable(
            name="fake",
            module=module,
            inputs=exportable_of(torch.sin).inputs,
            outputs=("y",),
            axes=exportable_of(torch.sin).axes,
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_precision_is_that_of_the_weights_and_islands_of_float32_do_not_count(dtype: torch.dtype) -> None:
    module = Lambda(torch.sin).to(dtype)
    module.island = nn.Linear(1, 1)
    good = exportable_of(torch.sin)
    exportable = Exportable(name="fake", module=module.eval(), inputs=good.inputs, outputs=good.outputs, axes=good.axes)
    assert exportable.precision == dtype


@pytest.mark.parametrize("dtypes", [(torch.float64,), (torch.bfloat16, torch.float16), (torch.float16, torch.float64)])
def test_other_types_and_two_16_bit_types_at_once_are_refused(dtypes: tuple[torch.dtype, ...]) -> None:
    module = nn.ModuleList(nn.Linear(1, 1).to(dtype) for dtype in dtypes)
    with pytest.raises(ValueError, match=rf"`module` holds {len(dtypes) - 1}\.weight in {dtypes[-1]}"):
        precision_of(module)


def test_indices_are_legal_at_any_size() -> None:
    spec = IndexSpec(shape=("b", 2, "k"), below=("t", "h"))
    generator = torch.Generator().manual_seed(0)
    assert spec.sample({"b": 3, "k": 5, "t": 1, "h": 1}, generator).unique().tolist() == [0]
    drawn = spec.sample({"b": 3, "k": 500, "t": 2, "h": 3}, generator)
    assert drawn.unique().tolist() == [0, 1, 2, 3, 4, 5]
    assert (drawn.shape, drawn.dtype, spec.dtype) == ((3, 2, 500), torch.int32, torch.int32)
