"""Scratch memory that engines take turns in."""

from typing import final

import torch
from torch import Tensor


@final
class ActivationMemory:
    """Shared by engines that run one after another on one stream, such as those of a pipeline.

    It is as large as the largest of them asked for, and not as all of them together.
    """

    def __init__(self) -> None:
        self._buffers: dict[torch.device, Tensor] = {}

    def of(self, size: int, device: torch.device) -> Tensor:
        """At least `size` bytes there."""
        buffer = self._buffers.get(device)
        if buffer is None or buffer.numel() < size:
            self._buffers[device] = buffer = torch.empty(0, dtype=torch.uint8, device=device)  # frees the old one first
            self._buffers[device] = buffer = torch.empty(size, dtype=torch.uint8, device=device)
        return buffer
