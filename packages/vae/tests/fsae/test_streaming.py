"""Tests C and D: chunked equals whole, and the future never changes the past."""

import pickle
from collections.abc import Callable

import pytest
import torch
from fastvid_vae import FSAE
from fastvid_vae.layers.noise import Noise
from fastvid_vae.layers.stream import Stream
from torch import Tensor


@pytest.mark.parametrize("lengths", [[1, 4, 4, 8], [5, 12], [9, 8], [17], [1, 16]])
@torch.no_grad()
def test_chunked_encoding_equals_whole(
    lengths: list[int], build: Callable[..., FSAE], video: Callable[..., Tensor]
) -> None:
    model, frames = build(), video(2, 3, 17, 20, 16)
    chunks = list(model.encode_chunks(frames.split(lengths, dim=2)))
    assert [chunk.shape[2] for chunk in chunks] == [-(-length // 4) for length in lengths]
    assert torch.allclose(torch.cat(chunks, dim=2), model.encode(frames), atol=1e-5)


@pytest.mark.parametrize("mode", ["causal", "lite"])
@pytest.mark.parametrize("lengths", [[1, 1, 1, 2], [2, 3], [4, 1], [5]])
@torch.no_grad()
def test_chunked_decoding_equals_whole(
    mode: str, lengths: list[int], build: Callable[..., FSAE], video: Callable[..., Tensor]
) -> None:
    model, latents, reference = build(decoder_mode=mode), video(2, 4, 5, 3, 2), video(2, 3, 24, 16)
    chunks = list(model.decode_chunks(latents.split(lengths, dim=2), reference=reference))
    assert chunks[0].shape[2] == 4 * lengths[0] - 3
    assert [chunk.shape[2] for chunk in chunks[1:]] == [4 * length for length in lengths[1:]]
    assert torch.allclose(torch.cat(chunks, dim=2), model.decode(latents, reference=reference), atol=1e-5)


def through_memory(
    model: FSAE, frames: Tensor, chunk: int | None, restore: Callable[[Stream], Stream]
) -> tuple[Tensor, Tensor]:
    """Latents and frames of a video in chunks of so many latents, the past written out and read back between them."""
    silent, latents = Noise("off", 0.0, None), model.encode(frames)
    size = chunk or latents.shape[2]
    lengths = [1 + 4 * (size - 1), *[4 * size] * 100]
    first = model.first_frame_features(frames[:, :, 0])
    encoding, decoding = Stream(chunked=True), Stream(chunked=True)
    encoded, decoded, start = [], [], 0
    for index, piece in enumerate(latents.split(size, dim=2)):
        raw, _ = model.encoder(frames[:, :, start : start + lengths[index]], encoding)
        encoded.append(raw)
        decoded.append(model.decoder(model.denormalise(piece), first, decoding, silent))
        start += lengths[index]
        for stream in (encoding, decoding):
            stream.next_chunk()
        encoding, decoding = restore(encoding), restore(decoding)
    return model.normalise(torch.cat(encoded, dim=2)), torch.cat(decoded, dim=2)


def largest_error(found: Tensor, expected: Tensor) -> float:
    """Absolute; relative to the largest value where that is above 1, as in latents of random weights."""
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1))


@pytest.mark.parametrize("mode", ["causal", "lite"])
@pytest.mark.parametrize("chunk", [1, 3, 5, None])
@torch.no_grad()
def test_the_past_can_be_saved_and_restored_between_chunks(
    chunk: int | None, mode: str, build: Callable[..., FSAE], video: Callable[..., Tensor]
) -> None:
    model, frames = build(decoder_mode=mode), video(1, 3, 25, 16, 24)
    whole = model.encode(frames), model.decode(model.encode(frames), reference=frames[:, :, 0])
    found = through_memory(model, frames, chunk, lambda stream: pickle.loads(pickle.dumps(stream)))
    assert max(map(largest_error, found, whole)) <= 1e-5


