"""Tests E and F: the full-size constants, and configurations that are refused."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from fastvid_vae import FSAE, FSAE_LITE, FSAE_STANDARD, FSAEConfig
from fastvid_vae.layers.noise import Noise
from fastvid_vae.layers.stream import Stream
from torch import nn


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(config: FSAEConfig) -> FSAE:
    with torch.device("meta"):
        return FSAE(config)


def narrow(config: FSAEConfig) -> FSAEConfig:
    """The cheap option: a last stage of 1024 channels."""
    return replace(
        config,
        encoder_widths=(*config.encoder_widths[:-1], 1024),
        decoder_widths=(*config.decoder_widths[:-1], 1024),
    )


def test_parameter_counts_of_the_full_size() -> None:
    standard = on_meta(FSAE_STANDARD)
    assert count(standard.encoder) == 494_710_144
    assert count(standard.decoder) == 540_580_995
    assert count(on_meta(FSAE_LITE).decoder) == 528_187_459
    causal = replace(FSAE_STANDARD, decoder_mode="causal", injection=(None,) * 7)
    assert count(on_meta(causal).decoder) == 513_292_419
    assert count(on_meta(narrow(causal)).encoder) == 301_176_192
    assert count(on_meta(narrow(causal)).decoder) == 319_758_467
    assert all(parameter.is_meta for parameter in standard.parameters())


@pytest.mark.parametrize("config", [FSAE_STANDARD, FSAE_LITE], ids=["standard", "lite"])
@pytest.mark.parametrize(
    ("video", "stages"),
    [
        ((121, 1024), [(121, 1024), (61, 512), (31, 256), (31, 128), (31, 64), (31, 32), (31, 16)]),
        ((17, 256), [(17, 256), (9, 128), (5, 64), (5, 32), (5, 16), (5, 8), (5, 4)]),
        ((1, 256), [(1, 256), (1, 128), (1, 64), (1, 32), (1, 16), (1, 8), (1, 4)]),
    ],
    ids=lambda value: "x".join(map(str, value)) if isinstance(value, tuple) else "",
)
@torch.no_grad()
def test_shapes_of_the_full_size(
    config: FSAEConfig, video: tuple[int, int], stages: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (frames, side) = on_meta(config), video
    seen: list[tuple[int, ...]] = []
    for stage in model.decoder.stages:
        stage[-1].register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape[1:])))  # type: ignore[index]
    raw, features = model.encoder(torch.empty(1, 3, frames, side, side, device="meta"), Stream())
    assert raw.shape == (1, 128, *stages[-1], stages[-1][1])
    expected = [(width, t, s, s) for width, (t, s) in zip(config.encoder_widths, stages, strict=True)]
    assert [tuple(feature.shape[1:]) for feature in features] == expected
    first = [feature[:, :, :1] for feature in features]
    out = model.decoder(raw, first, Stream(), Noise("off", 0.0, None))
    assert out.shape == (1, 3, frames, side, side)
    expected = [(width, t, s, s) for width, (t, s) in zip(config.decoder_widths, stages, strict=True)]
    assert seen == expected[::-1]


def test_strides_and_groups() -> None:
    assert FSAE_STANDARD.stride == (4, 64, 64)
    assert [FSAE_LITE.group_size(stage) for stage in range(7)] == [4, 2, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_widths": (4, 8)}, "`encoder_widths` has 2 entries; `stage_kinds` names 4 stages"),
        ({"stage_kinds": ()}, "`stage_kinds` is 0 stages; expected 1 to 12"),
        ({"decoder_mode": "future"}, "`decoder_mode` has 'future'; expected 'causal'"),
        ({"stage_kinds": ("conv", "conv", "attention", "atention")}, "`stage_kinds` has 'atention'; expected 'conv'"),
        ({"injection": (None, None, "dense", None)}, "`injection` has 'dense'; expected 'content'"),
        ({"head_width": 0}, "`head_width` is 0; expected 1 to 4096"),
        ({"injection_head_width": 0}, "`injection_head_width` is 0; expected 1 to 4096"),
        ({"temporal_stages": (0, 2)}, r"`temporal_stages` is \(0, 2\); expected consecutive stages before the last"),
        ({"temporal_stages": (2, 3)}, "`temporal_stages`"),
        ({"temporal_stages": (0, 1, 2, 3)}, "`temporal_stages`"),
        ({"decoder_widths": (4, 8, 24, 16)}, "`injection` needs encoder and decoder widths that agree"),
        ({"injection_head_width": 5}, "`injection` needs .* divide by 5"),
        ({"injection_head_width": 2}, "'relative' injection needs a multiple of 4"),
        ({"head_width": 7}, "`head_width` is 7; it must divide"),
        ({"latent_channels": 3}, "`latent_mean` has 4 values; `latent_channels` is 3"),
        ({"latent_channels": 0}, "`latent_channels` is 0; expected 1 to 4096"),
        ({"latent_std": (1.0, 1.0, 0.0, 1.0)}, "`latent_std` holds 0.0; every value must be positive"),
        ({"latent_mean": (1.0, float("nan"), 0.0, 1.0)}, "`latent_mean` holds a value that is not finite"),
        ({"noise_weight": -1.0}, "`noise_weight` is -1.0"),
        ({"encoder_depths": (1, 1, 10**9, 1)}, "`encoder_depths` or `decoder_depths` is 1000000000; expected 0 to 256"),
        ({"encoder_widths": (10**9, 8, 16, 16)}, "`encoder_widths` or `decoder_widths` is 1000000000"),
    ],
)
def test_configurations_that_are_refused(
    changes: dict[str, object], message: str, tiny_config: Callable[..., FSAEConfig]
) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_config(**changes)


def test_shortcuts_must_divide(tiny_config: Callable[..., FSAEConfig]) -> None:
    with pytest.raises(ValueError, match="`widths` give a shortcut of 32 folded channels onto 24; it must divide"):
        FSAE(tiny_config(encoder_widths=(4, 24, 16, 16)))
