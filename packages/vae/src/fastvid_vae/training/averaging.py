"""A moving average of a model's weights, which is often the better model."""

import torch
from torch import Tensor, nn


class WeightAverage(nn.Module):
    """The average as buffers, so that whatever saves the module it is part of saves and restores it as well.

    Source: OD-VAE, section 4.1, with a decay of 0.999; updated after every step of the autoencoder.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        """Starts with the weights that `model` has.

        Raises:
            ValueError: `decay` is not a share below 1.
        """
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"`decay` is {decay}; expected 0 or more, and less than 1")
        self.decay = decay
        for name, parameter in model.named_parameters():
            self.register_buffer(_buffer(name), parameter.detach().clone())

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """average <- decay average + (1 - decay) weights."""
        for name, parameter in model.named_parameters():
            self.get_buffer(_buffer(name)).lerp_(parameter, 1 - self.decay)

    def weights(self) -> dict[str, Tensor]:
        """The averages, named as the model's parameters."""
        return {name.replace("/", "."): buffer for name, buffer in self.named_buffers()}


def _buffer(name: str) -> str:
    """Names of buffers hold no dots."""
    return name.replace(".", "/")
