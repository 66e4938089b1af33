"""The adversarial part of training: a multiscale 3-D discriminator, its losses and R1. FSVideo, section 2.2.1.

The paper names a "3D multiscale discriminator", the non-saturating logistic loss and R1; layers and scales are ours.
There is no normalisation: spectral norm would bound what R1 is there to bound, and batch norm would mix the clips.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """Clips to one logit a patch of space and time; layers halve space, and time as well but for the first."""

    def __init__(self, width: int, num_layers: int) -> None:
        super().__init__()
        widths = [3, *(width << min(layer, 3) for layer in range(num_layers))]
        self.layers = nn.ModuleList(
            nn.Conv3d(widths[i], widths[i + 1], (3, 4, 4), stride=(2 if i else 1, 2, 2), padding=1)
            for i in range(num_layers)
        )
        self.head = nn.Conv3d(widths[-1], 1, 3, padding=1)

    def forward(self, frames: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b 1 t h w"]:
        x = frames
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), SLOPE)
        logits: Tensor = self.head(x)
        return logits


class MultiscaleDiscriminator(nn.Module):
    """A `PatchDiscriminator` for each of the scales 1, 1/2, 1/4, ... of space."""

    def __init__(self, *, width: int = 64, num_layers: int = 4, num_scales: int = 3) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PatchDiscriminator(width, num_layers) for _ in range(num_scales))

    def forward(self, frames: Float[Tensor, "b 3 T H W"]) -> Sequence[Float[Tensor, "b 1 t h w"]]:
        """Logits of every scale.

        Args:
            frames: in [-1, 1]; every side at least 2 to the power of layers and scales.
        """
        logits = []
        for index, discriminator in enumerate(self.scales):
            scaled = functional.avg_pool3d(frames, (1, 1 << index, 1 << index)) if index else frames
            logits.append(discriminator(scaled))
        return logits


def discriminator_loss(real: Sequence[Tensor], decoded: Sequence[Tensor]) -> Float[Tensor, ""]:
    """softplus(-D(real)) + softplus(D(decoded)), the mean over patches and scales."""
    terms = [functional.softplus(-a).mean() + functional.softplus(b).mean() for a, b in zip(real, decoded, strict=True)]
    return torch.stack(terms).mean()


def generator_loss(decoded: Sequence[Tensor]) -> Float[Tensor, ""]:
    """softplus(-D(decoded)): the non-saturating form."""
    return torch.stack([functional.softplus(-logits).mean() for logits in decoded]).mean()


def r1_penalty(
    discriminator: MultiscaleDiscriminator, real: Float[Tensor, "b 3 T H W"], *, gamma: float = 1.0
) -> Float[Tensor, ""]:
    """gamma / 2 |grad_x D(x)|^2 on real clips, D being the mean of all logits of a clip.

    Source: Mescheder et al., 2018. Often computed in every 16th step only, with 16 times the gamma.
    """
    real = real.detach().requires_grad_()
    scores = torch.stack([logits.flatten(1).mean(dim=1) for logits in discriminator(real)]).mean(dim=0)
    (gradient,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
    return gamma / 2 * gradient.square().flatten(1).sum(dim=1).mean()
