"""An FSAE with stages left out: small frames, the same grid of latents, and the model itself is not changed."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from fastvid_vae import FSAE
from fastvid_vae.layers.deformable_attention import upsample_offsets
from fastvid_vae.layers.resample import Downsample, Upsample
from fastvid_vae.layers.stream import Stream
from fastvid_vae.layers.temporal_conv import CausalConv3d
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

Build = Callable[..., FSAE]
Video = Callable[..., Tensor]


@pytest.mark.parametrize("mode", ["causal", "standard", "lite"])
@torch.no_grad()
def test_without_stages_left_out_it_is_the_model_itself(build: Build, video: Video, mode: str) -> None:
    model, frames = build(decoder_mode=mode), video(1, 3, 9, 20, 24)
    same = model.truncated(stages=0)
    latents = model.encode(frames)
    assert torch.equal(same.encode(frames), latents)
    given = {"reference": frames[:, :, 0], "size": (20, 24)}
    assert torch.equal(same.decode(latents, **given), model.decode(latents, **given))


@pytest.mark.parametrize("mode", ["causal", "standard", "lite"])
@pytest.mark.parametrize("stages", [1, 2, 3])
@torch.no_grad()
def test_each_stage_halves_frames_and_keeps_latents_and_time(
    build: Build, video: Video, mode: str, stages: int
) -> None:
    model = build(decoder_mode=mode, injection=(None, "linear", "relative", "content"))
    small = model.truncated(stages=stages)
    assert small.stride == (4, 8 >> stages, 8 >> stages)
    latents = video(2, 4, 3, 3, 2)
    reference = video(2, 3, 24 >> stages, 16 >> stages)
    decoded = small.decode(latents, reference=reference)
    assert decoded.shape == (2, 3, 9, 24 >> stages, 16 >> stages)
    assert not torch.equal(decoded, small.decode(latents))  # the reference is seen
    assert small.encode(decoded).shape == latents.shape
    assert small.encode(video(1, 3, 6, 7, 5)).shape == (1, 4, 3, -(-7 * 2**stages // 8), -(-5 * 2**stages // 8))
    with pytest.raises(ValueError, match="`reference` is 24 x 16 pixels"):
        small.decode(latents, reference=video(2, 3, 24, 16))


@torch.no_grad()
def test_the_model_itself_stays_as_it_is_and_shares_its_weights(build: Build, video: Video) -> None:
    model, latents = build(), video(1, 4, 2, 2, 2)
    before = model.decode(latents)
    small = model.truncated(stages=1)
    preview = small.decode(latents)
    assert model.stride == (4, 8, 8)
    assert torch.equal(model.decode(latents), before)
    assert small.truncated(stages=0).stride == model.stride
    with model.tiled(spatial=16, temporal=None):
        assert torch.equal(small.decode(latents), preview)
    model.decoder.conv_out.weight.mul_(2)
    assert not torch.equal(small.decode(latents), preview)


@torch.no_grad()
def test_in_chunks_and_in_tiles_it_is_what_it_is_whole(build: Build, video: Video) -> None:
    injection = ("deformable",) * 4
    small = build(injection=injection, encoder_widths=(8, 8, 16, 16), decoder_widths=(8, 8, 16, 16)).truncated(stages=1)
    frames, reference = video(1, 3, 13, 16, 16), video(1, 3, 16, 16, seed=1)
    latents = small.encode(frames)
    chunks = torch.cat(list(small.encode_chunks([frames[:, :, :5], frames[:, :, 5:]])), dim=2)
    torch.testing.assert_close(chunks, latents, rtol=0, atol=1e-5)
    decoded = small.decode(latents, reference=reference)
    pieces = torch.cat(list(small.decode_chunks(latents.split(2, dim=2), reference=reference)), dim=2)
    torch.testing.assert_close(pieces, decoded, rtol=0, atol=1e-5)
    with small.tiled(spatial=None, temporal=5):
        torch.testing.assert_close(small.decode(latents, reference=reference), decoded, rtol=0, atol=1e-5)
    with small.tiled(spatial=8, temporal=None):
        assert small.decode(latents, reference=reference).shape == decoded.shape
        assert small.encode(decoded).shape == latents.shape


@pytest.mark.parametrize("time", [1, 2])
@torch.no_grad()
def test_what_is_left_out_is_the_mean_of_four_pixels_and_a_pixel_four_times(video: Video, time: int) -> None:
    up, down = (kind(8, 4, time=time, conv=CausalConv3d) for kind in (Upsample, Downsample))
    x = video(1, 8, 3, 4, 6)
    whole, small = up(x, Stream()), up(x, Stream(), in_space=False)
    torch.testing.assert_close(small, F.avg_pool3d(whole, (1, 2, 2)), rtol=0, atol=1e-6)
    doubled = x.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)
    assert torch.equal(down(x, Stream(), in_space=False), down(doubled, Stream()))


def test_places_are_counted_in_cells_that_stay(video: Video) -> None:
    offsets = video(1, 2, 3, 4, 4)
    assert torch.equal(upsample_offsets(offsets, Stream(), time=1, in_space=False), offsets)
    assert torch.equal(upsample_offsets(offsets, Stream(), time=2, in_space=False)[:, :, ::2], offsets)


@torch.no_grad()
def test_a_stage_less_costs_less_than_a_third(build: Build, video: Video) -> None:
    model, frames = build(encoder_depths=(2, 2, 1, 1), decoder_depths=(2, 2, 1, 1)), video(1, 3, 9, 32, 32)
    latents = model.encode(frames)

    def operations(call: Callable[[], object]) -> int:
        with FlopCounterMode(display=False) as counter:
            call()
        return counter.get_total_flops()

    small = model.truncated(stages=1)
    assert 3 < operations(lambda: model.decode(latents)) / operations(lambda: small.decode(latents)) < 4
    half = frames[..., ::2, ::2]
    assert 3 < operations(lambda: model.encode(frames)) / operations(lambda: small.encode(half)) < 4


@pytest.mark.parametrize("stages", [-1, 4, 1.0, True])
def test_stages_that_are_not_there_are_refused(build: Build, stages: object) -> None:
    with pytest.raises(ValueError, match="this model has 0 to 3 that can be left out"):
        build().truncated(stages=stages)  # type: ignore[arg-type]
