import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from fastvid_pipelines import video_io
from fastvid_pipelines.errors import MissingPackageError
from fastvid_pipelines.types import Clip
from fastvid_pipelines.video_io import check_mp4_size, read_video, save_video, write_mp4

from .conftest import largest_file


def moving(num_frames: int = 9, height: int = 48, width: int = 64) -> np.ndarray:
    """Detail in brightness, slow changes in colour: yuv420p keeps a quarter of the colours' pixels."""
    down, right = np.mgrid[0:height, 0:width]
    frames = [
        0.4 * np.sin((right + 2 * t) / 7 + down / 5)[..., None]
        + 0.4 * np.stack((right / width, down / height, 1 - right / width), axis=-1)
        for t in range(num_frames)
    ]
    return ((np.stack(frames) + 1) * 127.5).round().astype(np.uint8)


def clip(frames: np.ndarray, fps: float = 8.0) -> Clip:
    return Clip(frames=frames, fps=fps, seconds={}, latent_frames=())


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((first.astype(float) - second) ** 2).mean()))


@pytest.mark.parametrize(
    ("num_frames", "height", "width", "fps"),
    [
        (1, 16, 16, 8.0),
        (2, 2, 2, 1.0),
        (17, 128, 128, 8.0),
        (13, 34, 58, 23.976),
        (33, 252, 416, 24.0),
        (7, 16, 18, 60),
    ],
)
def test_written_is_what_was_asked_for(tmp_path: Path, num_frames: int, height: int, width: int, fps: float) -> None:
    path = tmp_path / "out.mp4"
    save_video(clip(moving(num_frames, height, width), fps), path)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.height, stream.width, stream.frames) == (height, width, num_frames)
        assert float(stream.average_rate) == pytest.approx(fps, abs=1e-3)
    video = read_video(path)
    assert video.frames.shape == (num_frames, height, width, 3)
    assert video.fps == pytest.approx(fps, abs=1e-3)
    assert list(tmp_path.iterdir()) == [path]


