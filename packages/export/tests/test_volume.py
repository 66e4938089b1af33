from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from fastvid_export import AxisRange, Exportable, InputSpec, Profile, large_tensors, largest_that_fits
from fastvid_export.volume import MAX_ELEMENTS, check_volume, output_shapes
from torch import Tensor, nn

from .fakes import draw_normal


class Mixed(nn.Module):
    """A convolution that makes 8 channels of 4, and attention over all places."""

    def __init__(self, *, by_hand: bool) -> None:
        super().__init__()
        self.conv, self.by_hand = nn.Conv2d(4, 8, 3, padding=1), by_hand

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        tokens = y.flatten(2).transpose(1, 2).unsqueeze(1)
        if self.by_hand:
            return (tokens @ tokens.transpose(2, 3)).softmax(-1) @ tokens
        return F.scaled_dot_product_attention(tokens, tokens, value=tokens)


def exportable(*, by_hand: bool = False, device: str = "cpu") -> Exportable:
    with torch.device(device):
        module = Mixed(by_hand=by_hand).eval()
    return Exportable(
        name="mixed",
        module=module,
        inputs={"x": InputSpec(shape=(1, 4, "h", "w"), draw=draw_normal)},
        outputs=("y",),
        axes={axis: AxisRange(minimum=1, example=4, maximum=64) for axis in "hw"},
    )


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_exact_limit(device: str) -> None:
    """2^28 places of 8 channels are 2^31 elements, one more than there may be."""
    module = exportable(device=device)
    (found,) = large_tensors(module, {"h": 2**14, "w": 2**14})
    assert (found.operator, found.shape, found.elements) == ("convolution", (1, 8, 2**14, 2**14), MAX_ELEMENTS + 1)
    assert large_tensors(module, {"h": 2**14, "w": 2**14 - 1}) == ()


def test_the_inside_of_attention_counts_only_where_it_is_written_out() -> None:
    sizes = {"h": 256, "w": 256}  # scores of 65536 x 65536
    assert large_tensors(exportable(), sizes) == ()
    found = large_tensors(exportable(by_hand=True), sizes)
    assert {tensor.operator for tensor in found} == {"bmm"}
    assert found[0].elements == 2**32


def test_inputs_count_too() -> None:
    found = large_tensors(exportable(), {"h": 16, "w": 16}, limit=1000)
    assert [tensor.shape for tensor in found] == [(1, 8, 16, 16), (1, 4, 16, 16)]


def test_how_far_an_axis_can_go() -> None:
    assert largest_that_fits(exportable(), {"h": 2**14, "w": 2**16}, "w") == 2**14 - 1
    assert largest_that_fits(exportable(), {"h": 2**14, "w": 9}, "w") == 9
    assert largest_that_fits(exportable(), {"h": 2**29, "w": 9}, "w") is None


def test_a_profile_that_reaches_too_far_is_refused_with_what_would_fit() -> None:
    def reaching(largest: int) -> Profile:
        bounds = AxisRange(minimum=1, example=4, maximum=largest)
        return Profile(name="dense", axes={"h": bounds, "w": bounds})

    check_volume(exportable(), [reaching(16)], limit=8 * 16**2)
    with pytest.raises(ValueError, match=r"'dense', where 1 tensors .* exceed 2048 .*: h = 15, w = 15"):
        check_volume(exportable(), [reaching(16), reaching(17)], limit=8 * 16**2)


def test_a_check_of_values_does_not_stop_it() -> None:
    class Checked(Mixed):
        def forward(self, x: Tensor) -> Tensor:
            if float(x.abs().amax()) > 1:
                raise ValueError("too bright")
            return super().forward(x)

    module = replace(exportable(), module=Checked(by_hand=False).eval())
    assert large_tensors(module, {"h": 2**14, "w": 2**14})


def test_shapes_of_what_comes_out() -> None:
    (y,) = output_shapes(exportable(), {"h": 1000, "w": 1000})
    assert (tuple(y.shape), y.dtype) == ((1, 1, 10**6, 8), torch.float32)
