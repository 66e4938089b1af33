"""Stable Diffusion's autoencoder as Reducio-DiT reads it: latents of one frame, sampled, unscaled."""

import os
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from fastvid_pipelines import checkpoint
from fastvid_pipelines.encoders.pretrained import check_report
from fastvid_pipelines.errors import CheckpointError, reducio_package_missing


class SDContentEncoder:
    """An `AutoencoderKL` of diffusers; for Reducio stabilityai/sd-vae-ft-ema, 4 channels, 8 pixels a latent."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    def stride(self) -> int:
        """Pixels of a latent, down and across."""
        return 1 << (len(self.model.config.block_out_channels) - 1)

    @property
    def latent_channels(self) -> int:
        return int(self.model.config.latent_channels)

    def encode(self, image: Float[Tensor, "b 3 H W"], /, *, generator: torch.Generator) -> Float[Tensor, "b k h w"]:
        """Latents of pictures in [-1, 1] whose sides `stride` divides.

        Args:
            generator: on the CPU; the posterior is sampled, with noise in float32, as in Reducio's training.
        Source: Reducio, section 3.2; the released extract_latent.py for sampling and scale.
        """
        posterior = self.model.encode(image.to(self.model.device, self.model.dtype)).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator, dtype=torch.float32)
        latents: Tensor = posterior.mean + posterior.std * noise.to(posterior.mean.device, posterior.mean.dtype)
        return latents

    @classmethod
    def from_diffusers(
        cls,
        path_or_repo_id: str | os.PathLike[str] = "stabilityai/sd-vae-ft-ema",
        *,
        subfolder: str | None = None,
        revision: str | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Read an `AutoencoderKL` as diffusers writes it, here or on the hub.

        Args:
            subfolder: `vae` in the repository of a whole Stable Diffusion.
            dtype: of the weights; None: float32.
        Raises:
            CheckpointError: it is missing, unreachable, damaged or incomplete.
            MissingPackageError: diffusers is not installed.
        """
        try:
            from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        except ImportError as error:
            raise reducio_package_missing("diffusers", "SDContentEncoder") from error
        path = os.fspath(path_or_repo_id)
        model_class: Any = AutoencoderKL
        try:
            model, report = model_class.from_pretrained(
                path,
                subfolder=subfolder,
                revision=revision,
                torch_dtype=dtype or torch.float32,
                use_safetensors=True,
                local_files_only=local_files_only,
                low_cpu_mem_usage=False,  # which needs accelerate, and leaves what is missing empty
                ignore_mismatched_sizes=True,  # they are reported, and refused below
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            if "DefaultCPUAllocator" in str(error):
                raise
            raise CheckpointError(f"`path_or_repo_id` is {path!r}: {error}") from error
        check_report(model, report, path)
        return cls(model.to(device or "cpu").eval())

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
            dtype: of the weights; None: float32.
        Raises:
            CheckpointError: something in the folder is missing, unknown or damaged.
            MissingPackageError: diffusers is not installed.
        """
        folder = checkpoint.find_folder(
            path_or_repo_id, subfolder=subfolder, revision=revision, local_files_only=local_files_only
        )
        config = checkpoint.read_json(folder / checkpoint.CONFIG_NAME)
        if config != {"_class_name": cls.__name__}:
            raise CheckpointError(f"{folder / checkpoint.CONFIG_NAME} holds {config}; expected only `_class_name`")
        return cls.from_diffusers(folder, subfolder="model", dtype=dtype, device=device, local_files_only=True)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write a new folder: config.json, and `model` as diffusers writes it."""
        with checkpoint.new_folder(directory) as folder:
            checkpoint.write_json(Path(folder, checkpoint.CONFIG_NAME), {"_class_name": type(self).__name__})
            self.model.save_pretrained(folder / "model")
