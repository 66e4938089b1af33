"""The memory formulas against what is really kept alive, and the pieces that follow from them."""

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate

import pytest
import torch
from fastvid_vae import FSAE, FSAE_LITE, FSAE_STANDARD, FSAEConfig
from fastvid_vae.fsae import memory, passes
from fastvid_vae.fsae.memory import Footprint, automatic_tiling, bytes_needed, decoder_footprint, encoder_footprint
from fastvid_vae.layers.noise import Noise
from fastvid_vae.layers.stream import Stream
from fastvid_vae.tiling import Tiling
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

Count = Callable[[Callable[[], object]], int]
STRIDES = (4, 16, 16)
FULL = (121, 1024, 1024)
PLAIN = Footprint(working=2560, remembered=0, first_frame=0, output=0, folding=0)


def live_peak(work: Callable[[], object]) -> int:
    """Bytes allocated at once on the CPU, from the profiler's list of allocations and releases."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(accumulate(sizes))


def empty(config: FSAEConfig) -> FSAE:
    with torch.device("meta"):
        return FSAE(config).to(torch.bfloat16).eval().requires_grad_(False)


def decoding(model: FSAE, cells: tuple[int, int, int]) -> Callable[[], object]:
    """The decoding of a video of so many cells, with a reference, on the model's device."""
    like = next(model.parameters())
    _, height, width = model.stride
    latents = torch.zeros(1, model.latent_channels, *cells).to(like)
    reference = torch.zeros(1, 3, cells[1] * height, cells[2] * width).to(like)
    return lambda: model.decode(latents, reference=reference)


def by_formula(config: FSAEConfig, cells: tuple[int, int, int], tiling: Tiling) -> int:
    """In half precision."""
    time, height, width = config.stride
    video = (1 + (cells[0] - 1) * time, cells[1] * height, cells[2] * width)
    footprint = decoder_footprint(config, itemsize=2, batch=1)
    exact = config.decoder_mode != "standard"
    return bytes_needed(footprint, tiling, video, strides=config.stride, exact_in_time=exact)