def test_quality_and_colours_survive(tmp_path: Path) -> None:
    frames = moving(17, 128, 128)
    save_video(clip(frames), tmp_path / "out.mp4")
    assert psnr(frames, read_video(tmp_path / "out.mp4").frames) > 38


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 40)])
def test_flat_colours_come_back(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    frames = np.broadcast_to(np.array(colour, dtype=np.uint8), (3, 32, 32, 3))
    save_video(clip(frames), tmp_path / "out.mp4")
    assert np.abs(read_video(tmp_path / "out.mp4").frames.astype(int) - frames).max() <= 3


def test_the_index_stands_before_the_pictures(tmp_path: Path) -> None:
    save_video(clip(moving()), tmp_path / "out.mp4")
    content = (tmp_path / "out.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_same_frames_same_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        save_video(clip(moving()), tmp_path / name)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize(
    ("height", "width", "message"),
    [
        (127, 128, r"`height` is 127; .*\(nearest legal values: 126 and 128\)"),
        (128, 131, r"`width` is 131; .*\(nearest legal values: 130 and 132\)"),
        (1, 16, r"`height` is 1; .*\(nearest legal values: 2 and 4\)"),
        (0, 16, "`height` is 0"),
        (16386, 16, r"`height` is 16386; .*2 to 16384 \(nearest legal values: 16382 and 16384\)"),
        (16, -1, "`width` is -1"),
    ],
)
def test_sizes_that_the_format_cannot_hold_are_refused(height: int, width: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_mp4_size(height, width)


@pytest.mark.parametrize(
    ("frames", "fps", "message"),
    [
        (moving(2, 15, 16), 8.0, "`height` is 15"),
        (np.zeros((0, 16, 16, 3), dtype=np.uint8), 8.0, "`frames` has no frame"),
        (np.zeros((2, 16, 16, 3)), 8.0, r"`frames` is an array of float64, shape .*; expected uint8 `T H W 3`"),
        (np.zeros((16, 16, 3), dtype=np.uint8), 8.0, r"`frames` is .*, shape \(16, 16, 3\); expected uint8 `T H W 3`"),
        (np.zeros((2, 16, 16, 4), dtype=np.uint8), 8.0, r"`frames` is .*, shape \(2, 16, 16, 4\); expected"),
        (torch.zeros(2, 16, 16, 3, dtype=torch.uint8), 8.0, "`frames` is of type Tensor; expected an array of uint8"),
        (moving(2, 16, 16), 0.0, "`fps` is 0"),
        (moving(2, 16, 16), float("nan"), "`fps` is nan"),
        (moving(2, 16, 16), -3, "`fps` is -3"),
    ],
)
def test_what_cannot_be_written_leaves_no_file(tmp_path: Path, frames: Any, fps: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        save_video(clip(frames, fps), tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["missing/out.mp4", "folder.mp4"])
def test_a_place_that_is_none_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(ValueError, match=r"`path` is .*folder"):
        save_video(clip(moving()), tmp_path / place)


@pytest.mark.parametrize("name", ["a.avi", "a", "a.mp4.gif"])
def test_an_ending_of_another_kind_of_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"`path` is .*{name}'; expected a name that ends in .mp4"):
        save_video(clip(moving()), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_the_file_says_by_which_matrix_its_colours_were_made(tmp_path: Path) -> None:
    """Without it players take that of HDTV for large pictures, and greens turn."""
    save_video(clip(moving()), tmp_path / "out.MP4")
    with av.open(str(tmp_path / "out.MP4")) as container:
        stream = container.streams.video[0].codec_context
        assert (stream.colorspace, stream.color_primaries, stream.color_trc) == (6, 6, 6)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_full_disk_leaves_no_file(tmp_path: Path, share: float) -> None:
    path = tmp_path / "out.mp4"
    noisy = clip(np.random.default_rng(0).integers(0, 255, (6, 64, 64, 3), dtype=np.uint8))
    save_video(noisy, path)
    size = path.stat().st_size
    path.unlink()
    with largest_file(int(size * share)), pytest.raises(OSError, match=r"too large|holds|No space"):
        save_video(noisy, path)
    assert list(tmp_path.iterdir()) == []
    with largest_file(2 * size):
        save_video(noisy, path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_lacks_frames_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_io, "count_packets", lambda path: 3)
    with pytest.raises(OSError, match="holds 3 of 9 frames"):
        save_video(clip(moving()), tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_survives_a_failed_write(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    save_video(clip(moving()), path)
    before = path.read_bytes()
    odd = clip(moving(2, 15, 16))
    with pytest.raises(ValueError, match="`height`"):
        save_video(odd, path)
    assert path.read_bytes() == before


def test_without_the_encoder_the_line_that_brings_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_io.av, "codecs_available", {"h264", "mpeg4"})
    with pytest.raises(MissingPackageError, match=r"without the H\.264 encoder libx264.*pip install"):
        save_video(clip(moving()), tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("max_frames", [0, -1, 2.5, 4097])
def test_a_number_of_frames_that_is_none_is_refused(tmp_path: Path, max_frames: Any) -> None:
    write_mp4(moving(2), 8.0, tmp_path / "in.mp4")
    with pytest.raises(ValueError, match=f"`max_frames` is {max_frames}; expected"):
        read_video(tmp_path / "in.mp4", max_frames=max_frames)


def test_a_video_larger_than_memory_is_refused_unless_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_io, "MOST_PIXELS", 4 * 48 * 64)
    write_mp4(moving(5), 8.0, tmp_path / "in.mp4")
    with pytest.raises(ValueError, match=r"`video` is .*in\.mp4', which has more than 4 frames of 64x48.*`max_frames`"):
        read_video(tmp_path / "in.mp4")
    assert len(read_video(tmp_path / "in.mp4", max_frames=4).frames) == 4


def test_reading_can_stop_early(tmp_path: Path) -> None:
    write_mp4(moving(9), 8.0, tmp_path / "in.mp4")
    assert len(read_video(tmp_path / "in.mp4", max_frames=4).frames) == 4
    assert len(read_video(tmp_path / "in.mp4", max_frames=40).frames) == 9


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_a_turned_video_comes_out_upright(tmp_path: Path, quarter_turns: int) -> None:
    """Phones store frames as the sensor sees them, with a matrix in the track header that turns them."""
    path = tmp_path / "turned.mp4"
    upright = moving(3, 48, 64)
    write_mp4(np.ascontiguousarray(np.rot90(upright, k=quarter_turns, axes=(1, 2))), 8.0, path)
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40
    one = 0x10000
    a, b = [(one, 0), (0, one), (-one, 0), (0, -one)][quarter_turns]  # clockwise by so many quarters
    content[place : place + 36] = struct.pack(">9i", a, b, 0, -b, a, 0, 0, 0, 0x40000000)
    path.write_bytes(content)
    video = read_video(path)
    assert video.frames.shape == upright.shape
    assert psnr(video.frames, upright) > 35


def encoded(path: Path, codec: str, pixel_format: str, frames: np.ndarray, **options: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixel_format
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("codec", "pixel_format", "suffix", "options"),
    [
        ("libx264", "yuv420p10le", "mp4", {}),
        ("libx264", "yuv444p", "mp4", {"bf": "3"}),
        ("mpeg4", "yuv420p", "mp4", {}),
        ("libvpx-vp9", "yuv420p", "webm", {}),
    ],
)
def test_other_codecs_are_read_whole(
    tmp_path: Path, codec: str, pixel_format: str, suffix: str, options: dict[str, str]
) -> None:
    path = encoded(tmp_path / f"in.{suffix}", codec, pixel_format, moving(11), **options)
    assert read_video(path).frames.shape == (11, 48, 64, 3)


def test_odd_sizes_are_read(tmp_path: Path) -> None:
    path = encoded(tmp_path / "odd.mp4", "libx264", "yuv444p", moving(3, 31, 45))
    assert read_video(path).frames.shape == (3, 31, 45, 3)


def sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "cut", "sound"])
def test_what_is_no_video_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "in.mp4"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not a video")
    elif kind == "cut":
        encoded(path, "mpeg4", "yuv420p", moving())  # its index stands at the end
        path.write_bytes(path.read_bytes()[:900])
    elif kind == "sound":
        sound_only(path)
    with pytest.raises(ValueError, match=r"`video` is .*in\.mp4.*(no such file|damaged or no video|no video stream)"):
        read_video(path)


def test_an_mp4_cut_between_two_frames_is_refused(tmp_path: Path) -> None:
    """Its index lies at the front, so that FFmpeg reads a shorter video without a word."""
    path = tmp_path / "in.mp4"
    save_video(clip(moving(30)), path)
    with av.open(str(path)) as container:
        ends = sorted(packet.pos + packet.size for packet in container.demux(video=0) if packet.size)
    path.write_bytes(path.read_bytes()[: ends[11]])
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 12
    with pytest.raises(ValueError, match=r"in\.mp4', which is damaged: it ends after"):
        read_video(path)
