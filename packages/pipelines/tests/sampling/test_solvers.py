"""Step by step against diffusers' schedulers, with a network that is a smooth function of latents and noise level."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from fastvid_pipelines.sampling import solvers
from fastvid_pipelines.sampling.schedules import (
    Sigmas,
    dpmsolver_sigmas,
    euler_sigmas,
    explicit_sigmas,
    steps,
    unipc_sigmas,
    vp_sigmas,
)
from fastvid_pipelines.sampling.solvers import History, Solver
from torch import Tensor

# diffusers 0.42 with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TOLERANCE = 1e-5
COUNTS = (1, 2, 3, 8, 14, 15, 20)


def network(latents: Tensor, sigma: float) -> Tensor:
    return torch.tanh(latents * (0.7 + 0.2 * sigma)) + 0.3 * torch.sin(3 * sigma + latents.roll(1, -1))


def noise() -> Tensor:
    return torch.randn(1, 4, 3, 2, 5, generator=torch.Generator().manual_seed(0))


def ours(solver: Solver, sigmas: Sigmas) -> list[Tensor]:
    latents, history, trace = noise(), History(), []
    for step in steps(sigmas):
        denoised = solvers.denoised_from_velocity(latents, network(latents, step.sigma), step.sigma)
        latents, history = solver(latents, denoised, step, history)
        trace.append(latents)
    return trace


def theirs(scheduler, sigmas: Sigmas) -> list[Tensor]:
    latents, trace = noise(), []
    for timestep, sigma in zip(scheduler.timesteps, sigmas, strict=False):
        latents = scheduler.step(network(latents, sigma), timestep, latents, return_dict=False)[0]
        trace.append(latents)
    return trace


def largest_difference(first: list[Tensor], second: list[Tensor]) -> float:
    assert len(first) == len(second)
    return max((a - b).abs().max().item() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("num_steps", COUNTS)
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler_equals_diffusers(num_steps: int, shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=torch.linspace(1, 1 / num_steps, num_steps).tolist())
    sigmas = euler_sigmas(num_steps, shift)
    assert largest_difference(ours(solvers.euler, sigmas), theirs(scheduler, sigmas)) < TOLERANCE


@pytest.mark.parametrize("num_steps", COUNTS)
@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_dpmsolver_equals_diffusers(num_steps: int, shift: float) -> None:
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
    scheduler.set_timesteps(num_steps)
    sigmas = dpmsolver_sigmas(num_steps, shift)
    assert largest_difference(ours(solvers.dpmsolver, sigmas), theirs(scheduler, sigmas)) < TOLERANCE


@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_fresh_noise_equals_diffusers(shift: float) -> None:
    """The 8 steps of FSVideo's refiner, with the same noise for both."""
    sigmas, (first, second) = euler_sigmas(8, shift), (torch.Generator().manual_seed(1) for _ in range(2))
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift, stochastic_sampling=True)
    scheduler.set_timesteps(sigmas=[1 - index / 8 for index in range(8)])
    scheduler.step = partial(scheduler.step, generator=second)
    assert largest_difference(ours(solvers.renoise(first), sigmas), theirs(scheduler, sigmas)) < TOLERANCE


def unipc_difference(num_steps: int, shift: float) -> float:
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
    scheduler.set_timesteps(num_steps)
    sigmas = unipc_sigmas(num_steps, shift)
    return largest_difference(ours(solvers.unipc, sigmas), theirs(scheduler, sigmas))


@pytest.mark.parametrize("num_steps", COUNTS)
@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
def test_unipc_equals_diffusers(num_steps: int, shift: float) -> None:
    assert unipc_difference(num_steps, shift) < TOLERANCE


@pytest.mark.parametrize("num_steps", COUNTS)
def test_dpmsolver_on_the_vp_schedule_equals_diffusers(num_steps: int) -> None:
    """As Reducio-DiT samples: the network predicts the noise."""
    scheduler = DPMSolverMultistepScheduler()
    scheduler.set_timesteps(num_steps)
    sigmas, timesteps = vp_sigmas(num_steps)
    latents, history, trace = noise(), History(), []
    for step, timestep in zip(steps(sigmas), timesteps, strict=True):
        denoised = solvers.denoised_from_noise(latents, network(latents, timestep / 1000), step.sigma)
        latents, history = solvers.dpmsolver(latents, denoised, step, history, alpha=solvers.vp_alpha)
        trace.append(latents)
    expected = theirs(scheduler, tuple(timestep / 1000 for timestep in timesteps))
    scale = max(tensor.abs().max().item() for tensor in expected)
    assert largest_difference(trace, expected) < TOLERANCE * scale


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("_correct", lambda denoised, step, history, alpha: history.start),
        ("_corrector_weights", lambda ratio, h, growth: (0.0, 0.5)),
        ("_log_snr", lambda sigma, alpha: 1.0 - sigma),
    ],
)
def test_parity_notices_a_broken_unipc(
    monkeypatch: pytest.MonkeyPatch, name: str, broken: Callable[..., object]
) -> None:
    monkeypatch.setattr(solvers, name, broken)
    assert unipc_difference(8, 3.0) > 10 * TOLERANCE


def test_parity_notices_a_dpmsolver_without_memory() -> None:
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    scheduler.set_timesteps(8)
    sigmas = dpmsolver_sigmas(8, 1.0)

    def forgetful(latents, denoised, step, history):
        return solvers.dpmsolver(latents, denoised, step, History())

    assert largest_difference(ours(forgetful, sigmas), theirs(scheduler, sigmas)) > 10 * TOLERANCE


@pytest.mark.parametrize("solver", [solvers.euler, solvers.dpmsolver])
def test_sigma_one_is_fine_where_the_method_has_a_limit(solver: Solver) -> None:
    trace = ours(solver, explicit_sigmas([1.0, 0.7, 0.3]))
    assert all(latents.isfinite().all() for latents in trace)


def test_unipc_refuses_sigma_one() -> None:
    with pytest.raises(ValueError, match=r"`step.sigma` is 1.0"):
        ours(solvers.unipc, explicit_sigmas([1.0, 0.5]))


@pytest.mark.parametrize("name", list(solvers.METHODS))
def test_every_method_recovers_what_a_perfect_network_knows(name: solvers.SolverName) -> None:
    clean = torch.linspace(-1, 1, 120).reshape(1, 4, 3, 2, 5)
    method = solvers.METHODS[name]
    latents, history = noise(), History()
    for step in steps(method.sigmas(5, 3.0)):
        latents, history = method.solver(latents, clean, step, history)
    torch.testing.assert_close(latents, clean)


def test_runs_share_no_state() -> None:
    sigmas = unipc_sigmas(6, 3.0)
    first = ours(solvers.unipc, sigmas)
    ours(partial(solvers.dpmsolver), dpmsolver_sigmas(3, 1.0))
    assert all(torch.equal(a, b) for a, b in zip(first, ours(solvers.unipc, sigmas), strict=True))
