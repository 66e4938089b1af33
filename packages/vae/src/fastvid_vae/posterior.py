"""What a variational encoder knows of the latents: a diagonal Gaussian."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LOGVAR_RANGE = (-30.0, 20.0)


@dataclass(frozen=True, slots=True)
class Posterior:
    """N(mean, exp(logvar)), independent in every element; b c t h w both."""

    mean: Tensor
    logvar: Tensor

    @classmethod
    def from_moments(cls, moments: Float[Tensor, "b c2 t h w"]) -> "Posterior":
        """From mean and log-variance, one after the other along the channels; the latter clamped to [-30, 20]."""
        channels = moments.shape[1] // 2
        return cls(moments[:, :channels], moments[:, channels:].clamp(*LOGVAR_RANGE))

    def sample(self, generator: torch.Generator) -> Float[Tensor, "b c t h w"]:
        """One draw; the noise is made on the generator's device.

        Raises:
            ValueError: a `generator` that is none.
        """
        if not isinstance(generator, torch.Generator):
            raise ValueError(f"`generator` is {generator!r}; expected a torch.Generator, or None for the mean")
        noise = torch.randn(self.mean.shape, generator=generator, device=generator.device, dtype=self.mean.dtype)
        return self.mean + torch.exp(0.5 * self.logvar) * noise.to(self.mean.device)

    def kl(self) -> Float[Tensor, " b"]:
        """Divergence from the standard normal, in nats, summed over all elements of a video."""
        terms = self.mean.square() + self.logvar.exp() - 1 - self.logvar
        return 0.5 * terms.sum(dim=(1, 2, 3, 4))
