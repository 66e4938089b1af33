"""Encode a video file, decode it again, and say what was lost. Long videos pass through in chunks."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from fastvid_vae import metrics, video_io
from fastvid_vae.file_codec import CHUNK_LATENTS, check_target, pictures_of, video_chunks
from fastvid_vae.fsae.model import FSAE
from fastvid_vae.video_io import Picture

STRIP_FRAMES = 8
STRIP_HEIGHT = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconstruction:
    """What was reconstructed, and how well: PSNR over the whole clip, SSIM the mean over frames (None below 11 px)."""

    num_frames: int
    height: int
    width: int
    fps: float
    latent_elements: int
    psnr: float
    ssim: float | None
    seconds: float


@torch.inference_mode()
def reconstruct(
    model: FSAE, source: Path, target: Path, *, on_frames: Callable[[int], None] | None = None
) -> Reconstruction:
    """Write `target` (mp4) and, beside it, a strip of frames (png): originals above, reconstructions below.

    The first frame is given to the decoder where the model takes it. Videos stay in memory in chunks alone, except
    for the standard decoder, which needs all latents at once and gives all frames at once.

    Args:
        model: on the device and in the data type to compute in.
        source: any video that FFmpeg reads; sound is left out, and a varying frame rate becomes its average.
        target: where to write; its folder must exist.
        on_frames: called with the number of frames done.
    Raises:
        ValueError: `source` is no video, or `target` cannot be written.
    """
    check_target(source, target, ".mp4", target.with_suffix(".png"))
    started, rate = perf_counter(), video_io.frame_rate(source)
    score, strip = _Score(), _Strip()
    with video_io.staged(target, target.with_suffix(".png")) as (video_part, strip_part):
        with video_io.VideoWriter(video_part, rate=rate) as writer:
            for original, decoded in zip(video_chunks(model, source), _decoded(model, source), strict=True):
                found = decoded[:, :, : original.shape[2], : original.shape[3], : original.shape[4]]
                found = found.float().clamp(-1, 1)
                score.add(found, original.float())
                for before, after in zip(pictures_of(original), pictures_of(found), strict=True):
                    writer.write(after)
                    strip.add(before, after)
                if on_frames is not None:
                    on_frames(score.num_frames)
        video_io.write_png(strip.picture(), strip_part)
    height, width = score.size
    _, rows, columns = model.stride
    cells = model.num_latent_frames(score.num_frames) * -(-height // rows) * -(-width // columns)
    return Reconstruction(
        num_frames=score.num_frames,
        height=height,
        width=width,
        fps=float(rate),
        latent_elements=cells * model.latent_channels,
        psnr=score.psnr(),
        ssim=score.ssim(),
        seconds=perf_counter() - started,
    )


def _decoded(model: FSAE, source: Path) -> Iterator[Tensor]:
    """The reconstruction, in pieces as long as those of `_chunks` (the last one before it is cropped)."""
    chunks = video_chunks(model, source)
    first = next(chunks)
    reference = first[:, :, 0] if any(model.config.injection) else None
    latents = model.encode_chunks(chain([first], chunks))
    if model.config.decoder_mode != "standard":
        yield from model.decode_chunks(latents, reference=reference)
        return
    every_latent = torch.cat(list(latents), dim=2)
    size = (first.shape[3], first.shape[4])
    frames = model.decode(every_latent, reference=reference, size=size)
    yield frames[:, :, : first.shape[2]]
    yield from torch.split(frames[:, :, first.shape[2] :], model.stride[0] * CHUNK_LATENTS, dim=2)


class _Score:
    """Sums over the frames so far."""

    def __init__(self) -> None:
        self.num_frames = 0
        self.size = (0, 0)
        self._squares, self._values, self._ssim = 0.0, 0, 0.0

    def add(self, found: Tensor, expected: Tensor) -> None:
        self.num_frames += found.shape[2]
        self.size = (found.shape[3], found.shape[4])
        self._squares += float((found.double() - expected.double()).square().sum())
        self._values += found.numel()
        if min(found.shape[3:]) >= metrics.WINDOW:
            self._ssim += float(metrics.ssim(found, expected)) * found.shape[2]
        else:
            self._ssim = math.nan

    def psnr(self) -> float:
        return float(metrics.decibels(torch.tensor(self._squares / self._values)))

    def ssim(self) -> float | None:
        return None if math.isnan(self._ssim) else self._ssim / self.num_frames


class _Strip:
    """Evenly spaced frames of a video whose length is not known before its end."""

    def __init__(self) -> None:
        self._columns: list[Picture] = []
        self._seen, self._every = 0, 1

    def add(self, before: Picture, after: Picture) -> None:
        if self._seen % self._every == 0:
            self._columns.append(_column(before, after))
        self._seen += 1
        if len(self._columns) > STRIP_FRAMES:
            del self._columns[1::2]
            self._every *= 2

    def picture(self) -> Picture:
        return np.concatenate(self._columns, axis=1)


def _column(before: Picture, after: Picture) -> Picture:
    """Original above reconstruction, shrunk to a height that a strip can show."""
    pair = torch.from_numpy(np.stack([before, after])).permute(0, 3, 1, 2).float()
    height, width = pair.shape[2:]
    if height > STRIP_HEIGHT:
        pair = functional.interpolate(pair, (STRIP_HEIGHT, max(1, width * STRIP_HEIGHT // height)), mode="area")
    return rearrange(pair.round().byte(), "pair c h w -> (pair h) w c").numpy()
