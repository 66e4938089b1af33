"""Video files to frames and back, one frame at a time, through PyAV (the only module that imports it)."""

import logging
import os
import struct
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from jaxtyping import UInt8

try:
    import av
    from av.container import InputContainer
    from av.error import FFmpegError
except ImportError as error:
    raise ImportError("video files need PyAV; install it with: pip install 'fastvid-vae[video]'") from error

logger = logging.getLogger(__name__)

Picture = UInt8[np.ndarray, "H W 3"]
BT601: Final = 6  # matrix of the conversion from RGB, written into the stream


def frame_rate(path: Path) -> Fraction:
    """Frames a second, the average where they vary; 25 where the file does not say."""
    with _opened(path) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
    return Fraction(rate).limit_denominator(1001) if rate else Fraction(25)


def read_frames(path: Path) -> Iterator[Picture]:
    """RGB pictures of the first video stream, turned as the file asks a player to turn them.

    Raises:
        ValueError: missing, damaged, without a video stream, without a frame, or of changing size.
    """
    size: tuple[int, ...] | None = None
    with _opened(path) as container:
        try:
            for frame in container.decode(container.streams.video[0]):
                picture = np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90))
                if size not in (None, picture.shape):
                    raise ValueError(
                        f"`source` is {str(path)!r}, whose frames change their size; that is not supported"
                    )
                size = picture.shape
                yield picture
        except FFmpegError as error:
            raise ValueError(f"`source` is {str(path)!r}, which is damaged: {error.strerror}") from error
    if size is None:
        raise ValueError(f"`source` is {str(path)!r}, which has no frame that can be decoded")


class VideoWriter:
    """H.264 in an mp4 (yuv420p, index at the front), complete when the context ends.

    An odd height or width gains a repeated row or column, since the colour planes of yuv420p have half of each side.
    """

    def __init__(self, path: Path, *, rate: Fraction) -> None:
        self._path = path
        self._rate = rate
        self._written = 0
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream: av.VideoStream | None = None

    def write(self, picture: Picture) -> None:
        height, width = picture.shape[:2]
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._stream is None:
            if height % 2 or width % 2:
                logger.warning("%s x %s has an odd side, which yuv420p cannot hold: repeating it once", height, width)
            self._stream = self._add_stream(picture.shape[0], picture.shape[1])
        self._container.mux(self._stream.encode(_av_frame(picture)))
        self._written += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()
        if kind is None:
            self._check()

    def _add_stream(self, height: int, width: int) -> "av.VideoStream":
        stream = self._container.add_stream("libx264", rate=self._rate, options={"crf": "16", "preset": "medium"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.colorspace = BT601
        stream.codec_context.color_primaries = BT601
        stream.codec_context.color_trc = BT601
        return stream

    def _check(self) -> None:
        """A full disk shows here at the latest."""
        with av.open(str(self._path)) as container:
            held = sum(1 for packet in container.demux(container.streams.video[0]) if packet.size)
        if held != self._written:
            raise OSError(f"{self._path} holds {held} of {self._written} frames after writing")


def write_png(picture: Picture, path: Path) -> None:
    """One picture as PNG."""
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("png", rate=1)
        stream.height, stream.width, stream.pix_fmt = picture.shape[0], picture.shape[1], "rgb24"
        container.mux(stream.encode(_av_frame(picture)))
        container.mux(stream.encode())


@contextmanager
def staged(*paths: Path) -> Iterator[list[Path]]:
    """Temporary names beside the final ones, which they take when the context ends well; else nothing is left."""
    parts = [path.with_name(f".{path.name}.{uuid.uuid4().hex}.part") for path in paths]
    try:
        yield parts
        for part, path in zip(parts, paths, strict=True):
            os.replace(part, path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def _av_frame(picture: Picture) -> "av.VideoFrame":
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")


def _opened(path: Path) -> InputContainer:
    if not path.is_file():
        raise ValueError(f"`source` is {str(path)!r}: no such file")
    _check_whole(path)
    try:
        container = av.open(str(path))
    except FFmpegError as error:
        raise ValueError(f"`source` is {str(path)!r}, which is damaged or no video: {error.strerror}") from error
    if not container.streams.video:
        container.close()
        raise ValueError(f"`source` is {str(path)!r}, which has no video stream")
    return container


def _check_whole(path: Path) -> None:
    """An mp4 with its index at the front that was cut between two frames would read as a shorter video, without a word.

    Its pictures lie in boxes that say how long they are. Source: ISO/IEC 14496-12, section 4.2.
    """
    length, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place + 8 <= length:
            file.seek(place)
            size, kind = struct.unpack(">I4s", file.read(8))
            if not place and kind != b"ftyp":
                return  # no mp4
            if size == 1:
                size = int.from_bytes(file.read(8))
            if size < 8:  # to the end of the file, or damaged
                return
            place += size
            if kind == b"mdat" and place > length:
                raise ValueError(
                    f"`source` is {str(path)!r}, which is damaged: it ends after {length} bytes of at least {place}"
                )
