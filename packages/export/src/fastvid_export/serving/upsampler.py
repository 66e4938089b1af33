"""A latent upsampler that runs as an engine."""

import os
from functools import partial
from typing import Any, NoReturn, final

from jaxtyping import Float
from torch import Tensor

from fastvid_export.interfaces import LatentUpsampler
from fastvid_export.load import LoadedEngine
from fastvid_export.serving.engine_module import EngineModule, Fallback, Policy


@final
class EngineUpsampler:
    """Takes the place of a latent upsampler in a pipeline.

    Args:
        eager: the upsampler that the engine was built from.
        engine: of `upsampler_exportable`.
        fallback: for latents that the engine cannot take.
    """

    def __init__(self, eager: LatentUpsampler, engine: LoadedEngine, *, fallback: Fallback = "error") -> None:
        self.eager = eager
        self._engine = EngineModule(engine)
        self._policy = Policy(fallback, "upsampler")

    @property
    def records(self) -> dict[str, Any]:
        """Keys of the engines, by what they are for."""
        return {"upsampler": self._engine.record.key}

    @property
    def latent_channels(self) -> int:
        """Of a latent."""
        return self.eager.latent_channels

    def __call__(self, latents: Float[Tensor, "b c t h w"], /) -> Float[Tensor, "b c t h2 w2"]:
        """Latents of the larger video, in the dtype of `latents`.

        Raises:
            EngineError: the engine does not take the call, and `fallback` is 'error'.
        """
        return self._policy.call(partial(self._run, latents), partial(self.eager, latents)).to(latents.dtype)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> NoReturn:
        """Refuse: an engine is no checkpoint.

        Raises:
            ValueError: always.
        """
        raise ValueError("an engine cannot be saved as a checkpoint; save the pipeline with its eager upsampler")

    def _run(self, latents: Tensor) -> Tensor:
        return self._engine({"latents": latents})["upsampled"]
