"""Any text-to-image pipeline of diffusers as what makes the frame that a video is built on."""

import os
from typing import Any, Self

import torch
from PIL import Image
from safetensors import SafetensorError

from fastvid_pipelines.errors import CheckpointError, reducio_package_missing

SIDE = 32
"""Pixels that sides are rounded up to: what autoencoders and patches of image models divide by."""


class DiffusersTextToImage:
    """Calls a pipeline of diffusers for one picture, of sides rounded up to multiples of 32."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe

    def __call__(self, prompt: str, /, *, height: int, width: int, generator: torch.Generator) -> Image.Image:
        """One picture of the prompt, at least `height` x `width`.

        Raises:
            ValueError: the pipeline returned something else.
        """
        sides = {"height": -(-height // SIDE) * SIDE, "width": -(-width // SIDE) * SIDE}
        made = self.pipe(prompt=prompt, generator=generator, output_type="pil", **sides)
        images = getattr(made, "images", made)
        if not isinstance(images, list) or len(images) != 1 or not isinstance(images[0], Image.Image):
            found = f"{len(images)} items" if isinstance(images, list) else type(images).__name__
            raise ValueError(f"`text_to_image` returned {found}; expected one picture of PIL, in `images`")
        return images[0]

    @classmethod
    def from_pretrained(
        cls,
        path_or_repo_id: str | os.PathLike[str],
        *,
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        local_files_only: bool = False,
    ) -> Self:
        """Load a text-to-image pipeline of diffusers, from a folder or the hub; safetensors only, no remote code.

        Raises:
            CheckpointError: it cannot be reached, is damaged, or makes no pictures of text.
            MissingPackageError: diffusers is not installed.
        """
        try:
            from diffusers.pipelines.auto_pipeline import AutoPipelineForText2Image
        except ImportError as error:
            raise reducio_package_missing("diffusers", "`text_to_image`") from error
        path = os.fspath(path_or_repo_id)
        loader: Any = AutoPipelineForText2Image
        try:
            pipe = loader.from_pretrained(
                path, revision=revision, dtype=dtype, use_safetensors=True, local_files_only=local_files_only
            )
        except (OSError, ValueError, SafetensorError) as error:
            raise CheckpointError(f"`text_to_image` is {path!r}: {error}") from error
        pipe.set_progress_bar_config(disable=True)  # the stages have lines of their own
        return cls(pipe.to(device))
