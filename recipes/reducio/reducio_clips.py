"""Clips of 16 frames for Reducio's autoencoder: camera motions over photos, and real ones.

Photos, clips, their split and the motions are those of the embedded model's recipe.
"""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

sys.path.append(str(Path(__file__).parents[1] / "embedded"))

from camera_motion import MOTIONS, STILL, Motion, Request, sample_motion, sample_request  # by the line above
from data import Clips, Photos

__all__ = [
    "FRAME_SIDE",
    "LATENT_SIDE",
    "MOTIONS",
    "NUM_FRAMES",
    "TIMES",
    "Item",
    "Motion",
    "Photos",
    "Request",
    "TrainingClips",
    "batches",
    "overlap",
    "sample_request",
    "validation_clips",
]

NUM_FRAMES = 16
FRAME_SIDE = 128
LATENT_SIDE = 32
"""Pixels that a latent covers."""

SHORT_SIDE = 144
"""Of the real clips that training windows are cut out of."""

CLIP_SHARE = 0.5
"""How many training clips are real ones."""


def times(num_frames: int) -> list[float]:
    """Of the frames of a camera motion, from 0 to 1."""
    return [frame / (num_frames - 1) for frame in range(num_frames)]


TIMES = times(NUM_FRAMES)
Item = tuple[Tensor, Tensor]


class TrainingClips(Dataset[Item]):
    """Item i is a window of a clip (3 T side side) and the noise of its latents: the same in every run of a seed."""

    def __init__(
        self, data: Path, side: int, noise_shape: tuple[int, ...], seed: int, num_frames: int = NUM_FRAMES
    ) -> None:
        self.num_frames = num_frames
        self.photos = Photos(data, "train")
        self.clips = Clips(data, "train", SHORT_SIDE)
        self.side, self.noise_shape, self.seed = side, noise_shape, seed

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, index: int) -> Item:
        rng = random.Random(f"reducio {self.seed} {index}")
        if rng.random() < CLIP_SHARE:
            clip = self.clips.clip(self.num_frames, FRAME_SIDE, rng)
        else:
            photo, motion = rng.randrange(len(self.photos.photos)), sample_motion(rng)
            clip = self.photos.clip(photo, motion, times(self.num_frames), FRAME_SIDE, rng)
        top, left = (rng.randrange(FRAME_SIDE - self.side + 1) for _ in range(2))
        noise = torch.randn(self.noise_shape, generator=torch.Generator().manual_seed(rng.getrandbits(63)))
        return clip[:, :, top : top + self.side, left : left + self.side], noise


def batches(clips: TrainingClips, size: int, first_step: int, device: str) -> Iterator[Item]:
    """Batch i holds the items from i `size` on: a function of i alone."""
    order = range(first_step * size, len(clips))
    for frames, noise in DataLoader(clips, size, sampler=order, num_workers=1):
        yield frames.to(device, memory_format=torch.channels_last_3d), noise.to(device)


def overlap(tile: int | None) -> float:
    """Of tiles of this side, as a share of it; those of one latent have nothing to share."""
    return 0.5 if tile is not None and tile > LATENT_SIDE else 0.0


def validation_clips(data: Path, num_frames: int = NUM_FRAMES) -> dict[str, list[Tensor]]:
    """Clips (3 T 128 128) that are never trained on, by kind: the moving camera over photos, and the real ones."""
    photos, clips = Photos(data, "validation"), Clips(data, "validation", FRAME_SIDE)
    motions = [motion for name, motion in MOTIONS.items() if name != STILL]
    return {
        "photos": [
            photos.centred(i, motions[i % len(motions)], times(num_frames), FRAME_SIDE)[0]
            for i in range(len(photos.names))
        ],
        "real clips": [clips.centred(i, num_frames, FRAME_SIDE) for i in range(len(clips.names))],
    }
