"""`python -m fastvid_vae reconstruct`, from file to file."""

import json
import re
import struct
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from fastvid_vae import FSAE, cli, psnr, ssim, video_io
from fastvid_vae.reconstruct import reconstruct


def moving(frames: int, height: int, width: int) -> np.ndarray:
    """A soft pattern that drifts."""
    y, x, t = np.meshgrid(np.arange(height), np.arange(width), np.arange(frames), indexing="ij")
    channels = [np.sin(x / 9 + t / 3 + c) + np.cos(y / 7 - t / 5) for c in range(3)]
    return np.moveaxis((np.stack(channels, -1) * 60 + 127).astype(np.uint8), 2, 0)


def write(path: Path, pictures: np.ndarray, *, rate: Fraction = Fraction(24), codec: str = "libx264") -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options={"crf": "4"} if codec == "libx264" else {})
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "yuv420p" if codec == "libx264" else "yuvj444p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())
    return path


def read(path: Path) -> np.ndarray:
    return np.stack(list(video_io.read_frames(path)))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "in.mp4", moving(38, 48, 64), rate=Fraction(30000, 1001))


@pytest.fixture
def model_folder(tmp_path: Path, build: Callable[..., FSAE]) -> Path:
    build(scale=0.05).save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


def test_the_command(source: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.mp4"
    before = set(tmp_path.iterdir())
    assert cli.main(["reconstruct", str(source), str(target), "--model", str(model_folder)]) == 0
    assert re.search(r"38 frames of 48 x 64 .* PSNR [\d.]+ dB, SSIM [-\d.]+", capsys.readouterr().out)
    assert set(tmp_path.iterdir()) - before == {target, tmp_path / "out.png"}
    assert read(target).shape == (38, 48, 64, 3)
    assert video_io.frame_rate(target) == Fraction(30000, 1001)
    with av.open(str(target)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
    assert cli.main(["reconstruct", str(source), str(target), "--model", str(model_folder), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["num_frames"] == 38
    assert result["latent_elements"] == 11 * 6 * 8 * 4


@pytest.mark.parametrize("mode", ["causal", "lite", "standard"])
def test_scores_are_those_of_the_whole_clip(
    mode: str, source: Path, tmp_path: Path, build: Callable[..., FSAE]
) -> None:
    """In chunks or not, with the first frame as reference, the numbers are those of `encode` and `decode`."""
    model = build(scale=0.05, decoder_mode=mode)
    for weight in model.decoder.injections.parameters():
        weight.mul_(10)  # so that another frame as reference moves the scores
    for weight in model.decoder.conv_out.parameters():
        weight.mul_(20)
    result = reconstruct(model, source, tmp_path / "out.mp4")
    frames = torch.from_numpy(read(source)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    decoded = model.decode(model.encode(frames), reference=frames[:, :, 0], num_frames=38).clamp(-1, 1)
    assert result.psnr == pytest.approx(psnr(decoded, frames).item(), abs=1e-3)
    assert result.ssim == pytest.approx(ssim(decoded, frames).item(), abs=1e-3)
    written = torch.from_numpy(read(tmp_path / "out.mp4")).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    assert psnr(written, decoded).item() > 35


def test_the_strip_shows_pairs(source: Path, tmp_path: Path, build: Callable[..., FSAE]) -> None:
    reconstruct(build(), source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.png")) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert picture.shape[0] == 2 * 48
    assert picture.shape[1] % 64 == 0
    assert 4 <= picture.shape[1] // 64 <= 8
    assert np.abs(picture[:48, :64].astype(int) - read(source)[0]).max() <= 1


def test_long_videos_pass_in_chunks(source: Path, tmp_path: Path, build: Callable[..., FSAE]) -> None:
    lengths: list[int] = []
    model = build(injection=(None,) * 4)
    model.encoder.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[2]))
    reconstruct(model, source, tmp_path / "out.mp4")
    assert lengths == [13, 16, 12]


def test_sizes_that_are_odd_and_small(tmp_path: Path, build: Callable[..., FSAE]) -> None:
    odd = write(tmp_path / "odd.mkv", moving(2, 9, 21), codec="mjpeg")
    result = reconstruct(build(), odd, tmp_path / "out.mp4")
    assert (result.num_frames, result.height, result.width, result.ssim) == (2, 9, 21, None)
    assert read(tmp_path / "out.mp4").shape == (2, 10, 22, 3)


def test_a_turned_video_comes_out_upright(source: Path, tmp_path: Path) -> None:
    """The track header asks for a quarter turn to the right."""
    content = bytearray(source.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    (tmp_path / "turned.mp4").write_bytes(content)
    assert np.array_equal(read(tmp_path / "turned.mp4"), np.rot90(read(source), k=-1, axes=(1, 2)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "damaged or no video"),
        (b"not a video" * 100, "damaged or no video"),
    ],
)
def test_sources_that_are_no_video(
    content: bytes | None, message: str, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.mp4"
    if content is not None:
        bad.write_bytes(content)
    before = set(tmp_path.iterdir())
    assert cli.main(["reconstruct", str(bad), str(tmp_path / "out.mp4"), "--model", str(model_folder)]) == cli.USAGE
    assert message in capsys.readouterr().err
    assert set(tmp_path.iterdir()) == before


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match="has no video stream"):
        next(video_io.read_frames(tmp_path / "sound.mp4"))


def test_a_truncated_video_is_refused_or_read_as_far_as_it_goes(
    source: Path, tmp_path: Path, build: Callable[..., FSAE]
) -> None:
    content = source.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(content[: len(content) // 2])
    before = set(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"`source` is .*damaged"):
        reconstruct(build(), cut, tmp_path / "out.mp4")
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("target", "message"),
    [("out.avi", r"ends in \.mp4"), ("nowhere/out.mp4", "no folder"), ("in.mp4", "the source itself")],
)
def test_targets_that_cannot_be_written(
    target: str, message: str, source: Path, tmp_path: Path, build: Callable[..., FSAE]
) -> None:
    with pytest.raises(ValueError, match=message):
        reconstruct(build(), source, tmp_path / target)


def test_the_strip_replaces_neither_the_source_nor_a_folder(
    source: Path, tmp_path: Path, build: Callable[..., FSAE]
) -> None:
    moving_picture = source.rename(tmp_path / "clip.png")
    with pytest.raises(ValueError, match="the source itself"):
        reconstruct(build(), moving_picture, tmp_path / "clip.mp4")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        reconstruct(build(), moving_picture, tmp_path / "folder.mp4")
    assert {file.name for file in tmp_path.iterdir()} == {"clip.png", "folder.png"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), cli.INTERRUPTED),
        (torch.OutOfMemoryError("CUDA out of memory"), cli.OUT_OF_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), cli.OUT_OF_MEMORY),
        (MemoryError(), cli.OUT_OF_MEMORY),
        (OSError(28, "No space left on device"), cli.RUN_TIME),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), cli.RUN_TIME),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_a_failure_on_the_way_leaves_nothing(
    error: BaseException,
    code: int,
    source: Path,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_one = video_io.VideoWriter.write
    written: list[int] = []

    def failing(self: video_io.VideoWriter, picture: np.ndarray) -> None:
        if len(written) == 20:
            raise error
        written.append(0)
        write_one(self, picture)

    monkeypatch.setattr(video_io.VideoWriter, "write", failing)
    before = set(tmp_path.iterdir())
    assert cli.main(["reconstruct", str(source), str(tmp_path / "out.mp4"), "--model", str(model_folder)]) == code
    assert set(tmp_path.iterdir()) == before


def test_frames_that_do_not_arrive_are_noticed(tmp_path: Path) -> None:
    """The mutant: an mp4 that lost a frame on the way to the disk."""
    writer = video_io.VideoWriter(tmp_path / "out.mp4", rate=Fraction(24))
    for picture in moving(2, 16, 16):
        writer.write(picture)
    writer._written += 1
    with pytest.raises(OSError, match="holds 2 of 3 frames"):
        writer.__exit__(None, None, None)


def test_without_a_model(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reconstruct", str(source), str(tmp_path / "out.mp4")]) == cli.USAGE
    assert "`--model` is missing, and fastvid-vae ships no weights" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=str(cli.USAGE)):
        cli.main(["reconstruct"])


def test_a_device_that_is_not_here(
    source: Path, tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "reconstruct",
        str(source),
        str(tmp_path / "out.mp4"),
        "--model",
        str(model_folder),
        "--device",
        "abacus",
    ]
    assert cli.main(command) == cli.USAGE
    assert "`--device` is 'abacus', which cannot be used here" in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()


def test_without_av(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model_folder: Path) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    for name in ("fastvid_vae.video_io", "fastvid_vae.reconstruct"):
        monkeypatch.delitem(sys.modules, name)
    assert cli.main(["reconstruct", "in.mp4", "out.mp4", "--model", str(model_folder)]) == cli.MISSING_DEPENDENCY
    assert "pip install 'fastvid-vae[video]'" in capsys.readouterr().err
