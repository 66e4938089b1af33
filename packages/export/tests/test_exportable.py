from typing import Any

import pytest
import torch
from fastvid_export import AxisRange, Exportable, InputSpec
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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_only_float32_is_taken(dtype: torch.dtype) -> None:
    good = exportable_of(torch.sin)
    with pytest.raises(ValueError, match=rf"`module` holds weight in {dtype}"):
        Exportable(name="fake", module=good.module.to(dtype), inputs=good.inputs, outputs=good.outputs, axes=good.axes)
