"""The integers of fastvid-export's plans are those of the models and of fastvid-accel."""

from fractions import Fraction

import pytest
from fastvid_accel.asymrnr.partition import num_destinations
from fastvid_accel.asymrnr.reduction import num_kept
from fastvid_export import Geometry, Workload, lengths
from fastvid_vae import FSAE, ODVAE
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from .small_models import SMALL_AUTOENCODER, SMALL_OD_VAE

GRIDS = st.tuples(st.integers(1, 40), st.integers(2, 40), st.integers(2, 40))


@given(GRIDS, st.integers(0, 99))
def test_kept_tokens(grid: tuple[int, int, int], hundredths: int) -> None:
    cell = (1, 2, 2)
    destinations = lengths.num_destinations(grid, cell)
    assert destinations == num_destinations(grid, cell)
    n, rate = grid[0] * grid[1] * grid[2], Fraction(hundredths, 100)
    assert lengths.num_kept(n, destinations, 1 - rate) == num_kept(n, destinations, rate)


@pytest.mark.parametrize("model", [FSAE(SMALL_AUTOENCODER), ODVAE(SMALL_OD_VAE)], ids=["FSAE", "ODVAE"])
def test_latent_frames(model: FSAE | ODVAE) -> None:
    assert isinstance(model, nn.Module)
    for frames in range(1, 40):
        ours = lengths.num_latent_frames(frames, model.stride[0], causal=True)
        assert ours == model.num_latent_frames(frames)
    grid = Geometry(stride=model.stride).grid(Workload(frames=17, height=32, width=64))
    assert grid == (model.num_latent_frames(17), 32 // model.stride[1], 64 // model.stride[2])
