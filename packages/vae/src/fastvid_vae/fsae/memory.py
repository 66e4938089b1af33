"""What a pass keeps in memory, from formulas, and the pieces in which it stays within the budget.

Not counted: the weights, the caller's own tensors, and what libraries for convolutions take beside one copy of their
input.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fastvid_vae.fsae.config import FSAEConfig
from fastvid_vae.tiling import Tiling, plan_grid

logger = logging.getLogger(__name__)

BUDGET = 8 * 2**30
"""Bytes beside the weights; above, `encode` and `decode` work in pieces unless `tiled` says otherwise."""
TILE_PIXELS = 512
TILE_LATENTS = 16
# Smaller tiles cost more than a decibel or two: see the README, "Measured, and claimed".
SMALLEST_CELLS = 4
SMALLEST_LATENTS = 4
OVERLAP = 0.25
FADING_OVERLAP = 0.5
"""Where tiles fade in time as well: of 4 latents that share one, frames lie below 45 dB from the whole, two above."""

TAPS = 27  # of a kernel
GLU_WIDTH = 8  # of the gated convolution's two halves, in widths of its stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes that a pass keeps alive, by what they grow with; for the whole batch.

    Attributes:
        working: in the layers at work, per pixel and frame of the piece at hand.
        remembered: the past frames of every convolution between two chunks, per pixel of a picture.
        first_frame: the reference's features that the decoder attends to, per pixel of a picture.
        output: per pixel and frame of the video; 0 where latents come out, 3000 times smaller at full size.
        folding: the kernels of one upsampling while they are added up, whatever the size of the video.
    """

    working: int
    remembered: int
    first_frame: int
    output: int
    folding: int


def encoder_footprint(config: FSAEConfig, *, itemsize: int, batch: int) -> Footprint:
    """Of `encode`; `itemsize` is that of an activation, in bytes."""
    widths = config.encoder_widths
    working = [
        # The features of every stage are kept to the end.
        _working(config, stage, widths, "causal", itemsize) + sum(_stage_bytes(config, widths, itemsize)[:stage])
        for stage in range(len(widths))
    ]
    downs = [
        width * (1 if stage in config.temporal_stages else 2) / 4.0**stage for stage, width in enumerate(widths[:-1])
    ]
    blocks = 2 * _convolved(config, widths, config.encoder_depths)
    remembered = 2 * 3 + blocks + sum(downs) + 2 * widths[-1] / 4.0 ** (len(widths) - 1)
    return Footprint(
        working=round(batch * max(working)),
        remembered=round(batch * itemsize * remembered),
        first_frame=0,
        output=0,
        folding=0,
    )


def decoder_footprint(config: FSAEConfig, *, itemsize: int, batch: int) -> Footprint:
    """Of `decode` with a reference where the model takes one; `itemsize` is that of an activation, in bytes."""
    widths, mode = config.decoder_widths, config.decoder_mode
    stage_bytes = [*_stage_bytes(config, widths, itemsize), 0.0]
    working = [
        # The caller holds the output of the stage below until this one is done.
        _working(config, stage, widths, mode, itemsize) + stage_bytes[stage + 1]
        for stage in range(len(widths))
    ]
    ups = sum(width / 4.0**stage for stage, width in enumerate(widths) if stage)
    inner = _convolved(config, widths, config.decoder_depths) + ups
    past = {"causal": 2, "lite": 1, "standard": 0}[mode]
    remembered = past * (inner + widths[0] + config.latent_channels / 4.0 ** (len(widths) - 1))
    first_frame = sum(
        width / 4.0**stage
        for stage, (width, kind) in enumerate(zip(config.encoder_widths, config.injection, strict=True))
        if kind is not None
    )
    folded = [
        4 * (2 if stage in config.temporal_stages else 1) * wide * narrow * TAPS
        for stage, (narrow, wide) in enumerate(pairwise(widths))
    ]
    return Footprint(
        working=round(batch * max(working)),
        remembered=round(batch * itemsize * remembered),
        first_frame=round(batch * itemsize * first_frame),
        output=batch * itemsize * 3,
        folding=3 * itemsize * max(folded, default=0),  # the last step, its input and the result in its final order
    )


