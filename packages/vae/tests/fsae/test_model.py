"""What a user of `encode` and `decode` relies on: sizes in and out, statistics, and refusals that name the argument."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from fastvid_vae import FSAE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.integers(1, 10), height=st.integers(1, 20), width=st.integers(1, 20))
@torch.no_grad()
def test_any_frame_count_and_size_come_back(build: Callable[..., FSAE], frames: int, height: int, width: int) -> None:
    model, video = build(), torch.rand(1, 3, frames, height, width) * 2 - 1
    latents = model.encode(video)
    assert latents.shape == (1, 4, model.num_latent_frames(frames), -(-height // 8), -(-width // 8))
    decoded = model.decode(latents, reference=video[:, :, 0], num_frames=frames, size=(height, width))
    assert decoded.shape == video.shape


@torch.no_grad()
def test_padding_repeats_the_last_frame_and_the_border(
    build: Callable[..., FSAE], video: Callable[..., Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    model, frames = build(), video(1, 3, 6, 13, 17)
    padded = torch.cat([frames, frames[:, :, -1:].expand(-1, -1, 3, -1, -1)], dim=2)
    padded = torch.cat([padded, padded[..., -1:, :].expand(-1, -1, -1, 3, -1)], dim=3)
    padded = torch.cat([padded, padded[..., -1:].expand(-1, -1, -1, -1, 7)], dim=4)
    with caplog.at_level("INFO"):
        latents = model.encode(frames)
    assert "padding (6, 13, 17) by (3, 3, 7)" in caplog.text
    assert torch.equal(latents, model.encode(padded))
    reference = frames[:, :, 0]
    cropped = model.decode(latents, reference=reference, num_frames=6, size=(13, 17))
    full = model.decode(latents, reference=padded[:, :, 0])
    assert torch.equal(cropped, full[:, :, :6, :13, :17])


@torch.no_grad()
def test_latents_leave_normalised(build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    plain = build(latent_mean=(0.0,) * 4, latent_std=(1.0,) * 4)
    model, frames = build(), video(1, 3, 5, 16, 16)
    mean, std = (
        torch.tensor(values).view(1, 4, 1, 1, 1) for values in (model.config.latent_mean, model.config.latent_std)
    )
    assert torch.allclose(model.encode(frames), (plain.encode(frames) - mean) / std, atol=1e-6)
    assert torch.allclose(model.decode(model.encode(frames)), plain.decode(plain.encode(frames)), atol=1e-5)
    raw = video(1, 4, 2, 2, 2)
    assert torch.allclose(model.denormalise(model.normalise(raw)), raw, atol=1e-6)


@torch.no_grad()
def test_a_batch_is_its_videos_one_by_one(build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    for mode in ("causal", "standard", "lite"):
        model, frames = build(decoder_mode=mode), video(3, 3, 5, 16, 24)
        latents = model.encode(frames)
        decoded = model.decode(latents, reference=frames[:, :, 0])
        for i in range(3):
            one = frames[i : i + 1]
            assert torch.allclose(model.encode(one), latents[i : i + 1], rtol=1e-4, atol=1e-4)
            alone = model.decode(latents[i : i + 1], reference=one[:, :, 0])
            assert torch.allclose(alone, decoded[i : i + 1], rtol=1e-4, atol=1e-4)


def test_numbers_of_latent_frames(build: Callable[..., FSAE]) -> None:
    model = build()
    assert model.stride == (4, 8, 8)
    assert model.latent_channels == 4
    assert [model.num_latent_frames(n) for n in (1, 2, 5, 6, 9, 121)] == [1, 2, 2, 3, 3, 31]
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"`num_frames` is {wrong}; expected at least 1"):
            model.num_latent_frames(wrong)


FRAMES, LATENTS, PICTURE = (1, 3, 5, 16, 16), (1, 4, 2, 2, 2), (1, 3, 16, 16)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (torch.zeros(3, 5, 16, 16), r"`frames` has shape \(3, 5, 16, 16\); expected \(b, 3, T, H, W\)"),
        (torch.zeros(1, 4, 5, 16, 16), r"`frames` has shape \(1, 4, 5, 16, 16\); expected"),
        (torch.zeros(1, 3, 0, 16, 16), "`frames` has shape .*, which is empty"),
        (torch.zeros(1, 3, 5, 16, 0), "`frames` has shape .*, which is empty"),
        (torch.zeros(0, 3, 5, 16, 16), "`frames` has shape .*, which is empty"),
        (torch.zeros(1, 3, 5, 16, 16, dtype=torch.uint8), r"`frames` is torch.uint8; expected floating point"),
    ],
)
def test_frames_that_are_refused(frames: Tensor, message: str, build: Callable[..., FSAE]) -> None:
    with pytest.raises(ValueError, match=message):
        build().encode(frames)
    with pytest.raises(ValueError, match=message):
        next(build().encode_chunks([frames]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latents": torch.zeros(1, 5, 2, 2, 2)}, r"`latents` has shape .*; expected \(b, 4, t, h, w\)"),
        ({"latents": torch.zeros(4, 2, 2, 2)}, "`latents` has shape"),
        ({"latents": torch.zeros(1, 4, 0, 2, 2)}, "`latents` has shape .*, which is empty"),
        ({"latents": torch.zeros(*LATENTS, dtype=torch.int64)}, r"`latents` is torch.int64"),
        ({"num_frames": 0}, "`num_frames` is 0; these latents hold 1 to 5"),
        ({"num_frames": 6}, r"`num_frames` is 6; these latents hold 1 to 5 \(nearest legal values: 1 and 5\)"),
        ({"num_frames": 2.0}, "`num_frames` is 2.0"),
        ({"num_frames": True}, "`num_frames` is True"),
        ({"size": (16, 17)}, r"`size\[1\]` is 17; these latents hold 1 to 16"),
        ({"size": (0, 16)}, r"`size\[0\]` is 0"),
        ({"size": (16,)}, r"`size` is \(16,\); expected \(height, width\)"),
        ({"reference": torch.zeros(1, 3, 16, 24)}, "`reference` is 16 x 24 pixels; these latents hold 16 x 16"),
        ({"reference": torch.zeros(1, 3, 8, 16)}, "`reference` is 8 x 16 pixels"),
        ({"reference": torch.zeros(1, 3, 16, 16), "size": (15, 16)}, "`reference` is 16 x 16 .* `size` is 15 x 16"),
        ({"reference": torch.zeros(2, 3, 16, 16)}, "`reference` holds 2 pictures for 1 videos"),
        ({"reference": torch.zeros(1, 3, 1, 16, 16)}, r"`reference` has shape .*; expected \(b, 3, H, W\)"),
        ({"reference": torch.zeros(1, 1, 16, 16)}, "`reference` has shape"),
        ({"reference": torch.zeros(1, 3, 16, 16, dtype=torch.uint8)}, "`reference` is torch.uint8"),
    ],
)
def test_decode_arguments_that_are_refused(
    changes: dict[str, object], message: str, build: Callable[..., FSAE]
) -> None:
    for mode in ("causal", "standard"):
        arguments: dict[str, object] = {"latents": torch.zeros(LATENTS), **changes}
        with pytest.raises(ValueError, match=message):
            build(decoder_mode=mode).decode(arguments.pop("latents"), **arguments)  # type: ignore[arg-type]


def test_whole_numbers_of_numpy_are_numbers(build: Callable[..., FSAE]) -> None:
    decoded = build().decode(torch.zeros(LATENTS), num_frames=np.int64(3), size=(np.int64(15), np.int32(16)))
    assert decoded.shape == (1, 3, 3, 15, 16)


def test_a_reference_needs_injection(build: Callable[..., FSAE]) -> None:
    model = build(injection=(None,) * 4)
    with pytest.raises(ValueError, match="`reference` has no effect: this model has no first-frame injection"):
        model.decode(torch.zeros(LATENTS), reference=torch.zeros(PICTURE))
    with pytest.raises(ValueError, match="`reference` has no effect"):
        model.decode_chunks([], reference=torch.zeros(PICTURE))


def test_nothing_is_sampled(build: Callable[..., FSAE]) -> None:
    with pytest.raises(ValueError, match="`generator` has no effect: FSAE is a plain autoencoder"):
        build().encode(torch.zeros(FRAMES), generator=torch.Generator())
