"""The adversarial part of Reducio-VAE's training: a 3-D PatchGAN, the hinge loss and an adaptive weight.

The paper says "PatchGAN" and no more; layers, losses and weights are those of its released code. Unlike FSAE's
discriminator it has one scale and batch norm, so that the clips of a batch mix.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from fastvid_vae.training.adversarial import SLOPE

LARGEST_WEIGHT = 1e4
GRADIENT_EPS = 1e-4


class PatchGAN(nn.Module):
    """Clips to one logit a patch. Three layers halve height, width and time, a fourth sees more of the picture.

    4,216,641 parameters at the released width of 64; what it says of one patch depends on 70 x 70 pixels.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.first = nn.Conv3d(3, width, 4, stride=2, padding=1)
        self.layers = nn.ModuleList(
            [
                nn.Conv3d(width, 2 * width, 4, stride=2, padding=1, bias=False),
                nn.Conv3d(2 * width, 4 * width, (3, 4, 4), stride=2, padding=1, bias=False),
                nn.Conv3d(4 * width, 8 * width, (1, 4, 4), padding=(0, 1, 1), bias=False),
            ]
        )
        self.norms = nn.ModuleList(nn.BatchNorm3d(factor * width) for factor in (2, 4, 8))
        self.head = nn.Conv3d(8 * width, 1, (1, 4, 4), padding=(0, 1, 1))
        self.apply(init_patchgan)

    def forward(self, frames: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b 1 t h w"]:
        """Logits, larger where a patch looks real.

        Args:
            frames: in [-1, 1]; at least 4 frames of 24 x 24 pixels.
        """
        x = functional.leaky_relu(self.first(frames), SLOPE)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = functional.leaky_relu(norm(layer(x)), SLOPE)
        logits: Tensor = self.head(x)
        return logits


def hinge_discriminator_loss(real: Tensor, decoded: Tensor) -> Float[Tensor, ""]:
    """(ReLU(1 - D(real)) + ReLU(1 + D(decoded))) / 2, the mean over patches."""
    return 0.5 * (functional.relu(1 - real).mean() + functional.relu(1 + decoded).mean())


def hinge_generator_loss(decoded: Tensor) -> Float[Tensor, ""]:
    """-D(decoded), the mean over patches."""
    return -decoded.mean()


def adaptive_weight(
    reconstruction: Float[Tensor, ""], adversarial: Float[Tensor, ""], last_layer: Tensor
) -> Float[Tensor, ""]:
    """|gradient of the reconstruction| / (|gradient of the adversarial loss| + 1e-4), at most 1e4; without a gradient.

    Times it, the adversarial loss pulls at the decoder's last layer as hard as the reconstruction does.

    Args:
        reconstruction, adversarial: losses whose graphs are kept.
        last_layer: the weight with respect to which both gradients are taken.
    Source: Esser et al., 2021 (VQGAN), equation 7; the constants are those of Reducio's code.
    """
    reconstruction_norm, adversarial_norm = (
        torch.autograd.grad(loss, last_layer, retain_graph=True)[0].norm() for loss in (reconstruction, adversarial)
    )
    weight: Tensor = reconstruction_norm / (adversarial_norm + GRADIENT_EPS)
    return weight.clamp(max=LARGEST_WEIGHT).detach()


def init_patchgan(module: nn.Module) -> None:
    """Weights of a discriminator before its training, as in pix2pix; for `Module.apply`."""
    if isinstance(module, nn.Conv3d):
        nn.init.normal_(module.weight, std=0.02)
    elif isinstance(module, nn.BatchNorm3d):
        nn.init.normal_(module.weight, mean=1.0, std=0.02)
