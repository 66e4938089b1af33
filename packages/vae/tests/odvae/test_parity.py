"""Ours computes what the released code computes: recorded numbers of small models with random weights.

How they were made stands in `record_official.py`; the bound is 1e-5 in float32, of the largest value where that is
above one. In float64 the two agree to 1e-14, and each differs from itself in float32 as much as from the other.
"""

from collections.abc import Callable

import pytest
import torch
from fastvid_vae import (
    ODVAE,
    ODVAE_V1_0,
    ODVAE_V1_1,
    ODVAE_VARIANT_1,
    ODVAE_VARIANT_2,
    ODVAE_VARIANT_3,
    ODVAE_VARIANT_4,
    ODVAEConfig,
    overhang,
)
from fastvid_vae.conversion import odvae
from fastvid_vae.odvae import blocks, passes, resample
from safetensors.torch import load_file
from torch import Tensor

from .. import reproducible
from . import official_cases as cases

TOLERANCE = 1e-5
SIZES = {"video": cases.WHOLE, "picture": cases.PICTURE}


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    return load_file(cases.RECORDED)


@pytest.fixture(scope="module")
def model_of() -> Callable[[str], ODVAE]:
    """Each model once; none of these tests changes one."""
    models: dict[str, ODVAE] = {}

    def model_of(name: str) -> ODVAE:
        if name not in models:
            model = ODVAE(cases.CONFIGS[name])
            filled = reproducible.weights(model.state_dict())
            model.load_state_dict(odvae.convert(filled, cases.CONFIGS[name]))
            models[name] = model.eval().requires_grad_(False)
        return models[name]

    return model_of


def error(found: Tensor, expected: Tensor) -> float:
    thinned = reproducible.thin(found, cases.FEW)
    assert thinned.shape == expected.shape
    assert float(expected.abs().max()) > 0.1
    return float((thinned - expected).abs().max() / expected.abs().max().clamp(min=1))


def moments(model: ODVAE, name: str, size: tuple[int, int, int]) -> Tensor:
    posterior = model.posterior(reproducible.video(name, size))
    return torch.cat([posterior.mean, posterior.logvar], dim=1)


def decoded(model: ODVAE, name: str, size: tuple[int, int, int]) -> Tensor:
    return model.decode(cases.latents(name, model.config, size) * model.config.scaling_factor)


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("name", cases.CONFIGS)
@torch.no_grad()
def test_whole(name: str, kind: str, recorded: dict[str, Tensor], model_of: Callable[[str], ODVAE]) -> None:
    model, size = model_of(name), SIZES[kind]
    assert error(moments(model, name, size), recorded[f"{name}.{kind}.moments"]) < TOLERANCE
    assert error(decoded(model, name, size), recorded[f"{name}.{kind}.frames"]) < TOLERANCE


@pytest.mark.parametrize(("frames", "cells"), cases.GROUPS)
@torch.no_grad()
def test_groups_and_tiles_as_the_released_code_cuts_them(
    frames: int, cells: int, recorded: dict[str, Tensor], model_of: Callable[[str], ODVAE]
) -> None:
    model, key = model_of(cases.TILED), f"{cases.TILED}.tiled_{frames}"
    assert passes.frames_before(cells, stride=4) == frames
    with model.tiled(spatial=cases.TILE, temporal=frames, overlap=cases.TILE_OVERLAP, layout="overhang"):
        assert error(moments(model, "long", cases.LONG), recorded[f"{key}.moments"]) < TOLERANCE
        assert error(decoded(model, "long", cases.LONG), recorded[f"{key}.frames"]) < TOLERANCE


@torch.no_grad()
def test_latents_leave_scaled(model_of: Callable[[str], ODVAE]) -> None:
    model, frames = model_of("v1_2"), reproducible.video("v1_2", cases.PICTURE)
    assert torch.allclose(model.encode(frames), 0.18215 * model.posterior(frames).mean)


