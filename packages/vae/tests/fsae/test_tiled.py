"""Tiles on the model: exact where nothing but overlap stands between a tile and the whole, close elsewhere."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from fastvid_vae import FSAE
from fastvid_vae.fsae import memory, passes
from torch import Tensor


@pytest.mark.parametrize("mode", ["causal", "lite"])
@torch.no_grad()
def test_chunks_in_time_are_exact(mode: str, build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    model, frames = build(decoder_mode=mode), video(1, 3, 21, 16, 24)
    latents = model.encode(frames)
    decoded = model.decode(latents, reference=frames[:, :, 0])
    for temporal in (1, 5, 9, 61):
        with model.tiled(spatial=None, temporal=temporal, overlap=0):
            assert torch.allclose(model.encode(frames), latents, atol=1e-5)
            assert torch.allclose(model.decode(latents, reference=frames[:, :, 0]), decoded, atol=1e-5)


@pytest.mark.parametrize("mode", ["causal", "standard", "lite"])
@torch.no_grad()
def test_tiles_in_space_are_exact_outside_the_fades(
    mode: str, build: Callable[..., FSAE], video: Callable[..., Tensor]
) -> None:
    """Convolutions alone reach 6 cells; tiles of 16 that share 8 leave the outer 8 cells of each to one tile."""
    model = build(decoder_mode=mode, stage_kinds=("conv",) * 4, injection=(None,) * 4)
    frames, latents = video(1, 3, 5, 24, 24 * 8), video(1, 4, 2, 3, 24)
    whole, decoded = model.encode(frames), model.decode(latents)
    with model.tiled(spatial=(24, 128), temporal=None, overlap=0.5):
        tiled, tiled_frames = model.encode(frames), model.decode(latents)
    for found, expected, cell in ((tiled, whole, 1), (tiled_frames, decoded, 8)):
        outer = [*range(8 * cell), *range(16 * cell, 24 * cell)]
        assert torch.allclose(found[..., outer], expected[..., outer], atol=1e-4)
        assert not torch.equal(found, expected)


@torch.no_grad()
def test_tiles_in_time_of_the_standard_decoder(build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    """Exact outside the fades, and tiles after the first run as the middle of a video."""
    model = build(decoder_mode="standard", decoder_depths=(0, 0, 0, 0), injection=(None,) * 4)
    latents = video(1, 4, 24, 2, 2)
    whole = model.decode(latents)
    with model.tiled(spatial=None, temporal=61, overlap=0.5):  # latents 0..16 and 8..24
        tiled = model.decode(latents)
    assert tiled.shape == whole.shape
    outer = [*range(4 * 8 - 3), *range(4 * 16 - 3, 4 * 24 - 3)]
    assert torch.allclose(tiled[:, :, outer], whole[:, :, outer], atol=1e-4)


@torch.no_grad()
def test_a_later_tile_run_as_a_first_one_is_caught(
    build: Callable[..., FSAE], video: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(decoder_mode="standard")
    monkeypatch.setattr(passes.Stream, "next_chunk", lambda self: None)
    with model.tiled(spatial=None, temporal=61, overlap=0.5), pytest.raises(RuntimeError):
        model.decode(video(1, 4, 24, 2, 2))  # three frames are missing


@torch.no_grad()
def test_reference_tiles_are_cut_alike(build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    """Without overlap and fades, a tile's frames are those of the tile on its own, its reference cut to it."""
    for mode in ("causal", "standard", "lite"):
        model, latents, reference = build(decoder_mode=mode), video(1, 4, 3, 4, 6), video(1, 3, 32, 48)
        with model.tiled(spatial=16, temporal=None, overlap=0):
            tiled = model.decode(latents, reference=reference)
        for top, left in ((0, 0), (16, 32)):
            box = (..., slice(top, top + 16), slice(left, left + 16))
            cells = (..., slice(top // 8, top // 8 + 2), slice(left // 8, left // 8 + 2))
            assert torch.allclose(tiled[box], model.decode(latents[cells], reference=reference[box]), atol=1e-5)


@torch.no_grad()
def test_chunks_and_tiles_together(build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    """Every tile keeps a memory of its own: in chunks, tiled is what it is in one piece."""
    model, frames = build(decoder_mode="lite"), video(1, 3, 13, 30, 40)
    with model.tiled(spatial=16, temporal=5, overlap=0.25):
        whole = model.encode(frames)
        chunks = list(model.encode_chunks(frames.split([9, 4], dim=2)))
        assert torch.allclose(torch.cat(chunks, dim=2), whole, atol=1e-5)
        decoded = model.decode(whole, reference=frames[:, :, 0], num_frames=13, size=(30, 40))
        parts = list(model.decode_chunks(whole.split([1, 3], dim=2), reference=frames[:, :, 0]))
        assert torch.allclose(torch.cat(parts, dim=2)[..., :30, :40], decoded, atol=1e-5)


@torch.no_grad()
def test_nothing_stays_on_the_model(build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    model, frames = build(), video(1, 3, 5, 40, 40)
    whole, before = model.encode(frames), {**vars(model)}
    with model.tiled(spatial=16, temporal=5, overlap=0.25):
        tiled = model.encode(frames)
        with model.tiled(spatial=None, temporal=None):
            assert torch.equal(model.encode(frames), whole)
        assert torch.equal(model.encode(frames), tiled)
    assert not torch.equal(tiled, whole)
    assert torch.equal(model.encode(frames), whole)
    with pytest.raises(KeyError), model.tiled(spatial=16):
        raise KeyError
    assert vars(model) == before
    assert torch.equal(model.encode(frames), whole)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spatial": 20}, r"`spatial` is 20; expected 0 \+ a multiple of 8 \(nearest legal values: 16 and 24\)"),
        ({"spatial": 0}, r"`spatial` is 0; .*nearest legal values: 8 and 16"),
        ({"spatial": (16, -8)}, r"`spatial` is -8"),
        ({"spatial": 16.0}, r"`spatial` is 16.0; expected a whole number"),
        ({"temporal": True}, r"`temporal` is True; expected a whole number"),
        ({"spatial": np.int64(20)}, r"`spatial` is 20; expected 0 \+ a multiple of 8"),
        ({"spatial": (16, 16, 16)}, r"`spatial` is \(16, 16, 16\)"),
        ({"temporal": 8}, r"`temporal` is 8; expected 1 \+ a multiple of 4 \(nearest legal values: 5 and 9\)"),
        ({"temporal": 0}, r"`temporal` is 0; .*nearest legal values: 1 and 5"),
        ({"overlap": 0.75}, r"`overlap` is 0.75; expected 0 to 0.5"),
        ({"spatial": 8}, r"`spatial` is one latent cell"),
    ],
)
def test_settings_out_of_range(settings: dict[str, object], message: str, build: Callable[..., FSAE]) -> None:
    with pytest.raises(ValueError, match=message), build().tiled(**settings):  # type: ignore[arg-type]
        pass


@torch.no_grad()
def test_large_videos_are_taken_apart_by_themselves(
    build: Callable[..., FSAE], video: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, frames = build(), video(1, 3, 17, 16, 16)
    latents, decoded = model.encode(frames), model.decode(video(1, 4, 5, 2, 2))
    seen: list[int] = []
    monkeypatch.setattr(memory, "BUDGET", 2**18)
    for part in (model.encoder, model.decoder):
        part.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[2]))
    assert torch.allclose(model.encode(frames), latents, atol=1e-5)
    encoded_in = [*seen]
    assert torch.allclose(model.decode(video(1, 4, 5, 2, 2)), decoded, atol=1e-5)
    assert len(encoded_in) > 1
    assert len(seen) - len(encoded_in) > 1
    with model.tiled(spatial=None, temporal=None):
        seen.clear()
        model.encode(frames)
    assert seen == [17]
