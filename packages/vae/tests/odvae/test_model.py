"""What a user of `encode` and `decode` relies on: sizes in and out, causality, scale, refusals by name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fastvid_vae import ODVAE, ODVAE_VARIANT_4, CheckpointError, ODVAEConfig
from fastvid_vae.odvae import blocks
from torch import Tensor, nn

Video = Callable[..., Tensor]


@pytest.mark.parametrize(("frames", "dtype"), [(1, torch.bfloat16), (33, torch.float32), (2, torch.float32)])
def test_any_number_of_frames_and_size_comes_back(frames: int, dtype: torch.dtype) -> None:
    """At full width, on the meta device: shapes and data types without the arithmetic."""
    with torch.device("meta"):
        model = ODVAE(ODVAE_VARIANT_4).to(dtype)
    clip = torch.empty(1, 3, frames, 100, 180, device="meta", dtype=dtype)
    latents = model.encode(clip)
    decoded = model.decode(latents, num_frames=frames, size=(100, 180))
    assert latents.shape == (1, 4, model.num_latent_frames(frames), 13, 23)
    assert (decoded.shape, decoded.dtype, latents.dtype) == (clip.shape, dtype, dtype)


@pytest.mark.parametrize(
    ("frames", "latent_frames"), [(1, 1), (2, 2), (3, 2), (4, 2), (5, 2), (6, 3), (9, 3), (33, 9), (34, 10)]
)
@torch.no_grad()
def test_and_with_the_arithmetic(frames: int, latent_frames: int, build: Callable[..., ODVAE], video: Video) -> None:
    model, clip = build(), video(1, 3, frames, 9, 15)
    latents = model.encode(clip)
    assert latents.shape == (1, 4, latent_frames, 2, 2)
    assert model.num_latent_frames(frames) == latent_frames
    decoded = model.decode(latents, num_frames=frames, size=(9, 15))
    assert decoded.shape == clip.shape
    assert bool(decoded.isfinite().all())
    assert model.decode(latents).shape == (1, 3, 4 * latent_frames - 3, 16, 16)


@torch.no_grad()
def test_padding_repeats_the_last_frame_and_the_border(
    build: Callable[..., ODVAE], video: Video, caplog: pytest.LogCaptureFixture
) -> None:
    model, frames = build(), video(1, 3, 6, 13, 17)
    padded = torch.cat([frames, frames[:, :, -1:].expand(-1, -1, 3, -1, -1)], dim=2)
    padded = torch.cat([padded, padded[..., -1:, :].expand(-1, -1, -1, 3, -1)], dim=3)
    padded = torch.cat([padded, padded[..., -1:].expand(-1, -1, -1, -1, 7)], dim=4)
    with caplog.at_level("INFO"):
        latents = model.encode(frames)
    assert "padding (6, 13, 17) by (3, 3, 7)" in caplog.text
    assert torch.equal(latents, model.encode(padded))
    cropped = model.decode(latents, num_frames=6, size=(13, 17))
    assert torch.equal(cropped, model.decode(latents)[:, :, :6, :13, :17])


GRAPHS: list[dict[str, object]] = [
    {},
    {"encoder_blocks": ("half causal",) * 4, "decoder_blocks": ("half causal",) * 4},
    {
        "downsamples": ("flat",) * 3,
        "time_downsamples": ("pool", "mixed", "none"),
        "upsamples": ("flat",) * 3,
        "time_upsamples": ("none", "mixed", "linear"),
    },
    {"encoder_conv_in": "causal", "downsamples": ("causal", "causal time", "causal time")},
    {"upsamples": ("causal", "causal time", "causal time"), "decoder_conv_out": "2d"},
]
"""In which every kind of block and sampling is met."""


def without_norms(model: ODVAE) -> ODVAE:
    for module in [*model.modules()]:
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())
    return model


@pytest.mark.parametrize("changes", GRAPHS)
@torch.no_grad()
def test_convolutions_and_attention_are_causal(
    changes: dict[str, object], build: Callable[..., ODVAE], video: Video
) -> None:
    """Frames from 5 on change latents from 2 on, and no earlier one by a bit; on the way back the same.

    But where time is interpolated: there the frames of a latent see the latent after it, and frame 0 alone does not.
    """
    model, frames = without_norms(build(**changes)), video(1, 3, 13, 16, 16)
    other = torch.cat([frames[:, :, :5], video(1, 3, 8, 16, 16, seed=1)], dim=2)
    latents, changed = model.encode(frames), model.encode(other)
    assert torch.equal(latents[:, :, :2], changed[:, :, :2])
    assert not any(torch.equal(latents[:, :, i], changed[:, :, i]) for i in (2, 3))
    for mode, same in (("nearest", 5), ("trilinear", 1)):
        decoder = without_norms(build(**changes, upsample_mode=mode))
        found, expected = decoder.decode(changed), decoder.decode(latents)
        assert torch.equal(found[:, :, :same], expected[:, :, :same])
        assert not any(torch.equal(found[:, :, i], expected[:, :, i]) for i in range(max(same, 3), 13))


@torch.no_grad()
def test_a_look_ahead_is_seen(build: Callable[..., ODVAE], video: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: padding in time after the last frame, so that a kernel sees frames to come."""
    model, frames = without_norms(build()), video(1, 3, 13, 16, 16)
    other = torch.cat([frames[:, :, :5], video(1, 3, 8, 16, 16, seed=1)], dim=2)
    pad = torch.nn.functional.pad
    monkeypatch.setattr(
        blocks.F,
        "pad",
        lambda x, pads, mode="constant": pad(x, (*pads[:4], pads[5], pads[4]) if pads[4:] else pads, mode=mode),
    )
    assert not torch.equal(model.encode(frames)[:, :, :2], model.encode(other)[:, :, :2])


