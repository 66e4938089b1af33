"""Photos and real clips as training and validation material.

Which file is which stands in a split.json: the data folder's own, or else the one beside this file.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import torch
from camera_motion import Motion, sources, visible, warp
from PIL import Image
from torch import Tensor
from torch.nn import functional

SPLIT = json.loads((Path(__file__).parent / "split.json").read_text())


def names_of(data: Path, kind: str, split: str) -> list[str]:
    """Files of `kind` (photos or clips) that belong to `split` (train or validation)."""
    own = data / "split.json"
    table = json.loads(own.read_text()) if own.exists() else SPLIT
    names: list[str] = table[kind][split]
    return names


def load_photo(path: Path) -> Tensor:
    """(3, H, W) uint8."""
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)


def load_clip(path: Path, short_side: int) -> Tensor:
    """(3, T, H, W) uint8, scaled to the given short side."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    video = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    scale = short_side / min(video.shape[2:])
    size = [round(side * scale) for side in video.shape[2:]]
    resized = [functional.interpolate(part.float(), size, mode="bicubic", antialias=True) for part in video.split(16)]
    return torch.cat(resized).round().clamp(0, 255).to(torch.uint8).transpose(0, 1)


def to_unit(pixels: Tensor) -> Tensor:
    """uint8 -> float in [-1, 1]."""
    return pixels.float() / 127.5 - 1


class Photos:
    """Random camera motions over the photos of one split."""

    def __init__(self, data: Path, split: str) -> None:
        self.names = names_of(data, "photos", split)
        self.photos = [load_photo(data / "photos" / name) for name in self.names]

    def clip(
        self,
        index: int,
        motion: Motion,
        times: Sequence[float],
        size: int,
        rng: random.Random,
    ) -> Tensor:
        """(3, T, s, s) in [-1, 1]: the motion over a random square of the photo, `size` pixels a side."""
        photo = self.photos[index]
        side = min(photo.shape[1:])
        scale = size / np.exp(rng.uniform(np.log(min(160, side)), np.log(side)))
        places = sources(motion, times, size, size)
        canvas, origin = self._canvas(photo, places, max(scale, size / side), rng)
        return warp(canvas, places, origin)

    def centred(self, index: int, motion: Motion, times: Sequence[float], size: int) -> tuple[Tensor, Tensor]:
        """The motion over the photo's centre, (3, T, s, s), and which pixels show a part of frame 0, (T, s, s).

        Frame 0 takes 1 / 1.5 of the short side, so that every motion of normal strength shows real content.
        """
        photo = self.photos[index]
        scale = 1.5 * size / min(photo.shape[1:])
        length = [round(side * scale) for side in photo.shape[1:]]
        canvas = functional.interpolate(photo[None], length, mode="bilinear", antialias=True)[0]
        places = sources(motion, times, size, size)
        origin = ((length[1] - size) // 2, (length[0] - size) // 2)
        return warp(to_unit(canvas), places, origin), visible(places, size, size)

    @staticmethod
    def _canvas(photo: Tensor, places: Tensor, scale: float, rng: random.Random) -> tuple[Tensor, tuple[int, int]]:
        """The part of the photo that the motion shows, resized with antialiasing, and where frame 0 lies in it."""
        low, high = places.amin((0, 1, 2)), places.amax((0, 1, 2))
        origin, start, stop = [], [], []
        for axis, length in ((0, photo.shape[2]), (1, photo.shape[1])):
            before, after = -float(low[axis]) / scale, float(high[axis]) / scale
            room = length - 1 - before - after
            frame = (
                before + rng.random() * room
                if room > 0
                else rng.random() * (length - 1 - (places.shape[2] - 1) / scale)
            )
            start.append(int(max(0, frame - before)))
            stop.append(int(min(length, frame + after + 2)))
            origin.append(round((frame - start[-1]) * scale))
        part = photo[:, start[1] : stop[1], start[0] : stop[0]]
        size = [max(8, round(length * scale)) for length in part.shape[1:]]
        canvas = functional.interpolate(part[None].contiguous(), size, mode="bilinear", antialias=scale < 1)[0]
        return to_unit(canvas), (origin[0], origin[1])


class Clips:
    """Random windows of the real clips of one split."""

    def __init__(self, data: Path, split: str, short_side: int) -> None:
        self.names = names_of(data, "clips", split)
        self.clips = [load_clip(data / "clips" / name, short_side) for name in self.names]

    def clip(self, num_frames: int, size: int, rng: random.Random) -> Tensor:
        """(3, T, s, s) in [-1, 1]."""
        clip = rng.choice(self.clips)
        t, y, x = (
            rng.randrange(have - want + 1) for have, want in zip(clip.shape[1:], (num_frames, size, size), strict=True)
        )
        part = to_unit(clip[:, t : t + num_frames, y : y + size, x : x + size])
        return part.flip(3) if rng.random() < 0.5 else part

    def centred(self, index: int, num_frames: int, size: int) -> Tensor:
        """The first frames of a clip, its middle square: (3, T, s, s) in [-1, 1]."""
        clip = self.clips[index]
        y, x = ((have - size) // 2 for have in clip.shape[2:])
        return to_unit(clip[:, :num_frames, y : y + size, x : x + size])
