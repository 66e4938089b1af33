"""Gaussian noise that the decoder's convolution blocks add. Source: FSVideo, section 2.2 (fixed weight 0.05)."""

from typing import Literal

import torch
from torch import Tensor

NoiseMode = Literal["off", "spatial", "full"]


class Noise:
    """The noise of one pass over one video.

    `spatial` draws one (h, w) map per block and holds it over channels and time, so that a chunked pass sees the maps
    of the whole one; `full` draws a value per element; `off` adds nothing.
    """

    def __init__(self, mode: NoiseMode, weight: float, generator: torch.Generator | None) -> None:
        self._mode: NoiseMode = mode
        self._weight = weight
        self._generator = generator
        self._maps: list[Tensor] = []
        self._block = 0

    def fresh(self) -> "Noise":
        """The same noise source without the maps drawn so far: for another picture, or another tile of this one."""
        return Noise(self._mode, self._weight, self._generator)

    def next_chunk(self) -> None:
        """The next calls belong to the following chunk of the same video."""
        self._block = 0

    def add(self, x: Tensor) -> Tensor:  # b c t h w
        if self._mode == "off":
            return x
        if self._mode == "full":
            return x + self._weight * self._draw(x, x.shape)
        if self._block == len(self._maps):
            self._maps.append(self._draw(x, torch.Size((x.shape[0], 1, 1, *x.shape[3:]))))
        noise = self._maps[self._block]
        self._block += 1
        return x + self._weight * noise

    def _draw(self, x: Tensor, shape: torch.Size) -> Tensor:
        device = x.device if self._generator is None else self._generator.device
        noise = torch.randn(shape, generator=self._generator, device=device, dtype=torch.float32)
        return noise.to(device=x.device, dtype=x.dtype)