def quarter(config: FSAEConfig) -> FSAEConfig:
    """A quarter of the widths."""
    names = ("encoder_widths", "decoder_widths")
    return replace(config, **{name: tuple(width // 4 for width in getattr(config, name)) for name in names})


@pytest.mark.parametrize("mode", ["causal", "standard", "lite"])
@pytest.mark.parametrize("injection", [(None, None, "relative", "content"), ("deformable",) * 4], ids=["deep", "every"])
@torch.no_grad()
def test_a_small_pass_needs_no_more_than_the_formula(
    mode: str, injection: tuple[str | None, ...], build: Callable[..., FSAE], video: Callable[..., Tensor]
) -> None:
    widths = (16, 32, 16, 16)
    model = build(decoder_mode=mode, encoder_widths=widths, decoder_widths=widths, injection=injection)
    # Two videos: for a small single one PyTorch picks a convolution on the CPU that unfolds its input.
    frames, latents = video(2, 3, 9, 48, 48), video(2, 4, 3, 6, 6)
    first = [features[:, :, :1] for features in model.encoder(frames, Stream())[1]]
    pixels = frames[0, 0].numel()
    for footprint, work in (
        (encoder_footprint(model.config, itemsize=4, batch=2), lambda: model.encoder(frames, Stream())),
        (
            decoder_footprint(model.config, itemsize=4, batch=2),
            lambda: model.decoder(latents, first, Stream(), Noise("off", 0.0, None)),
        ),
    ):
        estimate = (footprint.working + footprint.output) * pixels
        assert 0.6 * estimate < live_peak(work) < 1.1 * estimate


PIECES = pytest.mark.parametrize(
    ("config", "cells", "tiling"),
    [
        # Two tiles in time and two in width; two chunks, of which the second one remembers the first.
        (FSAE_STANDARD, (7, 8, 14), Tiling(time=4, height=8, width=8, overlap=0.25)),
        (FSAE_LITE, (2, 16, 16), Tiling(time=1, height=None, width=None, overlap=0.0)),
    ],
    ids=["standard in tiles", "lite in chunks"],
)


@PIECES
def test_the_formula_at_full_size(
    config: FSAEConfig, cells: tuple[int, int, int], tiling: Tiling, live_bytes: Count
) -> None:
    """The pieces of 121 x 1024 x 1024, counted on the meta device; 31 latents have more of them, none larger."""
    model = empty(config)
    model._tiling = tiling
    assert live_bytes(decoding(model, cells)) == pytest.approx(by_formula(config, cells, tiling), rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("config", [FSAE_STANDARD, FSAE_LITE], ids=["standard", "lite"])
def test_five_seconds_of_a_megapixel_by_themselves(config: FSAEConfig, live_bytes: Count) -> None:
    """All pieces of 121 x 1024 x 1024 in half precision, as `decode` chooses them."""
    model = empty(config)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    assert weights + live_bytes(decoding(model, (31, 16, 16))) < 12e9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "cells", "tiling"),
    [
        (quarter(FSAE_STANDARD), (4, 3, 5), Tiling(time=4, height=3, width=3, overlap=0.25)),
        (quarter(FSAE_LITE), (4, 4, 4), Tiling(time=2, height=None, width=None, overlap=0.0)),
    ],
    ids=["standard in tiles", "lite in chunks"],
)
def test_the_formula_at_a_quarter_of_the_widths_on_a_cpu(
    config: FSAEConfig, cells: tuple[int, int, int], tiling: Tiling, live_bytes: Count
) -> None:
    """Pieces of about a quarter of the height and width, really decoded; meta counts the same bytes."""
    torch.manual_seed(0)
    real, counted = FSAE(config).to(torch.bfloat16).eval().requires_grad_(False), empty(config)
    real._tiling = counted._tiling = tiling
    measured = live_bytes(decoding(real, cells))
    assert measured == pytest.approx(by_formula(config, cells, tiling), rel=0.1)
    assert measured == pytest.approx(live_bytes(decoding(counted, cells)), rel=0.01)


def test_memory_that_is_not_given_back_is_seen(live_bytes: Count, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutants: layers whose inputs outlive them, and a first frame that keeps the features of every stage."""
    config, cells, tiling = FSAE_LITE, (2, 16, 16), Tiling(time=1, height=None, width=None, overlap=0.0)
    model = empty(config)
    model._tiling = tiling
    expected = by_formula(config, cells, tiling)
    extend, held = Stream.extend, list[Tensor]()

    def hold(self: Stream, x: Tensor, *, first: int, later: int) -> Tensor:
        held.append(x)
        return extend(self, x, first=first, later=later)

    with monkeypatch.context() as mutant:
        mutant.setattr(Stream, "extend", hold)
        assert live_bytes(decoding(model, cells)) > 1.2 * expected
    held.clear()
    with monkeypatch.context() as mutant:
        mutant.setattr(passes.FirstFrame, "features", lambda self, tile: model.first_frame_features(self._picture))
        assert live_bytes(decoding(model, cells)) > 1.05 * expected


def test_what_fits_stays_whole() -> None:
    tiling = automatic_tiling(replace(PLAIN, working=1000), (17, 256, 256), strides=STRIDES, exact_in_time=False)
    assert (tiling.time, tiling.height, tiling.width) == (None, None, None)


def test_chunks_in_time_come_first_where_they_are_exact() -> None:
    tiling = automatic_tiling(PLAIN, (121, 512, 512), strides=STRIDES, exact_in_time=True)
    assert tiling.height is None
    assert tiling.width is None
    assert tiling.time is not None
    assert 2560 * 4 * tiling.time * 512 * 512 <= memory.BUDGET < 2560 * 4 * (tiling.time + 1) * 512 * 512


def test_then_tiles_in_space(caplog: pytest.LogCaptureFixture) -> None:
    tiling = automatic_tiling(PLAIN, (121, 2048, 2048), strides=STRIDES, exact_in_time=True)
    assert (tiling.height, tiling.width, tiling.overlap) == (32, 32, 0.25)
    assert tiling.time is not None
    assert 2560 * 4 * tiling.time * 512 * 512 <= memory.BUDGET
    assert "121 frames of 2048 x 2048 exceed the memory budget of 8.0 GiB" in caplog.text


def test_the_standard_decoder_overlaps_in_time_first() -> None:
    assert automatic_tiling(PLAIN, (241, 224, 224), strides=STRIDES, exact_in_time=False).height is None


@pytest.mark.parametrize(("itemsize", "pieces"), [(2, (4, 8, 8)), (4, (8, 4, 4))])
def test_tiles_of_the_standard_decoder_fit_the_budget(itemsize: int, pieces: tuple[int, int, int]) -> None:
    """16 latents of 512 x 512 pixels, the largest tiles, would need 27 GB in half precision."""
    footprint = decoder_footprint(FSAE_STANDARD, itemsize=itemsize, batch=1)
    tiling = automatic_tiling(footprint, FULL, strides=FSAE_STANDARD.stride, exact_in_time=False)
    assert (tiling.time, tiling.height, tiling.width) == pieces

    def needed(tiling: Tiling) -> int:
        return bytes_needed(footprint, tiling, FULL, strides=FSAE_STANDARD.stride, exact_in_time=False)

    assert needed(tiling) <= memory.BUDGET < needed(replace(tiling, time=2 * pieces[0]))
    assert needed(tiling) > 3 * itemsize * 121 * 1024 * 1024 + footprint.working * 4 * pieces[0] * (64 * pieces[1]) ** 2


def test_what_fits_nowhere_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """The video alone is larger than the budget."""
    footprint = replace(PLAIN, output=6)
    tiling = automatic_tiling(footprint, (4001, 1024, 1024), strides=STRIDES, exact_in_time=False)
    assert (tiling.time, tiling.height, tiling.width) == (4, 4, 4)
    assert "even in pieces this needs about 23.6 GiB beside the weights" in caplog.text
