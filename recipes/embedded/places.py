"""Two directions of the embedded autoencoder's latents say where their content lies in the first frame."""

import torch
from fastvid_vae import FSAE
from torch import Tensor


class Places:
    """Reads and moves the places that normalised latents (b c t h w) name: offsets (b 2 t h w), in cells.

    Attributes:
        to_cells: (2, c), what a change of normalised latents does to places.
        to_latents: (c, 2), the least change of raw latents that moves places so far, as one of normalised latents.
    """

    def __init__(self, autoencoder: FSAE) -> None:
        place = autoencoder.decoder.place
        assert place is not None  # the embedded decoder is deformable
        weight, std = place.weight[:, :, 0, 0, 0].detach(), torch.tensor(autoencoder.config.latent_std)
        self._autoencoder, self._place = autoencoder, place
        self.to_cells = weight * std
        self.to_latents = torch.linalg.pinv(weight) / std[:, None]

    def of(self, latents: Tensor) -> Tensor:
        """Where the content lies."""
        cells: Tensor = self._place(self._autoencoder.denormalise(latents))
        return cells

    def moved(self, latents: Tensor, cells: Tensor) -> Tensor:
        """Latents that lie so far elsewhere, and are otherwise as they were."""
        return latents + torch.einsum("cp,bpthw->bcthw", self.to_latents, cells)

    def part(self, latents: Tensor) -> Tensor:
        """Of a difference of latents, the difference of places."""
        return torch.einsum("pc,bcthw->bpthw", self.to_cells, latents)
