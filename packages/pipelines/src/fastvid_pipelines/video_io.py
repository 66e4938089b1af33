"""Frames to mp4 and back, through PyAV (the only module that imports it)."""

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.error import FFmpegError
from jaxtyping import UInt8

from fastvid_pipelines.errors import MissingPackageError
from fastvid_pipelines.inputs import check_file
from fastvid_pipelines.outputs import check_writable, staged
from fastvid_pipelines.types import MOST_FRAMES, MOST_PIXELS, Clip, check_count, check_number

CODEC: Final = "libx264"
QUALITY = "16"  # x264's constant rate factor: visually lossless
LARGEST_MP4_SIDE = 2**14  # of x264
BT601 = 6  # matrix of the conversion from RGB, written into the stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """Frames of a video file."""

    frames: UInt8[np.ndarray, "T H W 3"]
    fps: float


def save_video(clip: Clip, path: str | os.PathLike[str]) -> None:
    """Write a clip as mp4; the file appears complete or not at all.

    Args:
        path: with the ending .mp4.
    Raises:
        ValueError: another ending, a place where no file can be put, or what `write_mp4` refuses.
        MissingPackageError, OSError: as of `write_mp4`.
    """
    check_mp4_name("path", Path(path))
    check_writable("path", Path(path))
    with staged(Path(path)) as (part,):
        write_mp4(clip.frames, clip.fps, part)


def write_mp4(frames: UInt8[np.ndarray, "T H W 3"], fps: float, path: Path) -> None:
    """H.264, yuv420p, index at the front, exactly these frames at exactly this size.

    Raises:
        ValueError: no frames, no bytes `T H W 3`, an odd height or width, or a frame rate that is none.
        MissingPackageError: this PyAV was built without the encoder.
        OSError: the file could not be written whole, as on a full disk.
    """
    check_encoder()
    _check_frames(frames)
    check_number("fps", fps, 0.01, 1000.0)
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream(CODEC, rate=rate, options={"crf": QUALITY, "preset": "medium"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.codec_context.colorspace = BT601
        stream.codec_context.color_primaries = BT601
        stream.codec_context.color_trc = BT601
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    written = count_packets(path)
    if written != len(frames):
        raise OSError(f"{path} holds {written} of {len(frames)} frames after writing")


def check_encoder() -> None:
    """Refuse to begin what could not be written."""
    if CODEC not in av.codecs_available:
        raise MissingPackageError(
            f"this PyAV was built without the H.264 encoder {CODEC}, which its wheels bring; install it with: "
            "pip install --force-reinstall av"
        )


def check_mp4_name(name: str, path: Path) -> None:
    """Refuse an ending that promises another kind of file."""
    if path.suffix.lower() != ".mp4":
        raise ValueError(f"`{name}` is {str(path)!r}; expected a name that ends in .mp4")


def check_mp4_size(height: int, width: int, *, least: int = 2, most: int = LARGEST_MP4_SIDE) -> None:
    """Refuse sizes that H.264 in yuv420p cannot hold: its colour planes have half of each side.

    Args:
        least, most: further bounds of a side, both even.
    """
    for name, value in (("height", height), ("width", width)):
        if value % 2 or not least <= value <= most:
            below = min(max(value - 1, least), most - 2)
            raise ValueError(
                f"`{name}` is {value}; an mp4 (H.264, yuv420p) has an even number of pixels on each side, here "
                f"{least} to {most} (nearest legal values: {below} and {below + 2})"
            )


def count_packets(path: Path) -> int:
    """Frames that a video file holds, without decoding them."""
    with av.open(str(path)) as container:
        return sum(1 for packet in container.demux(container.streams.video[0]) if packet.size)


def read_video(path: str | os.PathLike[str], *, max_frames: int | None = None) -> Video:
    """Decode the first video stream of any file that FFmpeg reads.

    Args:
        max_frames: the first frames alone; None: all.
    Raises:
        ValueError: missing, no video file, without a video stream or a single frame, or too large to be held.
    """
    name = os.fspath(path)
    if max_frames is not None:
        check_count("max_frames", max_frames, 1, MOST_FRAMES)
    check_file("video", name)
    _check_whole(Path(name))
    try:
        with av.open(name) as container:
            if not container.streams.video:
                raise ValueError(f"`video` is {name!r}, which has no video stream")
            stream = container.streams.video[0]
            fps = float(stream.average_rate or stream.guessed_rate or 0)
            frames = _read_frames(name, islice(container.decode(stream), max_frames))
    except FFmpegError as error:
        raise ValueError(f"`video` is {name!r}, which is damaged or no video: {error.strerror}") from error
    if not frames:
        raise ValueError(f"`video` is {name!r}, which has no frame that can be decoded")
    if len({frame.shape for frame in frames}) > 1:
        raise ValueError(f"`video` is {name!r}, whose frames change their size on the way; that is not supported")
    if not 0.01 <= fps <= 1000:
        raise ValueError(f"`video` is {name!r}, whose frame rate is {fps:g}; expected 0.01 to 1000")
    return Video(frames=np.stack(frames), fps=fps)


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
                    f"`video` is {str(path)!r}, which is damaged: it ends after {length} bytes of at least {place}"
                )


def _check_frames(frames: Any) -> None:
    if not isinstance(frames, np.ndarray):
        raise ValueError(f"`frames` is of type {type(frames).__name__}; expected an array of uint8, `T H W 3`")
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"`frames` is an array of {frames.dtype}, shape {frames.shape}; expected uint8 `T H W 3`")
    if not len(frames):
        raise ValueError("`frames` has no frame; expected at least 1")
    check_mp4_size(frames.shape[1], frames.shape[2])


def _read_frames(name: str, decoded: Iterable[Any]) -> list[UInt8[np.ndarray, "H W 3"]]:
    frames: list[UInt8[np.ndarray, "H W 3"]] = []
    for frame in decoded:
        most = MOST_PIXELS // (frame.height * frame.width)
        if len(frames) == most:
            raise ValueError(
                f"`video` is {name!r}, which has more than {most} frames of {frame.width}x{frame.height}; at most "
                f"{MOST_PIXELS} pixels are read: say how many of the first frames by `max_frames`"
            )
        frames.append(_upright(frame))
    return frames


def _upright(frame: av.VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
    """RGB, turned as the file asks a player to turn it."""
    return np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90))
