"""Solvers: one function a method, state in, state out.

Each takes the latents at `step.sigma` and the estimate of the clean latents there, and returns the latents at
`step.next_sigma` with the history that its next call needs. A run starts with `History()`; two runs share nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from fastvid_pipelines.sampling.schedules import Sigmas, dpmsolver_sigmas, euler_sigmas, unipc_sigmas
from fastvid_pipelines.types import SolverName, Step

Alpha = Callable[[float], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a multistep solver remembers.

    Attributes:
        denoised: earlier estimates of the clean latents, newest last: none (Euler), one (DPM-Solver++) or two (UniPC).
        sigmas: the noise level of each.
        start: the latents from which the last step set out (UniPC corrects with them).
        order: the order of the last step; 0 before the first.
    """

    denoised: tuple[Float[Tensor, "b c t h w"], ...] = ()
    sigmas: tuple[float, ...] = ()
    start: Float[Tensor, "b c t h w"] | None = None
    order: int = 0


class Solver(Protocol):
    """One step of a solver on flow-matching latents."""

    def __call__(
        self, latents: Float[Tensor, "b c t h w"], denoised: Float[Tensor, "b c t h w"], step: Step, history: History, /
    ) -> tuple[Float[Tensor, "b c t h w"], History]: ...


def flow_alpha(sigma: float) -> float:
    """The share of the clean latents in flow matching."""
    return 1 - sigma


def vp_alpha(sigma: float) -> float:
    """The share of the clean latents in a variance-preserving schedule (Reducio-DiT)."""
    return math.sqrt(1 - sigma * sigma)


def denoised_from_velocity(
    latents: Float[Tensor, "b c t h w"], velocity: Float[Tensor, "b c t h w"], sigma: float
) -> Float[Tensor, "b c t h w"]:
    """The clean latents that a velocity (noise - clean) implies."""
    return latents - sigma * velocity


def denoised_from_noise(
    latents: Float[Tensor, "b c t h w"], noise: Float[Tensor, "b c t h w"], sigma: float
) -> Float[Tensor, "b c t h w"]:
    """The clean latents that a prediction of the noise implies, in a variance-preserving schedule (Reducio-DiT)."""
    return (latents - sigma * noise) / vp_alpha(sigma)


def euler(
    latents: Float[Tensor, "b c t h w"], denoised: Float[Tensor, "b c t h w"], step: Step, history: History, /
) -> tuple[Float[Tensor, "b c t h w"], History]:
    """A straight line along the velocity, (latents - denoised) / sigma. Flow matching only."""
    return denoised + (step.next_sigma / step.sigma) * (latents - denoised), history


def renoise(generator: torch.Generator) -> Solver:
    """A solver that forgets where it came from: the clean estimate, with fresh noise at the next level.

    What few-step generators of the SiD kind are trained for; `stochastic_sampling` of FlowMatchEulerDiscreteScheduler.

    Args:
        generator: on the CPU.
    """

    def step_to_fresh_noise(
        latents: Float[Tensor, "b c t h w"], denoised: Float[Tensor, "b c t h w"], step: Step, history: History, /
    ) -> tuple[Float[Tensor, "b c t h w"], History]:
        noise = torch.randn(latents.shape, generator=generator, dtype=torch.float32).to(latents)
        return (1 - step.next_sigma) * denoised + step.next_sigma * noise, history

    return step_to_fresh_noise


def dpmsolver(
    latents: Float[Tensor, "b c t h w"],
    denoised: Float[Tensor, "b c t h w"],
    step: Step,
    history: History,
    /,
    alpha: Alpha = flow_alpha,
) -> tuple[Float[Tensor, "b c t h w"], History]:
    """DPM-Solver++(2M), midpoint form: x' = (s'/s) x - a' (e^-h - 1) (D0 + D1/2).

    First order at the first step and at the last, whose sigma is 0.
    Source: Lu et al., DPM-Solver++ (arXiv 2211.01095), algorithm 2.
    """
    h = _log_snr(step.next_sigma, alpha) - _log_snr(step.sigma, alpha)
    estimate = denoised
    if history.denoised and step.next_sigma > 0:
        ratio = (_log_snr(step.sigma, alpha) - _log_snr(history.sigmas[-1], alpha)) / h
        estimate = denoised + (denoised - history.denoised[-1]) / (2 * ratio)
    latents = (step.next_sigma / step.sigma) * latents - alpha(step.next_sigma) * math.expm1(-h) * estimate
    return latents, History(denoised=(denoised,), sigmas=(step.sigma,))