@torch.no_grad()
def test_group_norms_leak_from_the_last_frame_to_the_first_latent(build: Callable[..., ODVAE], video: Video) -> None:
    """What the paper calls independent is not: measured, in shares of the first latent's size; 0 without the norms."""

    def leak(model: ODVAE) -> float:
        frames = video(1, 3, 9, 32, 32)
        other = torch.cat([frames[:, :, :-1], -frames[:, :, -1:]], dim=2)
        first, changed = (model.posterior(clip).mean[:, :, 0] for clip in (frames, other))
        return float((first - changed).abs().max() / first.abs().max())

    assert 1e-4 < leak(build()) < 0.2
    assert leak(without_norms(build())) == 0


@torch.no_grad()
def test_the_first_latent_of_a_video_is_nearly_that_of_its_first_frame(
    build: Callable[..., ODVAE], video: Video
) -> None:
    model, frames = build(), video(1, 3, 9, 32, 32)
    alone, within = model.encode(frames[:, :, :1]), model.encode(frames)[:, :, :1]
    difference = float((alone - within).abs().max() / alone.abs().max())
    assert 1e-4 < difference < 0.2
    exact = without_norms(model)
    assert torch.allclose(exact.encode(frames[:, :, :1]), exact.encode(frames)[:, :, :1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_scrambled_attention_is_the_same_for_one_frame_only(build: Callable[..., ODVAE], video: Video) -> None:
    right, scrambled = build(), build(attention="scrambled")
    for frames, same in ((1, True), (9, False)):
        clip = video(2, 3, frames, 16, 24)
        assert torch.allclose(right.encode(clip), scrambled.encode(clip), atol=1e-6) is same


@torch.no_grad()
def test_sampling(build: Callable[..., ODVAE], video: Video) -> None:
    model, frames = build(), video(1, 3, 9, 16, 16)
    first, again, other = (model.encode(frames, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-3)
    posterior = model.posterior(frames)
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(0))
    raw = posterior.mean + posterior.logvar.mul(0.5).exp() * noise
    assert torch.allclose(first, 0.18215 * raw, atol=1e-6)
    with pytest.raises(ValueError, match=r"`generator` is 3; expected a torch\.Generator"):
        model.encode(frames, generator=3)  # type: ignore[arg-type]


@torch.no_grad()
def test_decode_takes_what_encode_gives(build: Callable[..., ODVAE], video: Video) -> None:
    """The scale is inside: twice the factor, and nothing changes but the size of the latents."""
    model, frames = build(), video(1, 3, 9, 16, 16)
    scaled = ODVAE(replace(model.config, scaling_factor=2 * model.config.scaling_factor))
    scaled.load_state_dict(model.state_dict())
    latents = model.encode(frames)
    assert torch.allclose(scaled.encode(frames), 2 * latents)
    assert torch.allclose(scaled.decode(2 * latents), model.decode(latents), atol=1e-6)


@torch.no_grad()
def test_saved_and_read_back(tmp_path: Path, build: Callable[..., ODVAE], video: Video) -> None:
    model, frames = build(), video(1, 3, 5, 16, 16)
    model.save_pretrained(tmp_path / "vae")
    again = ODVAE.from_pretrained(tmp_path / "vae")
    assert again.config == model.config
    assert torch.equal(again.encode(frames), model.encode(frames))
    text = (tmp_path / "vae" / "config.json").read_text()
    (tmp_path / "vae" / "config.json").write_text(text.replace('"trilinear"', '"cubic"'))
    with pytest.raises(CheckpointError, match="`upsample_mode` holds 'cubic'"):
        ODVAE.from_pretrained(tmp_path / "vae")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_channels": 0}, "`latent_channels` is 0"),
        ({"widths": (4, 4, 8)}, "`encoder_blocks` has 4 entries; expected 3"),
        ({"widths": (4, 4, 8, 9)}, "`widths` holds 9; `norm_groups`, 2, must divide it"),
        ({"encoder_blocks": ("2d", "3d", "causal", "causal")}, "`encoder_blocks` holds '3d'; expected '2d', 'causal'"),
        ({"upsample_mode": "cubic"}, "`upsample_mode` holds 'cubic'"),
        ({"upsamples": ("flat", "flat", "causal time")}, "halves time 2 times and the decoder doubles it 1 times"),
        ({"time_downsamples": ("none", "pool", "none")}, "step 1 changes time twice"),
        ({"scaling_factor": 0.0}, "`scaling_factor` is 0.0"),
        ({"scaling_factor": float("nan")}, "`scaling_factor` is nan"),
    ],
)
def test_configurations_that_make_no_sense(
    changes: dict[str, object], message: str, build: Callable[..., ODVAE]
) -> None:
    with pytest.raises(ValueError, match=message):
        build(**changes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reference": torch.zeros(1, 3, 8, 8)}, "`reference` has no effect"),
        ({"num_frames": 6}, r"`num_frames` is 6; these latents hold 1 to 5 \(nearest legal values: 1 and 5\)"),
        ({"size": (8, 17)}, r"`size\[1\]` is 17; these latents hold 1 to 16"),
    ],
)
def test_what_decode_refuses(settings: dict[str, object], message: str, build: Callable[..., ODVAE]) -> None:
    with pytest.raises(ValueError, match=message):
        build().decode(torch.zeros(1, 4, 2, 1, 2), **settings)  # type: ignore[arg-type]


def test_wrong_tensors_are_refused(build: Callable[..., ODVAE]) -> None:
    model = build()
    with pytest.raises(ValueError, match=r"`frames` has shape \(1, 4, 1, 8, 8\)"):
        model.encode(torch.zeros(1, 4, 1, 8, 8))
    with pytest.raises(ValueError, match=r"`latents` has shape \(1, 3, 1, 8, 8\)"):
        model.decode(torch.zeros(1, 3, 1, 8, 8))
    with pytest.raises(ValueError, match="`num_frames` is 0"):
        model.num_latent_frames(0)
    assert isinstance(model.config, ODVAEConfig)
