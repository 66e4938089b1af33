"""Where the overlap covers the reach of the network, tiled is whole, in space and in time; and only there."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fastvid_vae import FSAE, tiling
from torch import Tensor

# Convolutions alone, which reach 4 cells at most: tiles that share 16 leave 4 on each side without weight.
LOCAL: dict[str, Any] = {
    "stage_kinds": ("conv",) * 3,
    "encoder_widths": (4, 8, 8),
    "decoder_widths": (4, 8, 8),
    "encoder_depths": (1, 0, 0),
    "decoder_depths": (1, 0, 0),
    "injection": (None,) * 3,
}
STRIDE, TILE = 4, 32
# Borders crossed: none, one, one, two, two, three, four. Every other length adds a last tile with a single new cell.
LENGTHS = (31, 33, 48, 49, 64, 80, 81)


def largest_errors(model: FSAE, frames: Tensor, *, spatial: Any, temporal: int | None) -> tuple[float, float]:
    """Of tiled encoding and of tiled decoding."""
    latents = model.encode(frames)
    decoded = model.decode(latents)
    with model.tiled(spatial=spatial, temporal=temporal, overlap=0.5):
        return (
            float((model.encode(frames) - latents).abs().max()),
            float((model.decode(latents) - decoded).abs().max()),
        )


def wide(video: Callable[..., Tensor], cells: int) -> Tensor:
    """Frames one cell high; the last cell is not full."""
    return video(1, 3, 5, STRIDE, STRIDE * cells - 1, seed=cells)


@pytest.mark.parametrize("mode", ["causal", "standard", "lite"])
@torch.no_grad()
def test_tiles_in_space_equal_the_whole(mode: str, build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    model = build(decoder_mode=mode, scale=0.3, **LOCAL)
    for cells in LENGTHS:
        frames = wide(video, cells)
        for turned in (frames, frames.mT):
            errors = largest_errors(model, turned.contiguous(), spatial=TILE * STRIDE, temporal=None)
            assert max(errors) <= 1e-4, (cells, errors)
    both = video(1, 3, 1, STRIDE * 33, STRIDE * 34)
    assert max(largest_errors(model, both, spatial=TILE * STRIDE, temporal=None)) <= 1e-4


@torch.no_grad()
def test_tiles_in_time_of_the_standard_decoder_equal_the_whole(
    build: Callable[..., FSAE], video: Callable[..., Tensor]
) -> None:
    model = build(decoder_mode="standard", scale=0.3, **LOCAL)
    for cells in LENGTHS:
        frames = video(1, 3, 1 + 4 * (cells - 1), STRIDE, STRIDE, seed=cells)
        errors = largest_errors(model, frames, spatial=None, temporal=1 + 4 * (TILE - 1))
        assert max(errors) <= 1e-4, (cells, errors)


@pytest.mark.parametrize("mutant", ["no margin", "fades in pixels"])
@torch.no_grad()
def test_mutants_are_caught(
    mutant: str, build: Callable[..., FSAE], video: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weight up to the very edge of a tile; and as many pixels of fading as there should be cells."""
    model, frames = build(scale=0.3, **LOCAL), wide(video, 64)
    if mutant == "no margin":
        monkeypatch.setattr(tiling, "_ramp", lambda length: (torch.arange(length) + 0.5) / length)
    else:
        monkeypatch.setattr(tiling, "span_weights", weights_in_wrong_units)
    assert largest_errors(model, frames, spatial=TILE * STRIDE, temporal=None)[1] > 1e-3


def weights_in_wrong_units(span: tiling.Span, to_output: tiling.CellMap) -> Tensor:
    """Fades that begin where they should and last one pixel a cell."""
    weights = torch.ones(to_output(span.stop) - to_output(span.start))
    for (first, last), rising in ((span.fade_in, True), (span.fade_out, False)):
        if last > first:
            begin = to_output(first) - to_output(span.start)
            end = begin + last - first
            ramp = (torch.arange(last - first) + 0.5) / (last - first)
            weights[begin:end] = ramp if rising else 1 - ramp
            weights[slice(begin) if rising else slice(end, None)] = 0
    return weights
