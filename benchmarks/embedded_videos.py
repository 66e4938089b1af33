"""Videos of the embedded model with one seed, and how far apart two of them are."""

from typing import Any

import torch
from fastvid_pipelines import FSVideoPipeline, TensorClip
from torch import Tensor

EQUAL = 60.0
"""What two equal videos count as, in dB."""


def make(
    pipe: FSVideoPipeline, photo: Tensor, prompt: str, accelerator: Any, *, num_frames: int | None = None
) -> TensorClip:
    return pipe(
        image=photo,
        prompt=prompt,
        num_frames=num_frames,
        generator=torch.Generator().manual_seed(0),
        output_type="pt",
        accelerator=accelerator,
    )


def psnr(frames: Tensor, reference: Tensor) -> float:
    """In dB, frames in [-1, 1], the first one left out: all have it from the photo."""
    error = (frames.clamp(-1, 1) - reference.clamp(-1, 1))[:, 1:].square().mean()
    return float(10 * torch.log10(4 / error.clamp(min=4 * 10 ** (-EQUAL / 10))))
