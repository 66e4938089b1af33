"""What stands in, at toy size, for the two pretrained networks that look at Reducio-DiT's content frame.

The paper takes the latents of Stable Diffusion's autoencoder (where things are, and how exactly they look) and tokens
of OpenCLIP (what they are). Neither can be trained here. One small autoencoder of pictures gives both: its latents, and
the features that these are read off. The features know edges and colours, and no meaning.
"""

import torch
from torch import Tensor, nn

LATENT_CHANNELS, FEATURE_WIDTH = 4, 64
WIDTHS = (16, 32, FEATURE_WIDTH)
PICTURE_STRIDE = 2 ** len(WIDTHS)
GRID = 128 // PICTURE_STRIDE
"""Rows and columns of the features of a picture of 128 x 128 pixels."""


class PictureAutoencoder(nn.Module):
    """Pictures in [-1, 1] <-> four channels at an eighth of the height and width."""

    def __init__(self) -> None:
        super().__init__()
        first, second, last = WIDTHS
        self.encoder = nn.Sequential(_down(3, first), _down(first, second), _down(second, last))
        self.to_latents = nn.Conv2d(last, LATENT_CHANNELS, 1)
        self.from_latents = nn.Conv2d(LATENT_CHANNELS, last, 1)
        self.decoder = nn.Sequential(_up(last, second), _up(second, first), _up(first, first))
        self.to_pixels = nn.Conv2d(first, 3, 3, padding=1)

    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Of b 3 H W: the features as tokens, b (h w) 64 row by row, and the latents b 4 h w."""
        features = self.encoder(pictures)
        return features.flatten(2).mT, self.to_latents(features)

    def loss(self, pictures: Tensor) -> Tensor:
        """Mean absolute error of the reconstruction."""
        latents = self.to_latents(self.encoder(pictures))
        decoded = self.to_pixels(self.decoder(self.from_latents(latents)))
        error: Tensor = (decoded - pictures).abs().mean()
        return error


def _down(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, out, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(out, out, 3, padding=1),
        nn.GroupNorm(4, out),
    )


def _up(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.SiLU(),
        nn.Conv2d(width, out, 3, padding=1),
        nn.GroupNorm(4, out),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(out, out, 3, padding=1),
    )


@torch.no_grad()
def look(model: PictureAutoencoder, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Semantic tokens (b 256 64) and content latents (b 4 16 16) of pictures of 128 x 128 pixels."""
    return model.encode(pictures)
