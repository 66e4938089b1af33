"""Encoders, and causal autoencoders in chunks: small ones that remember frames, with symbolic sizes in every axis."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from fastvid_export import (
    EngineError,
    Exportable,
    OnnxEngine,
    decoder_chunk_exportable,
    encoder_chunk_exportable,
    encoder_exportable,
    export_onnx,
    reference_exportable,
)
from torch import Tensor, nn

from .test_graphs import shapes


class FakeCausal(nn.Module):
    """Latents are sums over a frame and the two before it, of cells of 2 x 2 pixels, at half the frames."""

    stride = (2, 2, 2)
    latent_channels = 3

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(3, 3, (3, 2, 2), stride=(2, 2, 2))
        self.deconv = nn.Conv3d(3, 12, (2, 1, 1))
        self.late = nn.Conv3d(3, 3, (3, 1, 1))
        self.look = nn.Conv2d(3, 3, 2, stride=2)

    def num_latent_frames(self, num_frames: int) -> int:
        return 1 + num_frames // 2

    @contextmanager
    def tiled(self, *, spatial: None, temporal: None) -> Iterator[None]:
        yield

    def encode(self, frames: Tensor) -> Tensor:
        return self.encode_chunk(frames)[0]

    def encode_chunk(self, frames: Tensor, past: Sequence[Tensor] = ()) -> tuple[Tensor, tuple[Tensor, ...]]:
        x = torch.cat((past[0], frames), 2) if past else F.pad(frames, (0, 0, 0, 0, 2, 0), mode="replicate")
        return self.conv(x), (x[:, :, -1:],)

    def injected_features(self, reference: Tensor) -> tuple[Tensor]:
        return (self.look(reference).unsqueeze(2),)

    def decode_chunk(
        self, latents: Tensor, past: Sequence[Tensor] = (), features: Sequence[Tensor] = ()
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        x = latents + features[0] if features else latents
        x = torch.cat((past[0], x), 2) if past else F.pad(x, (0, 0, 0, 0, 1, 0), mode="replicate")
        grown = self.deconv(x).unflatten(1, (3, 2, 2)).permute(0, 1, 4, 5, 2, 6, 3).flatten(5).flatten(3, 4)
        late = torch.cat((past[1], grown), 2) if past else F.pad(grown, (0, 0, 0, 0, 2, 0), mode="replicate")
        return self.late(late).repeat_interleave(2, 2), (x[:, :, -1:], late[:, :, -2:])


@pytest.fixture(scope="module")
def model() -> FakeCausal:
    return FakeCausal().eval().requires_grad_(False)


def run(exportable: Exportable, folder: Path) -> OnnxEngine:
    path = folder / f"{exportable.name}.onnx"
    assert export_onnx(exportable, path).passed
    return OnnxEngine(path)


def test_encoder(model: FakeCausal, tmp_path: Path) -> None:
    exportable = encoder_exportable(model)
    assert exportable.inputs["frames"].shape == ("b", 3, (2, "t", -1), (2, "h"), (2, "w"))
    engine = run(exportable, tmp_path)
    assert shapes(tmp_path / "encoder.onnx") == {
        "frames": ["b", 3, "2*t - 1", "2*h", "2*w"],
        "latents": ["b", 3, "t", "h", "w"],
    }
    frames = torch.rand(1, 3, 7, 4, 6)
    torch.testing.assert_close(engine({"frames": frames})[0], model.encode(frames))


def test_encoder_of_an_autoencoder_whose_latents_all_hold_a_stride(model: FakeCausal) -> None:
    class Clips(FakeCausal):
        def num_latent_frames(self, num_frames: int) -> int:
            return -(-num_frames // 2)

    assert encoder_exportable(Clips().eval()).inputs["frames"].shape == ("b", 3, (2, "t"), (2, "h"), (2, "w"))


def test_a_video_encoded_in_chunks_is_the_whole_one(model: FakeCausal, tmp_path: Path) -> None:
    first = run(encoder_chunk_exportable(model, first=True), tmp_path)
    later = run(encoder_chunk_exportable(model, first=False), tmp_path)
    assert (first.outputs, later.inputs, later.outputs) == (
        ("latents", "cache_0"),
        ("frames", "cache_0"),
        ("latents", "new_cache_0"),
    )
    assert shapes(tmp_path / "encoder of later chunks.onnx")["cache_0"] == ["b", 3, 1, "2*h", "2*w"]
    frames = torch.rand(2, 3, 9, 4, 6)
    got, cache = first({"frames": frames[:, :, :3]})
    parts = [got]
    for start, end in ((3, 5), (5, 9)):
        got, cache = later({"frames": frames[:, :, start:end], "cache_0": cache})
        parts.append(got)
    torch.testing.assert_close(torch.cat(parts, 2), model.encode(frames))


@pytest.mark.parametrize("reference", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_video_decoded_in_chunks_is_the_whole_one(model: FakeCausal, tmp_path: Path, reference: bool) -> None:
    first = run(decoder_chunk_exportable(model, first=True, reference=reference), tmp_path)
    later = run(decoder_chunk_exportable(model, first=False, reference=reference), tmp_path)
    caches, features = ("cache_0", "cache_1"), ("feature_0",) if reference else ()
    assert (first.inputs, first.outputs) == (("latents", *features), ("frames", *caches))
    assert (later.inputs, later.outputs) == (("latents", *caches, *features), ("frames", "new_cache_0", "new_cache_1"))
    found = shapes(tmp_path / "decoder of later chunks.onnx")
    assert (found["cache_0"], found["cache_1"]) == (["b", 3, 1, "h", "w"], ["b", 3, 2, "2*h", "2*w"])

    latents, picture = torch.randn(2, 3, 6, 3, 2), torch.rand(2, 3, 6, 4)
    known = run(reference_exportable(model), tmp_path)({"reference": picture}) if reference else ()
    given = dict(zip(features, known, strict=True))
    got, *state = first({"latents": latents[:, :, :1], **given})
    parts = [got]
    for start, end in ((1, 3), (3, 6)):
        remembered = dict(zip(caches, state, strict=True))
        got, *state = later({"latents": latents[:, :, start:end], **remembered, **given})
        parts.append(got)
    whole, _ = model.decode_chunk(latents, (), model.injected_features(picture) if reference else ())
    torch.testing.assert_close(torch.cat(parts, 2), whole)
    with pytest.raises(EngineError):  # a chunk that goes on does not run without what it goes on from
        later({"latents": latents, **given})
