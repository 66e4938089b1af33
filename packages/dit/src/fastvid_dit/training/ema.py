"""Exponential moving average of parameters."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """float32 averages of a module's parameters; early steps count more, so that the start is forgotten quickly."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._module = module
        self._decay = decay
        self.averages = {name: value.detach().clone().float() for name, value in module.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the parameters after `step` (0-based), with decay min(decay, (1 + step) / (10 + step))."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, value in self._module.named_parameters():
            self.averages[name].lerp_(value.float(), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the module run on its averages inside, and on its own parameters again afterwards."""
        parameters = dict(self._module.named_parameters())
        own = {name: value.detach().clone() for name, value in parameters.items()}
        _fill(parameters, self.averages)
        try:
            yield
        finally:
            _fill(parameters, own)


@torch.no_grad()
def _fill(parameters: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(values[name])
