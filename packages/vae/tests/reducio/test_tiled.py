"""Tiles on the model: exact where nothing but overlap stands between a tile and the whole, and without seams."""

from collections.abc import Callable
from itertools import count

import pytest
import torch
from fastvid_vae import ReducioVAE, overhang, tiling
from fastvid_vae.reducio import memory
from torch import Tensor, nn

Video = Callable[..., Tensor]
LAYOUTS = ["even", "overhang"]


def convolutions_only(model: ReducioVAE) -> ReducioVAE:
    """What looks at the whole picture set aside: norms and the middles."""
    for module in [*model.modules()]:
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm) or (name == "mid" and module is not model.encoder_2d):
                setattr(module, name, nn.Identity())
    model.decoder.mid.forward = lambda x, *_, **__: x
    return model


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_tiles_are_exact_outside_the_fades(layout: str, build: Callable[..., ReducioVAE], video: Video) -> None:
    """Convolutions reach 9 cells at most; of two tiles of 24 that share 12, the outer 12 cells are those of one tile.

    The released code has a third tile at 24, which fades over all of its 12 cells.
    """
    model = convolutions_only(build(widths=(4, 4, 8), content_widths=(4, 8), fusion="none", fused_levels=()))
    frames, latents = video(1, 3, 8, 8, 36 * 4), video(1, 4, 2, 2, 36)
    whole, decoded = model.posterior(frames).mean, model.decode(latents)
    with model.tiled(spatial=(16, 96), overlap=0.5, layout=layout):  # type: ignore[arg-type]
        tiled, tiled_frames = model.posterior(frames).mean, model.decode(latents)
    for found, expected, cell in ((tiled, whole, 1), (tiled_frames, decoded, 4)):
        outer = [*range(12 * cell), *(range(24 * cell, 36 * cell) if layout == "even" else [])]
        assert torch.allclose(found[..., outer], expected[..., outer], atol=1e-5)
        assert not torch.allclose(found, expected, atol=1e-5)


@torch.no_grad()
def test_tiles_are_exact_where_they_share_four_times_the_reach(build: Callable[..., ReducioVAE], video: Video) -> None:
    """Near its edge, where it has seen padding, a tile counts for nothing; a quarter of 36 cells is what is reached."""
    model = convolutions_only(build(widths=(4, 4, 8), content_widths=(4, 8), fusion="none", fused_levels=()))
    frames, latents = video(1, 3, 8, 8, 108 * 4), video(1, 4, 2, 2, 108)
    whole, decoded = model.posterior(frames).mean, model.decode(latents)
    for overlap, exact in ((0.5, True), (0.125, False)):
        with model.tiled(spatial=(16, 288), overlap=overlap):
            tiled, tiled_frames = model.posterior(frames).mean, model.decode(latents)
        assert torch.allclose(tiled, whole, atol=1e-5) == exact
        assert torch.allclose(tiled_frames, decoded, atol=1e-5) == exact


class Steps:
    """Stands in for the decoder: the frames of the n-th tile are all n."""

    def __init__(self) -> None:
        self.tiles = count()

    def __call__(self, latents: Tensor, content: object) -> Tensor:
        b, _, t, h, w = latents.shape
        return latents.new_full((b, 3, 4 * t, 8 * h, 8 * w), float(next(self.tiles)))


