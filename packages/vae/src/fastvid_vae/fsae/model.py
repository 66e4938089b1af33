"""FSAE: the highly compressing video autoencoder of FSVideo (section 2.2)."""

import logging
import os
from collections.abc import Sequence
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from fastvid_vae import checkpoint
from fastvid_vae.fsae.config import FSAEConfig
from fastvid_vae.fsae.decoder import Decoder
from fastvid_vae.fsae.encoder import Encoder
from fastvid_vae.layers.noise import Noise, NoiseMode
from fastvid_vae.layers.stream import Stream

logger = logging.getLogger(__name__)


class FSAE(nn.Module):
    """Frames in [-1, 1] <-> normalised latents, at `stride` (time, height, width).

    The encoder is causal, so 1 + 4k frames give 1 + k latents, the first latent knows the first frame alone, and a
    video can be encoded in chunks. The decoder may be given the first frame again (`reference`): its encoder features
    enter by cross-attention.
    """

    def __init__(self, config: FSAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

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
        """Read a folder that `save_pretrained` wrote, here or on the hub.

        Args:
            path_or_repo_id: a folder, or a repository of the hub (owner/name).
            subfolder: where in it the autoencoder lies, as in the folder of a pipeline.
            revision: branch, tag or commit on the hub.
            dtype: of the weights in memory; None is float32, whatever the files hold.
            device: None is the CPU.
            local_files_only: never ask the hub.
        Raises:
            CheckpointError: the folder is not there, incomplete, damaged, or of another model.
        """
        folder = checkpoint.find_folder(
            path_or_repo_id, subfolder=subfolder, revision=revision, local_files_only=local_files_only
        )
        model = checkpoint.build_empty(cls, checkpoint.read_config(folder, FSAEConfig, cls.__name__))
        checkpoint.load_weights(model, folder, dtype=dtype, device=device)
        return model

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write config.json and model.safetensors; the folder is never seen half-written."""
        checkpoint.save(self, self.config, directory)

    @property
    def stride(self) -> tuple[int, int, int]:
        return self.config.stride

    @property
    def latent_channels(self) -> int:
        return self.config.latent_channels

    def num_latent_frames(self, num_frames: int) -> int:
        """Latent frames of a video of `num_frames` frames, padded to 1 + 4k."""
        if num_frames < 1:
            raise ValueError(f"`num_frames` is {num_frames}; expected at least 1 (nearest legal values: 1 and 2)")
        return 1 + -(-(num_frames - 1) // self.stride[0])

    def encode(
        self, frames: Float[Tensor, "b 3 T H W"], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b c t h w"]:
        """Normalised latents. Any number of frames and any size: the last frame and the border are repeated to fit.

        Args:
            frames: pixels in [-1, 1].
            generator: must be None; an FSAE is no variational model and has nothing to sample.
        """
        if generator is not None:
            raise ValueError("`generator` has no effect: FSAE is a plain autoencoder and `encode` samples nothing")
        return self.normalise(self.encoder(self._pad(frames), Stream())[0])

    def decode(
        self,
        latents: Float[Tensor, "b c t h w"],
        *,
        reference: Float[Tensor, "b 3 H W"] | None = None,
        num_frames: int | None = None,
        size: tuple[int, int] | None = None,
        generator: torch.Generator | None = None,
        noise_mode: NoiseMode = "off",
    ) -> Float[Tensor, "b 3 T H W"]:
        """Frames, cropped to `num_frames` and `size`.

        Args:
            latents: normalised, as `encode` returns them.
            reference: the first frame in [-1, 1], of the size of the video; None decodes from the latents alone.
            num_frames, size: what to crop to; None: all that the latents hold.
            generator, noise_mode: the decoder's noise (section 2.2); off by default, so that decoding is a function.
        """
        features = None if reference is None else self.first_frame_features(reference)
        noise = Noise(noise_mode, self.config.noise_weight, generator)
        frames = self.decoder(self.denormalise(latents), features, Stream(), noise)
        height, width = size or frames.shape[3:]
        return frames[:, :, : num_frames or frames.shape[2], :height, :width]

    def first_frame_features(self, reference: Float[Tensor, "b 3 H W"]) -> Sequence[Tensor]:
        """The encoder's features of the first frame, one per stage; what the decoder attends to."""
        return self.encoder(self._pad(reference.unsqueeze(2)), Stream())[1]

    def normalise(self, raw: Tensor) -> Tensor:
        mean, std = self._statistics(raw)
        return (raw - mean) / std

    def denormalise(self, latents: Tensor) -> Tensor:
        mean, std = self._statistics(latents)
        return latents * std + mean

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.tensor(self.config.latent_mean, device=like.device, dtype=like.dtype).view(1, -1, 1, 1, 1)
        std = torch.tensor(self.config.latent_std, device=like.device, dtype=like.dtype).view(1, -1, 1, 1, 1)
        return mean, std

    def _pad(self, frames: Tensor) -> Tensor:
        """Repeat the last frame to 1 + 4k frames and the border to whole latent cells."""
        time, height, width = self.stride
        missing = (-(frames.shape[2] - 1) % time, -frames.shape[3] % height, -frames.shape[4] % width)
        if not any(missing):
            return frames
        logger.info("padding %s by %s frames, rows and columns", tuple(frames.shape[2:]), missing)
        return functional.pad(frames, (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")