@pytest.mark.parametrize(
    "mutant",
    ["zeros before the first frame", "padding left and above", "attention among all frames", "across the first frame"],
)
@torch.no_grad()
def test_mutants_are_caught(
    mutant: str,
    recorded: dict[str, Tensor],
    model_of: Callable[[str], ODVAE],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, pad = model_of("v1_2"), torch.nn.functional.pad
    if mutant == "zeros before the first frame":
        monkeypatch.setattr(blocks.F, "pad", lambda x, pads, mode="constant": pad(x, pads))
    elif mutant == "padding left and above":
        monkeypatch.setattr(
            resample.F, "pad", lambda x, pads, mode="constant": pad(x, pads if pads[4:] else (1, 0, 1, 0), mode=mode)
        )
    elif mutant == "attention among all frames":
        attention = torch.nn.functional.scaled_dot_product_attention
        monkeypatch.setattr(
            blocks.F,
            "scaled_dot_product_attention",
            lambda q, k, v: attention(*(x.flatten(0, 2)[None, None] for x in (q, k, v))).view(q.shape),
        )
    else:
        double = resample.double
        monkeypatch.setattr(resample, "double", lambda x, axis, *, linear, **_: double(x, axis, linear=linear))
        assert error(decoded(model, "v1_2", cases.WHOLE), recorded["v1_2.video.frames"]) > 10 * TOLERANCE
        return
    assert error(moments(model, "v1_2", cases.WHOLE), recorded["v1_2.video.moments"]) > 10 * TOLERANCE


@torch.no_grad()
def test_wrong_groups_are_caught(
    recorded: dict[str, Tensor], model_of: Callable[[str], ODVAE], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutants: a group more than there are frames for, and neighbours as they were before their own blending."""
    model, expected = model_of(cases.TILED), recorded[f"{cases.TILED}.tiled_29.moments"]
    settings = {"spatial": cases.TILE, "overlap": cases.TILE_OVERLAP}
    with model.tiled(**settings, temporal=33, layout="overhang"):  # type: ignore[arg-type]
        assert error(moments(model, "long", cases.LONG), expected) > 10 * TOLERANCE
    with model.tiled(**settings, temporal=29):  # type: ignore[arg-type]  # tiles of one size
        assert error(moments(model, "long", cases.LONG), expected) > 10 * TOLERANCE
    monkeypatch.setattr(overhang, "fade", lambda previous, tile, along, *, axis: tile)
    with model.tiled(**settings, temporal=29, layout="overhang"):  # type: ignore[arg-type]
        assert error(moments(model, "long", cases.LONG), expected) > 10 * TOLERANCE


@pytest.mark.parametrize(
    ("config", "count", "tensors"),
    [
        (ODVAE_VARIANT_1, 245_979_879, 248),
        (ODVAE_VARIANT_2, 172_546_791, 248),
        (ODVAE_VARIANT_3, 228_861_159, 248),
        (ODVAE_VARIANT_4, 239_189_991, 248),
        (ODVAE_V1_1, 246_859_499, 260),
        (ODVAE_V1_0, 229_169_895, 248),
    ],
)
def test_parameter_counts(config: ODVAEConfig, count: int, tensors: int) -> None:
    with torch.device("meta"):
        model = ODVAE(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert len(model.state_dict()) == tensors
    assert (model.stride, model.latent_channels) == ((4, 8, 8), 4)


def test_parameter_counts_of_the_parts() -> None:
    with torch.device("meta"):
        model = ODVAE(ODVAE_VARIANT_4)
    parts = (model.encoder, model.decoder, model.quant_conv, model.post_quant_conv)
    counts = [sum(parameter.numel() for parameter in part.parameters()) for part in parts]
    assert counts == [94_399_368, 144_790_531, 72, 20]


@pytest.mark.parametrize("release", cases.RELEASES)
def test_names_and_shapes_of_the_released_checkpoints(release: str) -> None:
    with torch.device("meta"):
        state = ODVAE(cases.RELEASES[release]).state_dict()
    ours = {f"{name} {'x'.join(map(str, tensor.shape))}" for name, tensor in state.items()}
    assert ours == set((cases.KEYS / f"official_keys_{release}.txt").read_text(encoding="utf-8").splitlines())
