"""One training loop for every model: schedule, checkpoints that resume exactly."""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastvid_vae.training.muon import Muon


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How to train.

    Attributes:
        kernel_rate: of Muon, for convolution kernels; held constant between warm-up and decay.
        other_rate: of AdamW (betas 0.9, 0.95 as in FSVideo), for everything else.
        warmup_steps, decay_steps: linear up at the start, linear to zero at the end.
        total_steps: steps in all, counted from the first run.
        save_every: steps between checkpoints.
    """

    kernel_rate: float
    other_rate: float
    warmup_steps: int
    decay_steps: int
    total_steps: int
    save_every: int

    def __post_init__(self) -> None:
        for name in ("kernel_rate", "other_rate", "total_steps", "save_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` is {getattr(self, name)}; it must be positive")
        for name in ("warmup_steps", "decay_steps"):
            if not 0 <= getattr(self, name) <= self.total_steps:
                raise ValueError(f"`{name}` is {getattr(self, name)}; expected 0 to `total_steps`, {self.total_steps}")

    def share(self, step: int) -> float:
        """The share of the learning rates that a step takes, counted from 0."""
        up = (step + 1) / max(1, self.warmup_steps)
        down = (self.total_steps - step) / max(1, self.decay_steps)
        return min(1.0, up, down)


class Trainer:
    """Trains `model` on `loss(batch)`, where a batch is whatever the iterator gives for a step.

    The last weights are the result: where the rate falls to zero, a moving average of them is behind.

    The state that resumes is the model, the optimiser and the step; batches are a function of the step,
    so a run that was killed and resumed equals one that was not.
    """

    def __init__(
        self, model: nn.Module, loss: Callable[[Any], Tensor], settings: TrainingSettings, *, checkpoint: Path
    ) -> None:
        self.model = model
        self.loss = loss
        self.settings = settings
        self.checkpoint = checkpoint
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        kernels, others = split_parameters(model)
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "others": torch.optim.AdamW(others, lr=settings.other_rate, betas=(0.9, 0.95), weight_decay=0.0)
        }
        if kernels:  # a model of pictures or tokens has none
            self.optimizers["kernels"] = Muon(kernels, lr=settings.kernel_rate)
        self.step = 0
        if checkpoint.exists():
            self._load()

    def run(self, batches: Callable[[int], Iterator[Any]], log: Path) -> None:
        """Train to `total_steps`; `batches(first_step)` yields one batch a step from there on.

        Raises:
            FloatingPointError: a loss is not finite; the checkpoint is the last good one.
        """
        started, losses = time.monotonic(), []
        for batch in islice(batches(self.step), self.settings.total_steps - self.step):
            losses.append(self._update(batch))
            if self.step % 25 == 0:
                line = {
                    "step": self.step,
                    "loss": round(sum(losses) / len(losses), 5),
                    "rate_share": round(self.settings.share(self.step - 1), 4),
                    "seconds": round(time.monotonic() - started, 1),
                }
                with log.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                losses = []
            if self.step % self.settings.save_every == 0 or self.step == self.settings.total_steps:
                self.save()

    def _update(self, batch: Any) -> float:
        self._set_rates()
        loss = self.loss(batch)
        if not loss.isfinite():
            raise FloatingPointError(f"the loss of step {self.step} is {loss.item()}")
        loss.backward()
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss.item()

    def _set_rates(self) -> None:
        rates = {"kernels": self.settings.kernel_rate, "others": self.settings.other_rate}
        for name, optimizer in self.optimizers.items():
            optimizer.param_groups[0]["lr"] = self.settings.share(self.step) * rates[name]

    def save(self) -> None:
        """Write the checkpoint under a temporary name, then move it into place."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "step": self.step,
        }
        partial = self.checkpoint.with_suffix(".partial")
        try:
            torch.save(state, partial)
            os.replace(partial, self.checkpoint)
        finally:
            partial.unlink(missing_ok=True)

    def _load(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True, map_location="cpu")
        self.model.load_state_dict(state["model"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.step = state["step"]


def split_parameters(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Kernels that mix channels, for Muon; and the rest: pixels in and out, depthwise kernels, norms, biases."""
    kernels: list[Tensor] = []
    others: list[Tensor] = []
    for parameter in model.parameters():
        mixes = parameter.ndim == 5 and min(parameter.shape[:2]) > 3
        (kernels if mixes else others).append(parameter)
    return kernels, others
