import pytest
import torch
from fastvid_vae.training.averaging import WeightAverage
from torch import nn


def test_the_average_follows_the_weights() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    average, expected = WeightAverage(model, decay=0.75), model[0].weight.detach().clone()
    for _ in range(3):
        with torch.no_grad():
            model[0].weight += 1
        average.update(model)
        expected = 0.75 * expected + 0.25 * model[0].weight.detach()
    assert torch.allclose(average.weights()["0.weight"], expected)
    assert average.weights().keys() == dict(model.named_parameters()).keys()
    model.load_state_dict(average.weights())
    assert not list(average.parameters())  # nothing for an optimiser


def test_it_is_saved_with_the_module_that_holds_it() -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 3)
    average = WeightAverage(model)
    with torch.no_grad():
        model.weight.zero_()
    average.update(model)
    other = WeightAverage(nn.Linear(2, 3))
    other.load_state_dict(average.state_dict())
    assert torch.equal(other.weights()["weight"], average.weights()["weight"])


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan")])
def test_decays_that_make_no_average(decay: float) -> None:
    with pytest.raises(ValueError, match="`decay` is"):
        WeightAverage(nn.Linear(1, 1), decay)
