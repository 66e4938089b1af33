"""What of 121 frames of 720 x 1280 fits an engine, at full size: planned on shapes alone, nothing is allocated."""

import pytest
import torch
from fastvid_dit import FSVIDEO_14B, FSVideoDiT
from fastvid_export import (
    AxisRange,
    Exportable,
    decoder_exportable,
    large_tensors,
    largest_that_fits,
    transformer_exportable,
)
from fastvid_vae import FSAE, FSAE_LITE

pytestmark = pytest.mark.slow  # half a minute

GRID = {"t": 31, "h": 12, "w": 20}  # latents of FSAE, 64 x 64 pixels each; 720 rows are padded to 768


def ranges(*axes: str) -> dict[str, AxisRange]:
    return {axis: AxisRange(minimum=1, example=2, maximum=512) for axis in axes}


@pytest.fixture(scope="module")
def transformer() -> Exportable:
    with torch.device("meta"):
        model = FSVideoDiT(FSVIDEO_14B).eval()
    axes = ranges("b", "t", "h", "w", "l") | (ranges("m") if FSVIDEO_14B.image_width else {})
    return transformer_exportable(model, text_mask=False, axes=axes)


def sizes(exportable: Exportable, batch: int) -> dict[str, int]:
    given = {"b": batch, "l": 512, "m": 257} | GRID
    return {axis: given[axis] for axis in exportable.axes}


def test_a_transformer_takes_one_video_whole_and_not_two(transformer: Exportable) -> None:
    """The layer memory holds all blocks' outputs for every token: guidance in one batch makes that too large."""
    assert large_tensors(transformer, sizes(transformer, batch=1)) == ()
    found = large_tensors(transformer, sizes(transformer, batch=2))
    assert found[0].shape == (2 * 31 * 12 * 20, FSVIDEO_14B.num_blocks, FSVIDEO_14B.width)


def test_a_decoder_needs_chunks_or_tiles() -> None:
    with torch.device("meta"):
        model = FSAE(FSAE_LITE).eval()
    decoder = decoder_exportable(model, reference=True, axes=ranges("b", "t", "h", "w"))
    whole = {"b": 1, **GRID}
    assert large_tensors(decoder, whole)
    chunk = largest_that_fits(decoder, whole, "t")
    assert chunk is not None
    assert 1 < chunk < 31
    assert large_tensors(decoder, {**whole, "t": chunk}) == ()
    assert large_tensors(decoder, {**whole, "t": chunk + 1})
