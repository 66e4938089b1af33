"""Which shapes an engine takes for sizes of its axes, and what it says of the others."""

import pytest
import torch
from fastvid_export import EngineError
from fastvid_export.guard import sizes_of
from fastvid_export.record import TensorRecord

# As of a transformer with patches of 2 and a causal autoencoder.
SPECS = (
    TensorRecord(name="latents", dtype="float32", shape=("b", 4, "t", (2, "h"))),
    TensorRecord(name="frames", dtype="float32", shape=("b", (4, "t", -3))),
    TensorRecord(name="cos", dtype="float32", shape=("t", "h")),
)
FITTING = {"latents": (2, 4, 5, 6), "frames": (2, 17), "cos": (5, 3)}


def sizes(**changes: tuple[int, ...]) -> dict[str, int]:
    return sizes_of(SPECS, {name: torch.empty(shape) for name, shape in (FITTING | changes).items()})


def test_axes_from_shapes() -> None:
    assert sizes() == {"b": 2, "t": 5, "h": 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cos": (4, 3)}, r"`cos` has shape \(4, 3\), so t = 4; `latents` has t = 5"),
        ({"frames": (3, 17)}, r"`frames` has shape \(3, 17\), so b = 3; `latents` has b = 2"),
        ({"latents": (2, 4, 5, 7)}, "7 is not 2 h for any h; the nearest legal values are 6 and 8"),
        ({"frames": (2, 16)}, "16 is not 4 t - 3 for any t; the nearest legal values are 13 and 17"),
        ({"latents": (2, 5, 5, 6)}, r"`latents` has shape \(2, 5, 5, 6\), expected \(b, 4, t, 2 h\)"),
        ({"latents": (2, 4, 6)}, r"`latents` has shape \(2, 4, 6\), expected \(b, 4, t, 2 h\)"),
    ],
)
def test_shapes_that_do_not_fit_one_another(changes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        sizes(**changes)
