"""Muon for convolution kernels; torch's own takes matrices only.

A kernel's update is made orthogonal (as a matrix of outputs by inputs and taps), so that one step changes every layer's
output by about the same share whatever its fan-in. A 3 x 3 x 3 convolution of 128 channels sums 3456 products: at a
learning rate that moves the small layers, AdamW throws its output about.

Kernels keep the norm that they started with. Orthogonal updates add up: after a thousand, each layer would pass on
several times what it gets, and a decoder's last stages drown what is injected there in numbers of 1e4.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Momentum, then the nearest orthogonal matrix by five Newton-Schulz steps (Jordan et al., 2024); norms stay."""

    def __init__(self, parameters: Iterable[Tensor], *, lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]  # never a closure here
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                buffer = state.setdefault("momentum", torch.zeros_like(parameter))
                norm = state.setdefault("norm", parameter.norm())
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(buffer, group["momentum"]).flatten(1)
                rows, columns = update.shape
                scale = max(1.0, rows / columns) ** 0.5
                parameter.add_(orthogonal(update).view_as(parameter), alpha=-group["lr"] * scale)
                if norm > 0:  # one that starts at zero has no norm to keep
                    parameter.mul_(norm / parameter.norm())


def orthogonal(matrix: Tensor) -> Tensor:
    """The orthogonal factor of a matrix, singular values pushed to between about 0.7 and 1.2."""
    x: Tensor = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if tall else x