def largest_step(model: ReducioVAE, layout: str, monkeypatch: pytest.MonkeyPatch) -> float:
    """Between neighbouring columns of what two tiles of 8 cells, 2 shared, make of nothing."""
    monkeypatch.setattr(model, "_frames", Steps())
    with model.tiled(spatial=(32, 64), overlap=0.25, layout=layout):  # type: ignore[arg-type]
        frames = model.decode(torch.zeros(1, 4, 2, 2, 14))
    assert float(frames.min()) == 0
    assert float(frames.max()) > (1.9 if layout == "overhang" else 0.9)  # three tiles, or two
    return float(frames.diff(dim=-1).abs().max())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_is_no_seam(layout: str, build: Callable[..., ReducioVAE], monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles share 16 pixels: the released code's fade over all of them, ours over the middle half."""
    faded = 16 if layout == "overhang" else 8
    assert largest_step(build(fusion="none"), layout, monkeypatch) == pytest.approx(1 / faded)


def cut_hard(span: tiling.Span, to_output: tiling.CellMap) -> Tensor:
    weights = torch.ones(to_output(span.stop) - to_output(span.start))
    weights[: to_output(span.fade_in[1]) - to_output(span.start)] = 0
    return weights


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_seam_is_seen(layout: str, build: Callable[..., ReducioVAE], monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutants: a cut instead of a fade, and a fade of as many pixels as it should have cells."""
    right = overhang.fade
    monkeypatch.setattr(tiling, "span_weights", cut_hard)
    monkeypatch.setattr(overhang, "fade", lambda previous, tile, along, *, axis: tile)
    assert largest_step(build(fusion="none"), layout, monkeypatch) >= 1
    short = overhang.Axis(size=32, step=31)
    monkeypatch.setattr(overhang, "fade", lambda a, b, along, *, axis: right(a, b, short, axis=axis))
    if layout == "overhang":
        assert largest_step(build(fusion="none"), layout, monkeypatch) >= 1 / 2


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_content_is_cut_alike(layout: str, build: Callable[..., ReducioVAE], video: Video) -> None:
    """Without overlap, a tile's frames are those of the tile on its own, its content frame cut to it."""
    for fusion in ("attention", "linear", "add"):
        model, latents, reference = build(fusion=fusion), video(1, 4, 2, 4, 6), video(1, 3, 32, 48)
        with model.tiled(spatial=16, overlap=0, layout=layout):  # type: ignore[arg-type]
            tiled = model.decode(latents, reference=reference)
        for top, left in ((0, 0), (16, 32)):
            box = (..., slice(top, top + 16), slice(left, left + 16))
            cells = (..., slice(top // 8, top // 8 + 2), slice(left // 8, left // 8 + 2))
            assert torch.allclose(tiled[box], model.decode(latents[cells], reference=reference[box]), atol=1e-5)


@torch.no_grad()
def test_no_slivers(build: Callable[..., ReducioVAE], video: Video) -> None:
    """Ten cells in tiles of four: ours are all of four; the released code's last one is of one."""
    model, seen = build(fusion="none"), []
    model.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[4]))
    for layout, sizes in (("even", [4, 4, 4]), ("overhang", [4, 4, 4, 1])):
        seen.clear()
        with model.tiled(spatial=(None, 32), overlap=0.25, layout=layout):
            model.decode(video(1, 4, 2, 2, 10))
        assert seen == sizes


@torch.no_grad()
def test_nothing_stays_on_the_model(build: Callable[..., ReducioVAE], video: Video) -> None:
    model, frames = build(), video(1, 3, 8, 40, 40)
    whole, before = model.encode(frames), {**vars(model)}
    with model.tiled(spatial=16, overlap=0.25):
        tiled = model.encode(frames)
        with model.tiled(spatial=None):
            assert torch.equal(model.encode(frames), whole)
        assert torch.equal(model.encode(frames), tiled)
    assert not torch.equal(tiled, whole)
    with pytest.raises(KeyError), model.tiled(spatial=16):
        raise KeyError
    assert vars(model) == before
    assert torch.equal(model.encode(frames), whole)


@torch.no_grad()
def test_large_pictures_are_taken_apart_by_themselves(
    build: Callable[..., ReducioVAE], video: Video, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, frames, seen = build(), video(1, 3, 8, 24, 24), []
    monkeypatch.setattr(memory, "BUDGET", 2**16)
    monkeypatch.setattr(memory, "TILE_PIXELS", 16)
    for part in (model.encoder_3d, model.decoder):
        part.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    latents = model.encode(frames)
    decoded = model.decode(latents, reference=frames[:, :, 3])
    assert decoded.shape == frames.shape
    assert seen == [(8, 16, 16)] * 4 + [(2, 2, 2)] * 4
    assert "exceed the memory budget" in caplog.text
    seen.clear()
    with model.tiled(spatial=None):
        model.encode(frames)
    assert seen == [(8, 24, 24)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spatial": 20}, r"`spatial` is 20; expected 0 \+ a multiple of 8 \(nearest legal values: 16 and 24\)"),
        ({"spatial": (16, -8)}, r"`spatial` is -8"),
        ({"temporal": 6}, r"`temporal` is 6; expected 0 \+ a multiple of 4 \(nearest legal values: 4 and 8\)"),
        ({"temporal": True}, r"`temporal` is True; expected a whole number"),
        ({"temporal": "whole"}, r"`temporal` is 'whole'; expected a whole number"),
        ({"overlap": 0.75}, r"`overlap` is 0.75; expected 0 to 0.5"),
        ({"spatial": 8}, r"`spatial` is one latent cell"),
        ({"layout": "odd"}, r"`layout` is 'odd'; expected 'even', 'overhang'"),
    ],
)
def test_settings_out_of_range(settings: dict[str, object], message: str, build: Callable[..., ReducioVAE]) -> None:
    with pytest.raises(ValueError, match=message), build().tiled(**settings):  # type: ignore[arg-type]
        pass
