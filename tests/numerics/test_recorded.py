"""The models compute what they computed when the results were recorded."""

from functools import partial

import pytest
import torch
from safetensors import safe_open

from .. import tiny_models
from . import cases
from .cases import CASES
from .record import RECORDED

TOLERANCE = 1e-4  # of the largest value: float32 on another CPU, in another order


def recorded(name: str) -> torch.Tensor:
    with safe_open(RECORDED, framework="pt") as file:
        return file.get_tensor(name)


def test_every_case_is_recorded() -> None:
    with safe_open(RECORDED, framework="pt") as file:
        assert sorted(file.keys()) == sorted(CASES)
        assert "record.py" in file.metadata()["origin"]


@pytest.mark.parametrize("name", CASES)
def test_numbers_stay(name: str) -> None:
    expected = recorded(name)
    with torch.inference_mode():
        got = CASES[name]()
    assert got.shape == expected.shape
    assert float((got - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())


@pytest.mark.parametrize("name", CASES)
def test_a_change_of_weights_would_be_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: the same model from another seed differs by far more than the tolerance."""
    for module in (cases, tiny_models):
        monkeypatch.setattr(module, "randomised", partial(tiny_models.randomised, seed=1))
    expected = recorded(name)
    with torch.inference_mode():
        got = CASES[name]()
    assert float((got - expected).abs().max()) > 100 * TOLERANCE * float(expected.abs().max())
