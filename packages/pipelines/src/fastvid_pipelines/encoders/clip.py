"""CLIP's image encoder as Wan uses it: the tokens of the last block but one."""

import os
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPVisionModel

from fastvid_pipelines import checkpoint
from fastvid_pipelines.encoders.clip_pixels import clip_pixels
from fastvid_pipelines.encoders.pretrained import load_pretrained
from fastvid_pipelines.errors import CheckpointError


class CLIPImageEncoder:
    """A CLIP vision tower; for Wan and FSVideo ViT-H/14, 257 tokens 1280 wide."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def encode(self, image: Float[Tensor, "b 3 H W"], /) -> Float[Tensor, "b m e"]:
        """Tokens of pictures in [-1, 1]: squashed to a square (bicubic), normalised, class token first."""
        size = self.model.config.image_size
        square = F.interpolate(image.float(), size=(size, size), mode="bicubic", align_corners=False)
        hidden = self.model(
            clip_pixels(square).to(self.model.device, self.model.dtype), output_hidden_states=True
        ).hidden_states
        tokens: Tensor = hidden[-2]
        return tokens

    @classmethod
    def from_transformers(
        cls,
        path_or_repo_id: str | os.PathLike[str],
        *,
        subfolder: str = "image_encoder",
        revision: str | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Read the vision tower as Wan's repositories in the diffusers layout hold it.

        Args:
            dtype: of the weights; None: float32.
        Raises:
            CheckpointError: it is missing, damaged or incomplete.
        """
        model = load_pretrained(
            CLIPVisionModel,
            os.fspath(path_or_repo_id),
            dtype=dtype,
            device=device,
            subfolder=subfolder,
            revision=revision,
            local_files_only=local_files_only,
        )
        return cls(model)

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
        """
        folder = checkpoint.find_folder(
            path_or_repo_id, subfolder=subfolder, revision=revision, local_files_only=local_files_only
        )
        config = checkpoint.read_json(folder / checkpoint.CONFIG_NAME)
        if config != {"_class_name": cls.__name__}:
            raise CheckpointError(f"{folder / checkpoint.CONFIG_NAME} holds {config}; expected only `_class_name`")
        return cls.from_transformers(folder, subfolder="model", dtype=dtype, device=device, local_files_only=True)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write a new folder: config.json, and `model` as transformers writes it."""
        with checkpoint.new_folder(directory) as folder:
            checkpoint.write_json(Path(folder, checkpoint.CONFIG_NAME), {"_class_name": type(self).__name__})
            self.model.save_pretrained(folder / "model")