def unipc(
    latents: Float[Tensor, "b c t h w"],
    denoised: Float[Tensor, "b c t h w"],
    step: Step,
    history: History,
    /,
    alpha: Alpha = flow_alpha,
) -> tuple[Float[Tensor, "b c t h w"], History]:
    """UniPC of order 2 on clean latents, B(h) = e^h - 1: correct the step just made, then predict the next.

    Source: Zhao et al., UniPC (arXiv 2302.04867), algorithms 5 and 6 with the second choice of B(h).
    Raises:
        ValueError: `step.sigma` is 1, where the method is not defined; `unipc_sigmas` starts just below.
    """
    if alpha(step.sigma) <= 0:
        raise ValueError(f"`step.sigma` is {step.sigma}; UniPC needs noise levels below 1 (nearest: {1 - 1e-6})")
    if history.start is not None:
        latents = _correct(denoised, step, history, alpha)
    order = min(2, history.order + 1, step.num_steps - step.index)
    h = _log_snr(step.next_sigma, alpha) - _log_snr(step.sigma, alpha)
    estimate = denoised
    if order == 2:
        ratio = (_log_snr(history.sigmas[-1], alpha) - _log_snr(step.sigma, alpha)) / h
        estimate = denoised + 0.5 * (history.denoised[-1] - denoised) / ratio
    predicted = (step.next_sigma / step.sigma) * latents - alpha(step.next_sigma) * math.expm1(-h) * estimate
    kept = History(
        denoised=(*history.denoised[-1:], denoised), sigmas=(*history.sigmas[-1:], step.sigma), start=latents
    )
    return predicted, replace(kept, order=order)


def _correct(
    denoised: Float[Tensor, "b c t h w"], step: Step, history: History, alpha: Alpha
) -> Float[Tensor, "b c t h w"]:
    """The latents at `step.sigma` again, now that the clean estimate there is known."""
    assert history.start is not None
    last, last_sigma = history.denoised[-1], history.sigmas[-1]
    h = _log_snr(step.sigma, alpha) - _log_snr(last_sigma, alpha)
    growth = math.expm1(-h)
    base = (step.sigma / last_sigma) * history.start - alpha(step.sigma) * growth * last
    if history.order == 1:
        change = 0.5 * (denoised - last)
    else:
        ratio = (_log_snr(history.sigmas[-2], alpha) - _log_snr(last_sigma, alpha)) / h
        past_weight, new_weight = _corrector_weights(ratio, -h, growth)
        change = past_weight * (history.denoised[-2] - last) / ratio + new_weight * (denoised - last)
    return base - alpha(step.sigma) * growth * change


def _corrector_weights(ratio: float, h: float, growth: float) -> tuple[float, float]:
    """Solve [[1, 1], [ratio, 1]] w = b, b_k = k! h phi_{k+1}(h) / B(h)."""
    phi_1 = growth / h - 1
    first, second = phi_1 / growth, 2 * (phi_1 / h - 0.5) / growth
    past = (first - second) / (1 - ratio)
    return past, first - past


def _log_snr(sigma: float, alpha: Alpha) -> float:
    """lambda = log(alpha / sigma), infinite at both ends."""
    share = alpha(sigma)
    if sigma == 0:
        return math.inf
    return math.log(share / sigma) if share > 0 else -math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A solver with the schedule that belongs to it."""

    sigmas: Callable[[int, float], Sigmas]
    solver: Solver


METHODS: dict[SolverName, Method] = {
    "euler": Method(sigmas=euler_sigmas, solver=euler),
    "dpmsolver++": Method(sigmas=dpmsolver_sigmas, solver=dpmsolver),
    "unipc": Method(sigmas=unipc_sigmas, solver=unipc),
}
