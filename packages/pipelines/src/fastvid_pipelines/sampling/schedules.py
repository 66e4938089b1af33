"""How sigma runs.

A schedule is a falling tuple of noise levels that ends at 0. With flow matching, x = (1 - sigma) clean + sigma noise
and the transformer's timestep is 1000 sigma. With the variance-preserving (VP) schedule that Reducio-DiT was trained
on, x = sqrt(1 - sigma^2) clean + sigma noise, and the timestep is stored beside sigma.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from fastvid_pipelines.types import MOST_STEPS, Step, check_count, check_number

Sigmas = tuple[float, ...]

# log(1 - sigma) is infinite at sigma = 1, which the corrector of UniPC cannot use; the step that diffusers takes too
NUDGE = 1e-6


def shift_sigmas(sigmas: Sequence[float], shift: float) -> Sigmas:
    """kappa sigma / (1 + (kappa - 1) sigma): more of the steps at high noise for `shift` kappa above 1."""
    check_number("shift", shift, 0.01, 100.0)
    return tuple(shift * sigma / (1 + (shift - 1) * sigma) for sigma in sigmas)


def explicit_sigmas(sigmas: Sequence[float], shift: float = 1.0) -> Sigmas:
    """The caller's own noise levels, shifted, with the final 0 added.

    FSVideo's refiner: `explicit_sigmas([1, 7/8, ..., 1/8], shift)`.

    Raises:
        ValueError: none given, not falling, or outside (0, 1].
    """
    values = [float(sigma) for sigma in sigmas]
    falling = all(first > second for first, second in pairwise(values))
    if not values or not falling or values[-1] <= 0 or values[0] > 1:
        raise ValueError(f"`sigmas` is {values}; expected falling values above 0 and at most 1, without the final 0")
    return (*_float32(shift_sigmas(values, shift)), 0.0)


def euler_sigmas(num_steps: int, shift: float) -> Sigmas:
    """1, (n - 1)/n, ..., 1/n, shifted, then 0: the schedule of FlowMatchEulerDiscreteScheduler with explicit sigmas."""
    check_count("num_inference_steps", num_steps, 1, MOST_STEPS)
    return explicit_sigmas(np.linspace(1, 1 / num_steps, num_steps).tolist(), shift)


def unipc_sigmas(num_steps: int, shift: float) -> Sigmas:
    """The schedule of UniPCMultistepScheduler with `use_flow_sigmas`: n of n + 1 even levels from 1 to 1/1000."""
    check_count("num_inference_steps", num_steps, 1, MOST_STEPS)
    first, *rest = shift_sigmas(np.linspace(1, 1 / 1000, num_steps + 1)[:-1].tolist(), shift)
    return (*_float32((first - NUDGE, *rest)), 0.0)


def dpmsolver_sigmas(num_steps: int, shift: float) -> Sigmas:
    """The schedule of DPMSolverMultistepScheduler with `use_flow_sigmas`: n even levels down from 999/1000."""
    check_count("num_inference_steps", num_steps, 1, MOST_STEPS)
    even = (1 - np.linspace(1 / 1000, 1, num_steps + 1)[:-1]).tolist()
    return (*_float32(shift_sigmas(even, shift)), 0.0)


def vp_sigmas(num_steps: int) -> tuple[Sigmas, tuple[int, ...]]:
    """Noise levels and timesteps of Reducio-DiT: linear betas from 1e-4 to 0.02 over 1000 steps, evenly spaced.

    Returns:
        n + 1 sigmas (the last is 0), and the n timesteps at which the network is asked.
    """
    check_count("num_inference_steps", num_steps, 1, MOST_STEPS - 1)
    betas = np.linspace(1e-4, 0.02, 1000, dtype=np.float32)
    cumulative = np.cumprod(1 - betas, dtype=np.float32).astype(np.float64)
    timesteps = np.linspace(0, 999, num_steps + 1).round()[:0:-1].astype(np.int64)
    sigmas = np.sqrt(1 - cumulative[timesteps])
    return (*sigmas.tolist(), 0.0), tuple(timesteps.tolist())


def steps(sigmas: Sigmas) -> Iterator[Step]:
    """One `Step` for each pair of neighbours."""
    num_steps = len(sigmas) - 1
    for index in range(num_steps):
        yield Step(index=index, num_steps=num_steps, sigma=sigmas[index], next_sigma=sigmas[index + 1])


def _float32(values: Sequence[float]) -> Sigmas:
    """What a float32 scheduler holds; 1 - sigma near 1 depends on it."""
    return tuple(np.asarray(values, dtype=np.float32).tolist())