def whole_cells(video: Sequence[int], *, strides: Sequence[int]) -> tuple[int, int, int]:
    """Frames, height and width as `encode` pads them: 1 + 4k frames (for a stride of 4), whole cells."""
    frames, height, width = video
    latents = 1 + -(-(frames - 1) // strides[0])
    rows, columns = -(-height // strides[1]), -(-width // strides[2])
    return 1 + (latents - 1) * strides[0], rows * strides[1], columns * strides[2]


def bytes_needed(
    footprint: Footprint, tiling: Tiling, video: Sequence[int], *, strides: Sequence[int], exact_in_time: bool
) -> int:
    """The most that is alive at once when a video (frames, height, width; whole cells) goes through in these pieces."""
    frames, height, width = video
    cells = height // strides[1], width // strides[2]
    grid = plan_grid(*cells, tiling)
    areas = [(rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in grid]
    length = frames if tiling.time is None else min(frames, tiling.time * strides[0])
    cell = strides[1] * strides[2]
    piece = length * areas[0] * cell
    output = footprint.output * frames * height * width
    if exact_in_time:
        # Every tile has a memory of its own from the first chunk to the last one.
        kept = (footprint.first_frame + footprint.remembered * (length < frames)) * sum(areas) * cell
    else:
        kept = footprint.first_frame * areas[0] * cell
    pieces = len(areas) > 1 or length < frames
    if pieces:
        kept += 2 * footprint.output * piece  # the result of the tile before, as it was and weighted
    if exact_in_time and len(areas) > 1:
        kept += footprint.output * length * height * width  # the chunk that tiles are added to
    joined = 2 * output if exact_in_time and length < frames else 0  # the chunks, and the video made of them
    return kept + max(footprint.folding, footprint.working * piece + output, joined)


def automatic_tiling(
    footprint: Footprint, video: Sequence[int], *, strides: tuple[int, int, int], exact_in_time: bool
) -> Tiling:
    """The largest pieces that fit the budget: the whole video; else parts in time; else tiles in space as well.

    Where nothing fits, the pieces that need least, and a warning that says how much that is.

    Args:
        footprint: of the pass, for the whole batch.
        video: frames, height, width, in whole latent cells.
        strides: compression in time, height and width.
        exact_in_time: chunks in time change nothing; otherwise they overlap and fade, as tiles in space always do.
    """
    least: tuple[int, Tiling] | None = None
    for tiling in _candidates(video, strides, exact_in_time=exact_in_time):
        needed = bytes_needed(footprint, tiling, video, strides=strides, exact_in_time=exact_in_time)
        if least is None or needed < least[0]:
            least = needed, tiling
        if needed <= BUDGET:
            break
    assert least is not None
    _tell(least[1], least[0], video)
    return least[1]


def _candidates(video: Sequence[int], strides: Sequence[int], *, exact_in_time: bool) -> Iterator[Tiling]:
    """From the largest pieces to the smallest."""
    latents = -(-video[0] // strides[0])
    side = max(SMALLEST_CELLS, TILE_PIXELS // strides[1])
    sides: list[int | None] = [None, *_halves(side, SMALLEST_CELLS)]
    if exact_in_time:
        times: list[int | None] = [None, *range(latents - 1, 0, -1)]
    else:
        yield Tiling(time=None, height=None, width=None, overlap=0.0)
        times = [*_halves(TILE_LATENTS, SMALLEST_LATENTS)]
    shared = OVERLAP if exact_in_time else FADING_OVERLAP
    for cells in sides:
        for time in times:
            overlap = 0.0 if exact_in_time and cells is None else shared
            yield Tiling(time=time, height=cells, width=cells, overlap=overlap)


def _halves(size: int, smallest: int) -> Iterator[int]:
    while size >= smallest:
        yield size
        size //= 2


def _tell(tiling: Tiling, needed: int, video: Sequence[int]) -> None:
    frames, height, width = video
    if tiling.overlap:
        logger.warning(
            "%s frames of %s x %s exceed the memory budget of %s GiB: tiles of %s latent frames, %s cells wide, "
            "which fade into one another",
            frames, height, width, BUDGET / 2**30, tiling.time or "all", tiling.height or "all",
        )  # fmt: skip
    elif tiling.time is not None:
        logger.info(
            "working through %s frames in chunks of %s latent frames; this changes no value", frames, tiling.time
        )
    if needed > BUDGET:
        logger.warning(
            "even in pieces this needs about %.1f GiB beside the weights, more than the memory budget of %s GiB",
            needed / 2**30, BUDGET / 2**30,
        )  # fmt: skip


def _stage_bytes(config: FSAEConfig, widths: Sequence[int], itemsize: int) -> list[float]:
    """Of one activation at every stage, per pixel and frame of the video."""
    frames = [1 << sum(temporal < stage for temporal in config.temporal_stages) for stage in range(len(widths))]
    return [itemsize * width / (4.0**stage * frames[stage]) for stage, width in enumerate(widths)]


def _working(config: FSAEConfig, stage: int, widths: Sequence[int], mode: str, itemsize: int) -> float:
    """The most that a stage's blocks keep alive, per pixel and frame of the video.

    Counted in activations of the stage. The pixel norm: the block's input and branch, and beside them either the
    branch in float32 and its squares, or three steps of the affine map. A convolution: the block's input, its own, that
    with the frames before and after, a copy of it in the library's own layout, and the output.
    """
    activation = _stage_bytes(config, widths, itemsize)[stage]
    group = config.group_size(stage)
    seen = 1 + 2 / (group * (SMALLEST_LATENTS if mode == "standard" else 1))  # frames in per frame out
    if config.stage_kinds[stage] == "attention":
        return activation * (1 + GLU_WIDTH * (2 + 2 * seen))
    norm = 2 + (2 * 4 / itemsize if itemsize < 4 else 3)
    return activation * max(norm, 3 + 2 * seen)


def _convolved(config: FSAEConfig, widths: Sequence[int], depths: Sequence[int]) -> float:
    """Channels that the blocks' temporal convolutions take in, per pixel of a picture."""
    channels = {"conv": 2, "attention": GLU_WIDTH}
    return sum(
        depth * channels[kind] * width / 4.0**stage
        for stage, (kind, width, depth) in enumerate(zip(config.stage_kinds, widths, depths, strict=True))
    )
