"""An autoencoder that decodes by an engine."""

import os
from functools import partial
from typing import Any, NoReturn, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fastvid_export.errors import EngineError
from fastvid_export.interfaces import ServedAutoencoder
from fastvid_export.load import LoadedEngine
from fastvid_export.serving.engine_module import EngineModule, Fallback, Policy


@final
class EngineAutoencoder:
    """Takes the place of an autoencoder in a pipeline: frames are decoded whole, by the engine; encoding is eager.

    Args:
        eager: the autoencoder that the engine was built from.
        decoder: of `decoder_exportable`.
        fallback: for videos that the engine cannot take.
    """

    def __init__(self, eager: ServedAutoencoder, decoder: LoadedEngine, *, fallback: Fallback = "error") -> None:
        self.eager = eager
        self._decoder = EngineModule(decoder)
        self._policy = Policy(fallback, "decoder")

    @property
    def records(self) -> dict[str, Any]:
        """Keys of the engines, by what they are for."""
        return {"decoder": self._decoder.record.key}

    @property
    def stride(self) -> tuple[int, int, int]:
        """Frames, rows and columns of a latent."""
        return self.eager.stride

    @property
    def latent_channels(self) -> int:
        """Of a latent."""
        return self.eager.latent_channels

    @property
    def takes_reference(self) -> bool:
        """Whether `decode` has a use for the first frame."""
        return self.eager.takes_reference

    def num_latent_frames(self, num_frames: int) -> int:
        """As the model's."""
        return self.eager.num_latent_frames(num_frames)

    def encode(
        self, frames: Float[Tensor, "b 3 T H W"], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b c t h w"]:
        """As the model's, eagerly."""
        return self.eager.encode(frames, generator=generator)

    def decode(
        self,
        latents: Float[Tensor, "b c t h w"],
        *,
        reference: Float[Tensor, "b 3 H W"] | None = None,
        num_frames: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> Float[Tensor, "b 3 T H W"]:
        """Frames in the dtype of `latents`, cropped to `num_frames` and `size`. Arguments as those of the model.

        Raises:
            EngineError: the engine does not take the call, and `fallback` is 'error'.
        """
        return self._policy.call(
            partial(self._run, latents, reference, num_frames, size),
            partial(self.eager.decode, latents, reference=reference, num_frames=num_frames, size=size),
        ).to(latents.dtype)

    def truncated(self, *, stages: int) -> ServedAutoencoder:
        """The model's, eagerly: the engine was built for whole frames."""
        return self.eager.truncated(stages=stages)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> NoReturn:
        """Refuse: an engine is no checkpoint.

        Raises:
            ValueError: always.
        """
        raise ValueError("an engine cannot be saved as a checkpoint; save the pipeline with its eager autoencoder")

    def _run(
        self, latents: Tensor, reference: Tensor | None, num_frames: int | None, size: tuple[int, int] | None
    ) -> Tensor:
        _, row, column = self.eager.stride
        whole = latents.shape[-2] * row, latents.shape[-1] * column
        if reference is not None:
            bottom, right = (side - given for side, given in zip(whole, reference.shape[-2:], strict=True))
            if min(bottom, right) < 0:
                raise EngineError(f"`reference` is {tuple(reference.shape[-2:])}, larger than the video of {whole}")
            reference = F.pad(reference, (0, right, 0, bottom), mode="replicate")  # as the models do
        frames = self._decoder({"latents": latents, "reference": reference})["frames"]
        height, width = size or whole
        if (num_frames or 1) > frames.shape[2] or height > whole[0] or width > whole[1]:
            raise EngineError(
                f"`num_frames` {num_frames} and `size` {size} are more than the latents hold:"
                f" {frames.shape[2]} frames of {whole}"
            )
        return frames[:, :, :num_frames, :height, :width]
