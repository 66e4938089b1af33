"""Clips of 17 frames for OD-VAE, and single pictures for the image autoencoder that it starts from.

Photos, clips and their split are those of the embedded model's recipe; the windows are cut as Reducio's are.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor
from torch.utils.data import DataLoader

sys.path.append(str(Path(__file__).parents[1] / "reducio"))

from reducio_clips import TrainingClips, batches, validation_clips  # by the line above

__all__ = ["NUM_FRAMES", "TrainingClips", "batches", "pictures", "validation_clips"]

NUM_FRAMES = 17


def pictures(clips: TrainingClips, size: int, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
    """First frames (b 3 side side) of the clips, and the noise of their latents: a function of the step alone."""
    order = range(first_step * size, len(clips))
    for frames, noise in DataLoader(clips, size, sampler=order, num_workers=1):
        yield frames[:, :, 0], noise
