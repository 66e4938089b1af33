"""Video file -> file of latents -> video file, with the memory of one group of frames, however long they are."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from fastvid_vae import video_io
from fastvid_vae.latent_file import LatentFile, LatentWriter, VideoFacts
from fastvid_vae.video_io import Picture, VideoWriter

CHUNK_LATENTS = 4


Chunks = Iterable[Float[Tensor, "b channels time rows columns"]]
OnFrames = Callable[[int], None]


class StreamingAutoencoder(Protocol):
    """What a model must offer; it must also be an `nn.Module`."""

    @property
    def stride(self) -> tuple[int, int, int]: ...
    @property
    def latent_channels(self) -> int: ...
    def num_latent_frames(self, num_frames: int) -> int: ...
    def encode_chunks(
        self, chunks: Iterable[Float[Tensor, "b 3 T H W"]], /
    ) -> Iterator[Float[Tensor, "b c t h w"]]: ...
    def decode_chunks(
        self, chunks: Iterable[Float[Tensor, "b c t h w"]], /
    ) -> Iterator[Float[Tensor, "b 3 T H W"]]: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...


@torch.inference_mode()
def encode_file(
    model: StreamingAutoencoder, source: Path, target: Path, *, on_frames: OnFrames | None = None
) -> VideoFacts:
    """Write the latents of a video, the mean where the model is variational, to a safetensors file.

    Args:
        model: on the device and in the data type to compute in, which is that of the file.
        source: any video that FFmpeg reads; sound is left out, and a varying frame rate becomes its average.
        target: where to write; its folder must exist. It appears whole, or not at all.
        on_frames: called with the number of frames read.
    Raises:
        ValueError: `source` is no video, is damaged, or changes its size; `target` cannot be written.
    """
    check_target(source, target, ".safetensors")
    rate = video_io.frame_rate(source)
    count, size = 0, (0, 0)

    def counted() -> Iterator[Tensor]:
        nonlocal count, size
        for chunk in video_chunks(model, source):
            count, size = count + chunk.shape[2], (chunk.shape[3], chunk.shape[4])
            yield chunk
            if on_frames is not None:
                on_frames(count)

    with video_io.staged(target) as (part,), LatentWriter(part) as writer:
        for latents in model.encode_chunks(counted()):
            writer.write(latents)
        facts = VideoFacts(num_frames=count, height=size[0], width=size[1], rate=rate)
        writer.finish(facts)
    return facts


@torch.inference_mode()
def decode_file(
    model: StreamingAutoencoder, source: Path, target: Path, *, on_frames: OnFrames | None = None
) -> VideoFacts:
    """Write the video of a file of latents as mp4, with its number of frames, its size and its frame rate.

    An odd height or width has its last row or column twice in the mp4, which a warning says.

    Args:
        model: the one that encoded it.
        source: what `encode_file` wrote.
        target: where to write; its folder must exist. It appears whole, or not at all.
        on_frames: called with the number of frames written.
    Raises:
        ValueError: `source` is no file of latents, or of another model; `target` cannot be written.
    """
    check_target(source, target, ".mp4")
    latents = LatentFile(source)
    facts = latents.facts
    _check_latents(model, latents, source)
    like = next(model.parameters())
    pieces = (piece.to(like) for piece in latents.pieces(CHUNK_LATENTS))
    written = 0
    with video_io.staged(target) as (part,), VideoWriter(part, rate=facts.rate) as writer:
        for frames in model.decode_chunks(pieces):
            for picture in pictures_of(frames[:, :, : facts.num_frames - written, : facts.height, : facts.width]):
                writer.write(picture)
                written += 1
            if on_frames is not None:
                on_frames(written)
    return facts


def video_chunks(model: StreamingAutoencoder, source: Path) -> Iterator[Float[Tensor, "1 3 T H W"]]:
    """The video in [-1, 1], in pieces that fill their latents but for the last."""
    like = next(model.parameters())
    pictures = video_io.read_frames(source)
    length = 1 + model.stride[0] * (CHUNK_LATENTS - 1)
    while piece := list(islice(pictures, length)):
        frames = torch.from_numpy(np.stack(piece)).to(like.device)
        yield rearrange(frames, "t h w c -> 1 c t h w").to(like.dtype) / 127.5 - 1
        length = model.stride[0] * CHUNK_LATENTS


def pictures_of(frames: Float[Tensor, "1 3 T H W"]) -> Iterable[Picture]:
    """Frames in [-1, 1] to bytes; what lies outside is clipped."""
    pixels = ((frames[0].float().clamp(-1, 1) + 1) * 127.5).round().byte()
    pictures: Picture = rearrange(pixels.cpu(), "c t h w -> t h w c").numpy()
    return pictures


def _check_latents(model: StreamingAutoencoder, latents: LatentFile, source: Path) -> None:
    facts = latents.facts
    _, height, width = model.stride
    cells = (model.num_latent_frames(facts.num_frames), -(-facts.height // height), -(-facts.width // width))
    expected = (1, model.latent_channels, *cells)
    if latents.shape != expected:
        raise ValueError(
            f"`source` is {str(source)!r}, which holds latents {latents.shape}; this model makes {expected} of "
            f"{facts.num_frames} frames of {facts.height} x {facts.width}"
        )


def check_target(source: Path, target: Path, suffix: str, *beside: Path) -> None:
    """`target` must be a name ending in `suffix` that can be written, and so must the files that appear `beside` it.

    Raises:
        ValueError: it is none, or one of them is the source.
    """
    if target.suffix != suffix:
        raise ValueError(f"`target` is {str(target)!r}; expected a name that ends in {suffix}")
    if not target.parent.is_dir():
        raise ValueError(f"`target` is {str(target)!r}: no folder {str(target.parent)!r}")
    for file in (target, *beside):
        if file.is_dir() or file.resolve() == source.resolve():
            raise ValueError(f"`target` is {str(target)!r}; {str(file)!r} is a folder or the source itself")