@torch.no_grad()
def test_a_past_that_is_not_restored_is_caught(build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    model, frames = build(), video(1, 3, 25, 16, 24)
    whole = model.encode(frames), model.decode(model.encode(frames), reference=frames[:, :, 0])

    def forgetful(stream: Stream) -> Stream:
        stream._past[0] = torch.zeros_like(stream._past[0])
        return stream

    found = through_memory(model, frames, 3, forgetful)
    assert min(map(largest_error, found, whole)) > 1e-3


@torch.no_grad()
def test_the_last_chunk_may_stop_anywhere(build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    model, frames = build(), video(1, 3, 11, 16, 16)
    chunks = model.encode_chunks(frames.split([5, 6], dim=2))
    assert torch.allclose(torch.cat(list(chunks), dim=2), model.encode(frames), atol=1e-5)
    with pytest.raises(ValueError, match=r"`chunks` holds a chunk of 6 frames before its last one.*1 \+ 4a"):
        list(model.encode_chunks(frames.split([6, 5], dim=2)))


def test_chunks_of_another_size_are_refused(build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match="`chunks` changes"):
        list(build().encode_chunks([video(1, 3, 5, 16, 16), video(1, 3, 4, 16, 24)]))
    with pytest.raises(ValueError, match="`chunks` changes"):
        list(build().decode_chunks([video(1, 4, 2, 2, 2), video(2, 4, 2, 2, 2)]))


def test_the_standard_decoder_refuses_at_once(build: Callable[..., FSAE]) -> None:
    with pytest.raises(ValueError, match="`decode_chunks` needs `decoder_mode` 'causal' or 'lite'"):
        build(decoder_mode="standard").decode_chunks([])


@torch.no_grad()
def test_a_stream_that_forgets_is_caught(
    build: Callable[..., FSAE], video: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant: the past is taken from the first frame of the chunk, as for a video of its own."""
    model, frames = build(), video(1, 3, 9, 16, 16)
    whole = model.encode(frames)
    right = Stream.extend

    def forgetful(self: Stream, x: Tensor, *, first: int, later: int) -> Tensor:
        extended = right(self, x, first=first, later=later)
        return extended if self.first else torch.cat([x[:, :, :1]] * later + [x], dim=2)

    monkeypatch.setattr(Stream, "extend", forgetful)
    chunks = torch.cat(list(model.encode_chunks(frames.split([5, 4], dim=2))), dim=2)
    assert not torch.allclose(chunks, whole, atol=1e-3)


def test_memory_between_chunks_is_small(build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    """What is kept is a copy of at most two frames a layer, not a view that holds the whole chunk."""
    stream = Stream(chunked=True)
    build().encoder(video(1, 3, 17, 16, 16), stream)
    assert stream._past
    for past in stream._past:
        assert past.shape[2] <= 2
        assert past.untyped_storage().nbytes() == past.numel() * past.element_size()


@torch.no_grad()
def test_the_encoder_is_causal_to_the_bit(build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    model, frames = build(), video(1, 3, 17, 16, 16)
    changed = frames.clone()
    changed[:, :, 9:] = -changed[:, :, 9:]
    before, after = model.encode(frames), model.encode(changed)
    assert torch.equal(before[:, :, :3], after[:, :, :3])
    assert not torch.allclose(before[:, :, 3:], after[:, :, 3:], atol=1e-3)


@pytest.mark.parametrize(("mode", "knows_the_future"), [("causal", False), ("lite", False), ("standard", True)])
@torch.no_grad()
def test_decoders_and_the_future(
    mode: str, knows_the_future: bool, build: Callable[..., FSAE], video: Callable[..., Tensor]
) -> None:
    model, latents = build(decoder_mode=mode), video(1, 4, 5, 2, 2)
    changed = latents.clone()
    changed[:, :, 3:] = -changed[:, :, 3:]
    before, after = model.decode(latents)[:, :, :9], model.decode(changed)[:, :, :9]
    assert torch.equal(before, after) is not knows_the_future


@pytest.mark.parametrize(("mode", "with_reference"), [("causal", True), ("lite", True), ("lite", False)])
@torch.no_grad()
def test_chunks_as_functions_of_their_past(
    mode: str, with_reference: bool, build: Callable[..., FSAE], video: Callable[..., Tensor]
) -> None:
    model, frames = build(decoder_mode=mode), video(1, 3, 17, 16, 24)
    reference = frames[:, :, 0] if with_reference else None
    latents = model.encode(frames)
    features = () if reference is None else model.injected_features(reference)
    encoded, decoded = [], []
    seen: tuple[Tensor, ...] = ()
    shown: tuple[Tensor, ...] = ()
    for piece, part in zip(frames.split([5, 4, 8], dim=2), latents.split([2, 1, 2], dim=2), strict=True):
        found, seen = model.encode_chunk(piece, seen)
        encoded.append(found)
        before = [tensor.clone() for tensor in shown]
        made, later = model.decode_chunk(part, shown, features)
        assert all(map(torch.equal, before, shown))  # a past can be gone on from twice
        assert torch.equal(model.decode_chunk(part, shown, features)[0], made)
        decoded.append(made)
        shown = later
    assert torch.allclose(torch.cat(encoded, dim=2), latents, atol=1e-5)
    assert torch.allclose(torch.cat(decoded, dim=2), model.decode(latents, reference=reference), atol=1e-5)


def test_what_a_chunk_refuses(build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    latents = video(1, 4, 2, 2, 2)
    with pytest.raises(ValueError, match="`decode_chunk` needs `decoder_mode` 'causal' or 'lite'"):
        build(decoder_mode="standard").decode_chunk(latents)
    with pytest.raises(ValueError, match=r"`features` are 9; the model has \d stages that take them"):
        build(decoder_mode="lite").decode_chunk(latents, (), [latents] * 9)
