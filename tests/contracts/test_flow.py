"""The noise that dit trains with is the noise that the solvers of pipelines take away."""

import pytest
import torch
from fastvid_dit.flow import add_noise, velocity_target
from fastvid_pipelines.sampling.schedules import steps
from fastvid_pipelines.sampling.solvers import METHODS, History, denoised_from_velocity
from fastvid_pipelines.types import SolverName


@pytest.mark.parametrize("name", METHODS)
def test_a_perfect_velocity_leads_back_to_the_clean_latents(name: SolverName) -> None:
    method = METHODS[name]
    sigmas = method.sigmas(7, 3.0)
    clean, noise = torch.randn(2, 1, 4, 2, 3, 3, generator=torch.Generator().manual_seed(0)).double().unbind()
    latents, history = add_noise(clean, noise, torch.tensor([sigmas[0]]).double()), History()
    for step in steps(sigmas):
        on_path = add_noise(clean, noise, torch.tensor([step.sigma]).double())
        torch.testing.assert_close(latents, on_path, rtol=0, atol=1e-6)
        denoised = denoised_from_velocity(latents, velocity_target(clean, noise), step.sigma)
        latents, history = method.solver(latents, denoised, step, history)
    torch.testing.assert_close(latents, clean, rtol=0, atol=1e-6)
