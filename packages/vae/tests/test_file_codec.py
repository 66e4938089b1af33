"""`python -m fastvid_vae encode` and `decode`: videos of any length through a file of latents, and what is refused."""

import json
import weakref
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from fastvid_vae import FSAE, ODVAE, cli, file_codec, latent_file
from fastvid_vae.file_codec import decode_file, encode_file
from fastvid_vae.latent_file import LatentFile, LatentWriter, VideoFacts
from safetensors.torch import load_file, save_file
from torch import Tensor

from .odvae.conftest import TINY
from .test_reconstruct import moving, read, write

FACTS = VideoFacts(num_frames=9, height=13, width=16, rate=Fraction(24))


@pytest.fixture
def model() -> ODVAE:
    torch.manual_seed(0)
    model = ODVAE(TINY)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model.eval().requires_grad_(False)


@pytest.fixture
def folder(model: ODVAE, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


def whole(path: Path) -> Tensor:
    return torch.from_numpy(read(path)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


@pytest.mark.parametrize("shape", [(1, 16, 16), (2, 16, 16), (38, 24, 40), (70, 16, 18)])
def test_there_and_back_by_command(
    shape: tuple[int, int, int],
    model: ODVAE,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames, height, width = shape
    pictures: list[np.ndarray] = []
    right = file_codec.VideoWriter.write
    monkeypatch.setattr(
        file_codec.VideoWriter, "write", lambda self, picture: (pictures.append(picture), right(self, picture))
    )
    source = write(tmp_path / "in.mp4", moving(frames, height, width), rate=Fraction(30000, 1001))
    latents, target = tmp_path / "latents.safetensors", tmp_path / "out.mp4"
    before = set(tmp_path.iterdir())
    assert cli.main(["encode", str(source), str(latents), "--model", str(folder), "--json"]) == 0
    told = {"output": str(latents), "num_frames": frames, "height": height, "width": width, "rate": "30000/1001"}
    assert json.loads(capsys.readouterr().out) == told
    stored = load_file(latents)
    assert list(stored) == ["latents"]
    with model.tiled(spatial=None, temporal=33):
        expected = model.encode(whole(source))
        decoded = model.decode(expected, num_frames=frames, size=(height, width))
    assert torch.allclose(stored["latents"], expected, atol=1e-5)
    assert cli.main(["decode", str(latents), str(target), "--model", str(folder)]) == 0
    assert f"{frames} frames of {height} x {width}" in capsys.readouterr().out
    assert set(tmp_path.iterdir()) - before == {latents, target}
    assert whole(target).shape == decoded.shape
    found = torch.from_numpy(np.stack(pictures)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    assert (
        float((found - decoded.clamp(-1, 1)).abs().max()) < 0.01
    )  # before H.264, which random pictures do not survive
    with av.open(str(target)) as container:
        assert container.streams.video[0].average_rate == Fraction(30000, 1001)


def test_an_fsae_streams_as_well(build: Callable[..., FSAE], tmp_path: Path) -> None:
    build().save_pretrained(tmp_path / "vae")
    source, latents = write(tmp_path / "in.mp4", moving(19, 16, 24)), tmp_path / "latents.safetensors"
    assert cli.main(["encode", str(source), str(latents), "--model", str(tmp_path / "vae")]) == 0
    assert torch.allclose(load_file(latents)["latents"], build().encode(whole(source)), atol=1e-4)
    assert cli.main(["decode", str(latents), str(tmp_path / "out.mp4"), "--model", str(tmp_path / "vae")]) == 0
    assert read(tmp_path / "out.mp4").shape == (19, 16, 24, 3)


def test_a_long_video_is_never_in_memory(model: ODVAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more frames are alive than those of a group and two chunks, whatever the length."""
    alive, most = [0], [0]
    right = file_codec.video_chunks

    def counted(*args: object) -> Iterator[Tensor]:
        for chunk in right(*args):  # type: ignore[arg-type]
            alive[0] += chunk.shape[2]
            weakref.finalize(chunk, lambda n=chunk.shape[2]: alive.__setitem__(0, alive[0] - n))
            most[0] = max(most[0], alive[0])
            yield chunk

    monkeypatch.setattr(file_codec, "video_chunks", counted)
    source = write(tmp_path / "in.mp4", moving(200, 16, 16))
    encode_file(model, source, tmp_path / "latents.safetensors")
    assert most[0] <= 48
    monkeypatch.setattr(model, "encode_chunks", lambda chunks: iter([model.encode(torch.cat([*chunks], dim=2))]))
    encode_file(model, source, tmp_path / "latents.safetensors")  # the mutant: all at once
    assert most[0] == 200


def test_long_latents_are_never_in_memory(model: ODVAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No piece is read that is longer than a chunk, and none stays once its group is decoded."""
    alive, most = [0], [0]
    right = LatentFile.pieces

    def counted(self: LatentFile, length: int) -> Iterator[Tensor]:
        for piece in right(self, length):
            alive[0] += piece.shape[2]
            weakref.finalize(piece, lambda n=piece.shape[2]: alive.__setitem__(0, alive[0] - n))
            most[0] = max(most[0], alive[0])
            yield piece

    monkeypatch.setattr(LatentFile, "pieces", counted)
    with LatentWriter(tmp_path / "x.safetensors") as writer:
        writer.write(torch.randn(1, 4, 51, 2, 2))
        writer.finish(VideoFacts(num_frames=201, height=16, width=16, rate=Fraction(24)))
    decode_file(model, tmp_path / "x.safetensors", tmp_path / "out.mp4")
    assert most[0] <= 12
    monkeypatch.setattr(file_codec, "CHUNK_LATENTS", 100)  # the mutant: all at once
    decode_file(model, tmp_path / "x.safetensors", tmp_path / "out.mp4")
    assert most[0] == 51


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lengths", [[3], [1, 1, 1], [2, 1]])
def test_the_file_is_what_the_library_reads(lengths: list[int], dtype: torch.dtype, tmp_path: Path) -> None:
    latents = torch.randn(1, 4, 3, 2, 5).to(dtype)
    with LatentWriter(tmp_path / "x.safetensors") as writer:
        for piece in latents.split(lengths, dim=2):
            writer.write(piece)
        writer.finish(FACTS)
    assert torch.equal(load_file(tmp_path / "x.safetensors")["latents"], latents)
    found = LatentFile(tmp_path / "x.safetensors")
    assert found.facts == FACTS
    assert torch.equal(torch.cat([*found.pieces(2)], dim=2), latents)
    assert [piece.shape[2] for piece in found.pieces(2)] == [2, 1]


def changing_size(path: Path) -> Path:
    """Two sizes in one stream, as television has it."""
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=24)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for start, height, width in ((0, 48, 64), (12, 32, 48)):
            codec: Any = av.CodecContext.create("mpeg2video", "w")
            codec.height, codec.width, codec.pix_fmt, codec.time_base = height, width, "yuv420p", Fraction(1, 24)
            frames: list[Any] = [None]
            for i, picture in enumerate(moving(12, height, width)):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                frames.insert(-1, frame.reformat(format="yuv420p"))
                frames[i].pts = start + i
            for packet in (packet for frame in frames for packet in codec.encode(frame)):
                packet.stream = stream
                container.mux(packet)
    return path


def sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def truncated(path: Path) -> Path:
    content = write(path, moving(30, 48, 64)).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def cut_between_frames(path: Path) -> Path:
    """With the index at the front, as files for the web have it, nothing but the length tells."""
    with file_codec.VideoWriter(path, rate=Fraction(24)) as writer:
        for picture in moving(30, 48, 64):
            writer.write(picture)
    with av.open(str(path)) as container:
        ends = sorted(packet.pos + packet.size for packet in container.demux(video=0) if packet.size)
    path.write_bytes(path.read_bytes()[: ends[11]])
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 12
    return path


BAD = {
    "changes size": (changing_size, "in.ts", "whose frames change their size"),
    "sound alone": (sound_only, "in.m4a", "which has no video stream"),
    "truncated": (truncated, "in.mp4", "which is damaged"),
    "cut between frames": (cut_between_frames, "in.mp4", "which is damaged: it ends after"),
    "empty": (lambda path: (path.write_bytes(b"") and path) or path, "in.mp4", "which is damaged or no video"),
    "missing": (lambda path: path, "in.mp4", "no such file"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_videos_are_refused_with_the_reason(
    kind: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, name, reason = BAD[kind]
    source = make(tmp_path / name)
    before = set(tmp_path.iterdir())
    latents = str(tmp_path / "latents.safetensors")
    assert cli.main(["encode", str(source), latents, "--model", str(folder)]) == cli.USAGE
    assert reason in capsys.readouterr().err
    assert set(tmp_path.iterdir()) == before


def test_bad_latents_are_refused_with_the_reason(
    model: ODVAE, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad, out = (tmp_path / name for name in ("good.safetensors", "bad.safetensors", "out.mp4"))
    encode_file(model, write(tmp_path / "in.mp4", moving(9, 16, 16)), good)

    def refused(reason: str) -> None:
        before = set(tmp_path.iterdir())
        assert cli.main(["decode", str(bad), str(out), "--model", str(folder)]) == cli.USAGE
        assert reason in capsys.readouterr().err
        assert set(tmp_path.iterdir()) == before

    refused("no such file")
    bad.write_bytes(good.read_bytes()[:-1])
    refused("which is truncated or no safetensors file")
    bad.write_text("latents")
    refused("which is truncated or no safetensors file")
    save_file({"latents": torch.zeros(1, 4, 3, 2, 2)}, bad)
    refused("does not tell num_frames, height, width, rate")
    save_file({"weights": torch.zeros(3)}, bad)
    refused("expected one tensor `latents`")
    facts = {"num_frames": "9", "height": "16", "width": "16", "rate": "24"}
    for change, reason in (
        ({"num_frames": "90"}, "this model makes (1, 4, 24, 2, 2) of 90 frames of 16 x 16"),
        ({"height": "many"}, "whose metadata is damaged"),
        ({"rate": "24/0"}, "whose metadata is damaged"),
        ({"width": "0"}, "whose metadata tells of"),
    ):
        save_file({"latents": torch.zeros(1, 4, 3, 2, 2)}, bad, metadata=facts | change)
        refused(reason)


def test_targets_and_models_that_will_not_do(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "in.mp4", moving(3, 16, 16))
    (tmp_path / "folder.safetensors").mkdir()
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"_class_name": "ReducioVAE"}')
    for target, model, reason in (
        ("out.npz", folder, "ends in .safetensors"),
        ("no/out.safetensors", folder, "no folder"),
        ("folder.safetensors", folder, "is a folder"),
        ("out.safetensors", other, "a ReducioVAE; videos of any length take FSAE or ODVAE"),
    ):
        assert cli.main(["encode", str(source), str(tmp_path / target), "--model", str(model)]) == cli.USAGE
        assert reason in capsys.readouterr().err
    assert cli.main(["encode", str(source), str(tmp_path / "x.safetensors")]) == cli.USAGE
    assert "`--model` is missing" in capsys.readouterr().err


def test_what_breaks_midway_leaves_nothing(model: ODVAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = write(tmp_path / "in.mp4", moving(70, 16, 16)), tmp_path / "latents.safetensors"
    target.write_text("the one before")
    before = set(tmp_path.iterdir())

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(latent_file.LatentWriter, "finish", full)
    with pytest.raises(OSError, match="no space"):
        encode_file(model, source, target)
    assert set(tmp_path.iterdir()) == before
    assert target.read_text() == "the one before"
    monkeypatch.undo()
    encode_file(model, source, target)
    monkeypatch.setattr(file_codec.VideoWriter, "write", full)
    with pytest.raises(OSError, match="no space"):
        decode_file(model, target, tmp_path / "out.mp4")
    assert set(tmp_path.iterdir()) == before
