"""Tiles on a trained autoencoder: how far from the whole, and whether their borders can be seen.

Random weights would say nothing here: what a tile cannot see matters only to a network that looks for it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import fastvid_pipelines
import numpy as np
import pytest
import torch
from fastvid_vae import FSAE, psnr, tiling
from fastvid_vae.conversion.decoder_mode import causal_to_centred
from fastvid_vae.fsae import memory, passes
from PIL import Image
from torch import Tensor

VAE = Path(fastvid_pipelines.__file__).parent / "embedded_model" / "vae"
PHOTO = Path(__file__).parents[2] / "examples" / "assets" / "meadow.jpg"
CELL = 16
HEIGHT, FRAMES = 4 * CELL, 5
NATURAL, WORST = 45.0, 38.0
LARGEST_RATIO, LARGEST_JUMP = 1.05, 0.5 / 127.5


@pytest.fixture(scope="module")
def model() -> Iterator[FSAE]:
    torch.set_flush_denormal(True)  # a third of the time goes into numbers below 1e-38 otherwise
    yield FSAE.from_pretrained(VAE).eval().requires_grad_(False)
    torch.set_flush_denormal(False)


def photo(height: int, width: int) -> Tensor:
    with Image.open(PHOTO) as image:
        pixels = np.array(image.convert("RGB").resize((width, height)))
    return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1


def pan(width: int, frames: int = FRAMES) -> Tensor:
    wide = photo(HEIGHT, width + 6 * frames)
    return torch.stack([wide[:, :, 6 * t : 6 * t + width] for t in range(frames)], dim=1)[None]


def grating(width: int, frames: int = FRAMES) -> Tensor:
    t, y, x = torch.meshgrid(*map(torch.arange, (frames, HEIGHT, width)), indexing="ij")
    return (0.8 * torch.sin((x + 0.5 * y + 2 * t) * 2 * torch.pi / 24)).expand(1, 3, -1, -1, -1).contiguous()


def fade(width: int, frames: int = FRAMES) -> Tensor:
    light = torch.linspace(1, 0.3, frames).view(1, -1, 1, 1)
    return ((photo(HEIGHT, width)[:, None] + 1) * light - 1)[None]


class Tiled:
    """A clip of 21 cells in tiles, and what its tiles gave, so that they can be put together in other ways."""

    def __init__(self, model: FSAE, frames: Tensor, monkeypatch: pytest.MonkeyPatch, *, cells: int, overlap: float):
        self.whole_latents, reference = model.encode(frames), frames[:, :, 0]
        self.whole = model.decode(self.whole_latents, reference=reference)
        with model.tiled(spatial=cells * CELL, temporal=None, overlap=overlap):
            latents = model.encode(frames)
            with monkeypatch.context() as patched:
                patched.setattr(passes, "merge", self.record)
                self.decoded = model.decode(self.whole_latents, reference=reference)
        self.encoded = model.decode(latents, reference=reference)

    def record(self, parts: Iterable[Tensor], tiles: Sequence[tiling.Tile], maps: Sequence[tiling.CellMap]) -> Tensor:
        self.parts, self.tiles, self.maps = list(parts), tiles, maps
        return tiling.merge(self.parts, tiles, maps)

    def again(self) -> Tensor:
        """The decoded tiles, put together as `tiling` does by now."""
        return tiling.merge(self.parts, self.tiles, self.maps)

    def seam_ratio(self, frames: Tensor) -> float:
        """Of the worst border: mean gradient there over that elsewhere, divided by the same of the whole."""
        spans = [span for *_, span in self.tiles]
        edges = sorted({cell * CELL for span in spans for cell in (span.start, span.stop)} - {0, frames.shape[4]})
        borders = torch.zeros(len(edges), frames.shape[4] - 1, dtype=torch.bool)
        for border, edge in zip(borders, edges, strict=True):
            border[edge - 2 : edge + 2] = True

        def ratios(video: Tensor) -> Tensor:
            gradient = video.diff(dim=4).abs().mean(dim=(0, 1, 2, 3))
            elsewhere = gradient[~borders.any(dim=0)].mean()
            return torch.stack([gradient[border].mean() for border in borders]) / elsewhere

        return float((ratios(frames) / ratios(self.whole)).max())


def unblended(span: tiling.Span, to_output: tiling.CellMap) -> Tensor:
    """The next tile counts alone from where it begins."""
    weights = torch.ones(to_output(span.stop) - to_output(span.start))
    if span.fade_out[1] > span.fade_out[0]:
        weights[to_output(span.fade_out[0]) - to_output(span.start) :] = 0
    return weights


def faded_in_pixels(span: tiling.Span, to_output: tiling.CellMap) -> Tensor:
    """Fades begin where they should, and last one pixel a cell."""
    weights = torch.ones(to_output(span.stop) - to_output(span.start))
    for (first, last), rising in ((span.fade_in, True), (span.fade_out, False)):
        if last > first:
            begin = to_output(first) - to_output(span.start)
            end = begin + last - first
            ramp = (torch.arange(last - first) + 0.5) / (last - first)
            weights[begin:end] = ramp if rising else 1 - ramp
            weights[slice(begin) if rising else slice(end, None)] = 0
    return weights


@pytest.mark.parametrize(
    ("make", "cells", "overlap", "least"),
    [
        (pan, 12, 0.25, NATURAL),
        pytest.param(pan, 8, 0.5, NATURAL, marks=pytest.mark.slow),
        pytest.param(grating, 12, 0.25, WORST, marks=pytest.mark.slow),
        pytest.param(grating, 8, 0.5, WORST, marks=pytest.mark.slow),
        pytest.param(fade, 12, 0.25, WORST, marks=pytest.mark.slow),
        pytest.param(fade, 8, 0.5, WORST, marks=pytest.mark.slow),
    ],
)
def test_borders_in_space_do_not_show(
    model: FSAE,
    make: Callable[[int], Tensor],
    cells: int,
    overlap: float,
    least: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tiled = Tiled(model, make(21 * CELL), monkeypatch, cells=cells, overlap=overlap)
    scores = {name: psnr(getattr(tiled, name), tiled.whole).item() for name in ("encoded", "decoded")}
    assert min(scores.values()) >= least, scores
    assert tiled.seam_ratio(tiled.decoded) <= LARGEST_RATIO
    assert tiled.seam_ratio(tiled.encoded) <= LARGEST_RATIO
    assert torch.equal(tiled.again(), tiled.decoded)
    # A grating is all gradient: a step that lasts a few pixels does not stand out from it.
    for mutant in (unblended,) if make is grating else (unblended, faded_in_pixels):
        monkeypatch.setattr(tiling, "span_weights", mutant)
        assert tiled.seam_ratio(tiled.again()) > LARGEST_RATIO


@pytest.mark.parametrize(("make", "least"), [(pan, NATURAL), (grating, WORST)])
def test_tiles_in_time_lie_close_to_the_whole(model: FSAE, make: Callable[[int, int], Tensor], least: float) -> None:
    """The trained decoder with kernels that see as much behind as ahead, in the shortest tiles that `decode` takes.

    Nothing else about it is trained, so frames are far from the clip; what a tile cannot see is what counts here.
    """
    standard = FSAE(replace(model.config, decoder_mode="standard")).eval().requires_grad_(False)
    standard.load_state_dict(symmetric(causal_to_centred(model.state_dict())))
    frames = make(4 * CELL, 37)
    latents, reference = model.encode(frames), frames[:, :, 0]
    whole = standard.decode(latents, reference=reference)

    def distance(overlap: float) -> float:
        with standard.tiled(spatial=None, temporal=1 + 4 * (memory.SMALLEST_LATENTS - 1), overlap=overlap):
            return psnr(standard.decode(latents, reference=reference), whole).item()

    assert distance(memory.FADING_OVERLAP) >= least
    assert distance(memory.OVERLAP) < least


def symmetric(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Half of what a decoder's kernels (t-1, t, t+1) give the past goes to the future."""
    return {
        name: torch.stack([tensor[:, :, 0] / 2, tensor[:, :, 1], tensor[:, :, 0] / 2], dim=2)
        if name.startswith("decoder.") and tensor.dim() == 5 and tensor.shape[2] == 3
        else tensor
        for name, tensor in state_dict.items()
    }


