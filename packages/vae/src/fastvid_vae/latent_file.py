"""Latents of one video as a safetensors file that is written and read piece by piece.

The file holds one tensor, `latents` (1 c t h w), and as metadata what it takes to make the video again. Its layout is
public (huggingface/safetensors): a length, a JSON header, the bytes; the library itself writes whole tensors only.
"""

import json
import math
import struct
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import IO, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

NAME = "latents"
DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
ALIGNMENT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFacts:
    """Of the video that was encoded: frames, pixels, and frames a second."""

    num_frames: int
    height: int
    width: int
    rate: Fraction


class LatentWriter:
    """Writes the file when it is told of the video; until then its pieces wait in a file without a name beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._spool: IO[bytes] = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115  # closed by `__exit__`
        self._lengths: list[int] = []
        self._like: Tensor | None = None

    def write(self, latents: Tensor) -> None:
        """Add the next latent frames, 1 c t h w."""
        self._like = latents[:, :, :0]
        self._lengths.append(latents.shape[2])
        self._spool.write(_bytes(latents))

    def finish(self, facts: VideoFacts) -> None:
        """Lay the pieces out as one tensor.

        Raises:
            ValueError: nothing was written.
        """
        if self._like is None:
            raise ValueError("there are no latents to write")
        _, channels, _, height, width = self._like.shape
        frame = height * width * self._like.element_size()
        total = sum(self._lengths)
        with self._path.open("wb") as file:
            shape = (1, channels, total, height, width)
            file.write(_header(DTYPES[self._like.dtype], shape, channels * total * frame, facts))
            origin, before = file.tell(), 0
            self._spool.seek(0)
            for length in self._lengths:
                for channel in range(channels):
                    file.seek(origin + (channel * total + before) * frame)
                    file.write(self._spool.read(length * frame))
                before += length

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()


class LatentFile:
    """A file of latents, of which only what is asked for comes into memory."""

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            ValueError: no such file, a damaged one, or one of something else.
        """
        if not path.is_file():
            raise ValueError(f"`source` is {str(path)!r}: no such file")
        try:
            with safe_open(path, framework="pt") as opened:
                names, metadata = list(opened.keys()), opened.metadata() or {}
                shape = tuple(opened.get_slice(NAME).get_shape()) if NAME in names else ()
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(
                f"`source` is {str(path)!r}, which is truncated or no safetensors file: {error}"
            ) from error
        if names != [NAME] or len(shape) != 5 or shape[0] != 1 or 0 in shape:
            raise ValueError(
                f"`source` is {str(path)!r}, which holds {names[:5]} {shape}; expected one tensor `{NAME}` 1 c t h w"
            )
        self._path = path
        self.shape: tuple[int, ...] = shape
        self.facts = _facts(metadata, path)

    def pieces(self, length: int) -> Iterator[Tensor]:
        """The latents in their order, `length` latent frames at a time."""
        with safe_open(self._path, framework="pt") as opened:
            stored = opened.get_slice(NAME)
            for start in range(0, self.shape[2], length):
                yield stored[:, :, start : start + length]


def _header(dtype: str, shape: tuple[int, ...], size: int, facts: VideoFacts) -> bytes:
    metadata = {name: str(value) for name, value in asdict(facts).items()}
    described = {"dtype": dtype, "shape": shape, "data_offsets": (0, size)}
    text = json.dumps({"__metadata__": metadata, NAME: described}).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _facts(metadata: Mapping[str, str], path: Path) -> VideoFacts:
    missing = [field.name for field in fields(VideoFacts) if field.name not in metadata]
    if missing:
        raise ValueError(f"`source` is {str(path)!r}, whose metadata does not tell {', '.join(missing)} of the video")
    try:
        counts = [int(metadata[name]) for name in ("num_frames", "height", "width")]
        rate = Fraction(metadata["rate"])
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"`source` is {str(path)!r}, whose metadata is damaged: {error}") from error
    if min(counts) < 1 or not 0 < rate < math.inf:
        raise ValueError(f"`source` is {str(path)!r}, whose metadata tells of {counts} and {rate} frames a second")
    return VideoFacts(num_frames=counts[0], height=counts[1], width=counts[2], rate=rate)


def _bytes(latents: Tensor) -> bytes:
    data: bytes = latents.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
    return data
