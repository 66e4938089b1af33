"""The memory estimate against what a pass really keeps alive, and the tiling that follows from it."""

from collections.abc import Callable
from itertools import accumulate

import pytest
import torch
from fastvid_vae import FSAE
from fastvid_vae.fsae import memory
from fastvid_vae.fsae.memory import automatic_tiling, bytes_per_pixel
from fastvid_vae.layers.noise import Noise
from fastvid_vae.layers.stream import Stream
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

STRIDES = (4, 16, 16)


def live_peak(work: Callable[[], object]) -> int:
    """Bytes allocated at once on the CPU, from the profiler's list of allocations and releases."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(accumulate(sizes))


@pytest.mark.parametrize("mode", ["causal", "standard", "lite"])
@pytest.mark.parametrize("injection", [(None, None, "relative", "content"), ("deformable",) * 4], ids=["deep", "every"])
@torch.no_grad()
def test_the_estimate_is_what_a_pass_needs(
    mode: str, injection: tuple[str | None, ...], build: Callable[..., FSAE], video: Callable[..., Tensor]
) -> None:
    widths = (16, 32, 16, 16)
    model = build(decoder_mode=mode, encoder_widths=widths, decoder_widths=widths, injection=injection)
    # Two videos: for a small single one PyTorch picks a convolution on the CPU that unfolds its input.
    frames, latents = video(2, 3, 9, 48, 48), video(2, 4, 3, 6, 6)
    first = [features[:, :, :1] for features in model.encoder(frames, Stream())[1]]
    estimate = bytes_per_pixel(16, itemsize=4) * frames[:, 0].numel()
    for work in (
        lambda: model.encoder(frames, Stream()),
        lambda: model.decoder(latents, first, Stream(), Noise("off", 0.0, None)),
    ):
        needed = live_peak(work)
        assert 0.5 * estimate < needed < 1.1 * estimate


def test_what_fits_stays_whole() -> None:
    tiling = automatic_tiling(1000, (17, 256, 256), strides=STRIDES, exact_in_time=False)
    assert (tiling.time, tiling.height, tiling.width) == (None, None, None)


def test_chunks_in_time_come_first_where_they_are_exact() -> None:
    cost = bytes_per_pixel(128, itemsize=2)
    tiling = automatic_tiling(cost, (121, 512, 512), strides=STRIDES, exact_in_time=True)
    assert tiling.height is None
    assert tiling.width is None
    assert tiling.time is not None
    assert cost * 4 * tiling.time * 512 * 512 <= memory.BUDGET < cost * 4 * (tiling.time + 1) * 512 * 512


def test_then_tiles_in_space(caplog: pytest.LogCaptureFixture) -> None:
    cost = bytes_per_pixel(128, itemsize=2)
    tiling = automatic_tiling(cost, (121, 2048, 2048), strides=STRIDES, exact_in_time=True)
    assert (tiling.height, tiling.width, tiling.overlap) == (32, 32, 0.25)
    assert tiling.time is not None
    assert cost * 4 * tiling.time * 512 * 512 <= memory.BUDGET
    assert "121 frames of 2048 x 2048 exceed the memory budget of 8.0 GiB" in caplog.text


def test_the_standard_decoder_overlaps_in_time_first() -> None:
    cost = bytes_per_pixel(128, itemsize=2)
    assert automatic_tiling(cost, (241, 224, 224), strides=STRIDES, exact_in_time=False).height is None
    tiling = automatic_tiling(cost, (241, 1024, 1024), strides=STRIDES, exact_in_time=False)
    assert (tiling.time, tiling.height, tiling.width, tiling.overlap) == (16, 32, 32, 0.25)