def test_borders_in_time_do_not_flash(model: FSAE, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trained decoder, its kernels moved to the centre, in tiles of 5 latents: mean luma against the whole's."""
    centred = FSAE(replace(model.config, decoder_mode="standard")).eval().requires_grad_(False)
    centred.load_state_dict(causal_to_centred(model.state_dict()))
    frames = fade(4 * CELL, 37)
    latents, reference = model.encode(frames), frames[:, :, 0]
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1, 1)

    def jumps(video: Tensor) -> Tensor:
        return (video[0] * luma).sum(dim=0).mean(dim=(1, 2)).diff().abs()

    whole = jumps(centred.decode(latents, reference=reference))
    merged: list[tuple[list[Tensor], Sequence[tiling.Tile], Sequence[tiling.CellMap]]] = []

    def record(parts: Iterable[Tensor], tiles: Sequence[tiling.Tile], maps: Sequence[tiling.CellMap]) -> Tensor:
        merged.append((list(parts), tiles, maps))
        return tiling.merge(*merged[-1])

    monkeypatch.setattr(passes, "merge", record)
    with centred.tiled(spatial=None, temporal=17, overlap=0.5):
        tiled = centred.decode(latents, reference=reference)
    assert (jumps(tiled) - whole).max() <= LARGEST_JUMP
    for mutant in (unblended, faded_in_pixels):
        monkeypatch.setattr(tiling, "span_weights", mutant)
        assert (jumps(tiling.merge(*merged[-1])) - whole).max() > LARGEST_JUMP
