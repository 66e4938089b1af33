import numpy as np
import pytest
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from fastvid_pipelines.sampling.schedules import (
    dpmsolver_sigmas,
    euler_sigmas,
    explicit_sigmas,
    shift_sigmas,
    steps,
    unipc_sigmas,
    vp_sigmas,
)

# diffusers 0.42 with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

COUNTS = (1, 2, 8, 20, 30)
SHIFTS = (1.0, 3.0, 5.0)


@pytest.mark.parametrize("num_steps", COUNTS)
@pytest.mark.parametrize("shift", SHIFTS)
def test_euler_schedule_is_that_of_diffusers(num_steps: int, shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / num_steps, num_steps).tolist())
    np.testing.assert_allclose(euler_sigmas(num_steps, shift), scheduler.sigmas, atol=1e-7)


@pytest.mark.parametrize("num_steps", COUNTS)
@pytest.mark.parametrize("shift", SHIFTS)
def test_unipc_schedule_is_that_of_diffusers(num_steps: int, shift: float) -> None:
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
    scheduler.set_timesteps(num_steps)
    np.testing.assert_allclose(unipc_sigmas(num_steps, shift), scheduler.sigmas, atol=1e-7)


@pytest.mark.parametrize("num_steps", COUNTS)
@pytest.mark.parametrize("shift", SHIFTS)
def test_dpmsolver_schedule_is_that_of_diffusers(num_steps: int, shift: float) -> None:
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
    scheduler.set_timesteps(num_steps)
    np.testing.assert_allclose(dpmsolver_sigmas(num_steps, shift), scheduler.sigmas, atol=1e-7)


@pytest.mark.parametrize("num_steps", COUNTS)
def test_vp_schedule_is_that_of_diffusers(num_steps: int) -> None:
    scheduler = DPMSolverMultistepScheduler()
    scheduler.set_timesteps(num_steps)
    sigmas, timesteps = vp_sigmas(num_steps)
    ratio = np.asarray(sigmas[:-1]) / np.sqrt(1 - np.asarray(sigmas[:-1]) ** 2)
    np.testing.assert_allclose(ratio, scheduler.sigmas[:-1], rtol=2e-5)
    assert sigmas[-1] == 0
    assert list(timesteps) == scheduler.timesteps.tolist()


def test_refiner_schedule_of_fsvideo() -> None:
    expected = [1, 0.9722, 0.9375, 0.8929, 0.8333, 0.75, 0.625, 0.4167, 0]
    np.testing.assert_allclose(explicit_sigmas(np.linspace(1, 1 / 8, 8).tolist(), 5.0), expected, atol=1e-4)


@pytest.mark.parametrize("sigmas", [[], [1.0, 1.0], [0.5, 0.7], [1.1, 0.5], [1.0, 0.0], [0.5, float("nan")]])
def test_explicit_sigmas_that_do_not_fall_are_refused(sigmas: list[float]) -> None:
    with pytest.raises(ValueError, match="`sigmas` is"):
        explicit_sigmas(sigmas)


def test_shift_one_changes_nothing_and_higher_shift_raises_every_sigma() -> None:
    sigmas = (1.0, 0.6, 0.2)
    assert shift_sigmas(sigmas, 1.0) == pytest.approx(sigmas)
    assert all(high > low for high, low in zip(shift_sigmas(sigmas, 3.0)[1:], sigmas[1:], strict=True))


def test_steps_are_pairs_of_neighbours() -> None:
    first, second = steps((1.0, 0.4, 0.0))
    assert (first.index, first.num_steps, first.sigma, first.next_sigma) == (0, 2, 1.0, 0.4)
    assert (second.index, second.num_steps, second.sigma, second.next_sigma) == (1, 2, 0.4, 0.0)


@pytest.mark.parametrize("schedule", [euler_sigmas, unipc_sigmas, dpmsolver_sigmas])
@pytest.mark.parametrize("num_steps", [0, -1, 1001, 2.5, True, "3"])
def test_bad_step_counts_are_refused(schedule, num_steps) -> None:
    with pytest.raises(ValueError, match=r"`num_inference_steps` is .*expected"):
        schedule(num_steps, 1.0)
