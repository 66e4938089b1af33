"""The schedulers of diffusers as fastvid sees sampling: latents (1 - sigma) clean + sigma noise, sigma from 1 to 0."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from diffusers.schedulers.scheduling_ddim_cogvideox import CogVideoXDDIMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One of a scheduler's noise levels: its latents are `scale` times those of flow matching at `sigma`."""

    sigma: float
    scale: float = 1.0


class Sampler(Protocol):
    """A scheduler that has been given its timesteps."""

    def levels(self, index: int) -> tuple[Level, Level]:
        """Before and after a step, counted from 0."""
        ...

    def denoised(self, output: Tensor, sample: Tensor, index: int) -> Tensor:
        """The clean latents that the model's output implies at the start of a step."""
        ...

    def forget(self) -> None:
        """Throw away what a multistep method remembers of latents of another shape."""
        ...


def sampler_of(scheduler: Any) -> Sampler:
    """How to read a scheduler.

    Raises:
        ValueError: one that adds noise of its own, or keeps its history where it cannot be reached.
    """
    config: Any = scheduler.config
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler) and not config.stochastic_sampling:
        return FlowEuler(scheduler)
    if isinstance(scheduler, UniPCMultistepScheduler) and config.prediction_type == "flow_prediction":
        return FlowUniPC(scheduler)
    if isinstance(scheduler, CogVideoXDDIMScheduler):
        return DDIM(scheduler)
    raise ValueError(
        f"the pipeline's scheduler is {type(scheduler).__name__}; frames can be merged between the steps of"
        " FlowMatchEulerDiscreteScheduler (not stochastic), UniPCMultistepScheduler (flow prediction) and"
        " CogVideoXDDIMScheduler. Stochastic samplers leave the line from the first noise, and CogVideoXDPMScheduler"
        " keeps earlier latents inside the pipeline; set pipe.scheduler to one of the three"
    )


@dataclass(frozen=True, slots=True)
class FlowEuler:
    """FlowMatchEulerDiscreteScheduler; Mochi's runs from 0 to 1 and its velocities point to the clean latents."""

    scheduler: Any

    def levels(self, index: int) -> tuple[Level, Level]:
        """The scheduler's sigmas, or what is missing to 1."""
        first, last = self.scheduler.sigmas[index : index + 2].tolist()
        if self.scheduler.config.invert_sigmas:
            first, last = 1 - first, 1 - last
        return Level(sigma=first), Level(sigma=last)

    def denoised(self, output: Tensor, sample: Tensor, index: int) -> Tensor:
        """Along the velocity, all the way."""
        sigma = self.levels(index)[0].sigma
        velocity = -output.float() if self.scheduler.config.invert_sigmas else output.float()
        return sample.float() - sigma * velocity

    def forget(self) -> None:
        """It remembers nothing."""


@dataclass(frozen=True, slots=True)
class FlowUniPC:
    """UniPCMultistepScheduler on flow matching, as Wan comes with it."""

    scheduler: Any

    def levels(self, index: int) -> tuple[Level, Level]:
        """The scheduler's sigmas."""
        first, last = self.scheduler.sigmas[index : index + 2].tolist()
        return Level(sigma=first), Level(sigma=last)

    def denoised(self, output: Tensor, sample: Tensor, index: int) -> Tensor:
        """Along the velocity, all the way."""
        return sample.float() - self.levels(index)[0].sigma * output.float()

    def forget(self) -> None:
        """The next step is of first order, without correction."""
        self.scheduler.model_outputs = [None] * self.scheduler.config.solver_order
        self.scheduler.timestep_list = [None] * self.scheduler.config.solver_order
        self.scheduler.lower_order_nums = 0
        self.scheduler.last_sample = None


@dataclass(frozen=True, slots=True)
class DDIM:
    """CogVideoXDDIMScheduler: variance-preserving, latents = a clean + s noise with a^2 + s^2 = 1."""

    scheduler: Any

    def levels(self, index: int) -> tuple[Level, Level]:
        """a and s of both ends, divided by their sum."""
        stride = self.scheduler.config.num_train_timesteps // len(self.scheduler.timesteps)
        timestep = int(self.scheduler.timesteps[index])
        return self._level(timestep), self._level(timestep - stride)

    def _level(self, timestep: int) -> Level:
        cumulative = self.scheduler.alphas_cumprod
        alpha = float(cumulative[timestep] if timestep >= 0 else self.scheduler.final_alpha_cumprod)
        signal, noise = alpha**0.5, (1 - alpha) ** 0.5
        return Level(sigma=noise / (signal + noise), scale=signal + noise)

    def denoised(self, output: Tensor, sample: Tensor, index: int) -> Tensor:
        """As the scheduler itself reads the output."""
        level, _ = self.levels(index)
        noise = level.sigma * level.scale
        signal = level.scale - noise
        sample, output = sample.float(), output.float()
        match self.scheduler.config.prediction_type:
            case "v_prediction":
                return signal * sample - noise * output
            case "epsilon":
                return (sample - noise * output) / signal
            case _:
                return output

    def forget(self) -> None:
        """It remembers nothing."""


def check_timesteps(scheduler: Any, num_steps: int) -> None:
    """Refuse a run of another number of steps than was announced."""
    found = len(torch.as_tensor(scheduler.timesteps))
    if found != num_steps:
        raise ValueError(f"the scheduler makes {found} steps, `num_inference_steps` says {num_steps}")
