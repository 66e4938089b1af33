"""Latents of a small video to latents of one twice as high and wide. Source: FSVideo, section 2.4.1."""

import os
from dataclasses import dataclass
from typing import Self

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from fastvid_vae import checkpoint
from fastvid_vae.arguments import check_range
from fastvid_vae.layers.norm import PixelNorm
from fastvid_vae.layers.stream import Stream
from fastvid_vae.layers.temporal_conv import CenteredConv3d


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentUpsamplerConfig:
    """Architecture of a `LatentUpsampler`.

    Attributes:
        latent_channels: channels of a latent, those of the autoencoder.
        width: channels of the residual blocks.
        num_blocks: residual blocks after the shuffle.
    """

    latent_channels: int
    width: int
    num_blocks: int

    def __post_init__(self) -> None:
        for name, most in (("latent_channels", 4096), ("width", 16384), ("num_blocks", 256)):
            check_range(name, getattr(self, name), 1, most)


LATENT_UPSAMPLER_2X = LatentUpsamplerConfig(latent_channels=128, width=512, num_blocks=16)
"""The upsampler of FSVideo: 235,391,104 parameters. The paper gives 16 blocks; their width is ours."""


class LatentUpsampler(nn.Module):
    """Projection, pixel shuffle, residual blocks at the high resolution, added to the nearest-upsampled latents.

    A new one is the nearest upsampling itself. Every norm looks at one position alone, so any size and length works;
    convolutions see one latent frame before and one after, since the whole video is known.
    """

    def __init__(self, config: LatentUpsamplerConfig) -> None:
        super().__init__()
        self.config = config
        self.project = CenteredConv3d(config.latent_channels, 4 * config.width)
        self.blocks = nn.ModuleList(UpsamplerBlock(config.width) for _ in range(config.num_blocks))
        self.conv_out = CenteredConv3d(config.width, config.latent_channels)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]  # the layer is built with a bias

    @classmethod
    def from_pretrained(
        cls,
        path_or_repo_id: str | os.PathLike[str],
        *,
        subfolder: str | None = None,
        revision: str | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Read a folder that `save_pretrained` wrote, here or on the hub; arguments and errors as in `FSAE`."""
        folder = checkpoint.find_folder(
            path_or_repo_id, subfolder=subfolder, revision=revision, local_files_only=local_files_only
        )
        model = checkpoint.build_empty(cls, checkpoint.read_config(folder, LatentUpsamplerConfig, cls.__name__))
        checkpoint.load_weights(model, folder, dtype=dtype, device=device)
        return model

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write config.json and model.safetensors; the folder is never seen half-written."""
        checkpoint.save(self, self.config, directory)

    @property
    def latent_channels(self) -> int:
        return self.config.latent_channels

    def forward(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h2 w2"]:
        """Normalised latents to normalised latents, `h2` = 2 h and `w2` = 2 w.

        Raises:
            ValueError: another number of axes or channels.
        """
        if latents.dim() != 5 or latents.shape[1] != self.latent_channels:
            raise ValueError(
                f"`latents` have the shape {tuple(latents.shape)}; expected b, {self.latent_channels}, t, h, w"
            )
        whole = Stream()
        x = self.project(latents, whole)
        x = rearrange(x, "b (c dy dx) t h w -> b c t (h dy) (w dx)", dy=2, dx=2)
        for block in self.blocks:
            x = block(x, whole)
        nearest = repeat(latents, "b c t h w -> b c t (h dy) (w dx)", dy=2, dx=2)
        upsampled: Tensor = nearest + self.conv_out(x, whole)
        return upsampled


class UpsamplerBlock(nn.Module):
    """Norm, SiLU, convolution, twice, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = PixelNorm(width, affine=True)
        self.conv1 = CenteredConv3d(width, width)
        self.norm2 = PixelNorm(width, affine=True)
        self.conv2 = CenteredConv3d(width, width)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        branch = self.conv1(functional.silu(self.norm1(x)), stream)
        branch = self.conv2(functional.silu(self.norm2(branch)), stream)
        out: Tensor = x + branch
        return out
