"""Ours computes what the released code computes: recorded numbers of small models with random weights.

How they were made stands in `record_official.py`; the bound is 1e-5 in float32, on outputs of scale one.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from fastvid_vae import REDUCIO_FT2, REDUCIO_FT4, ReducioVAE, overhang
from fastvid_vae.conversion import reducio
from fastvid_vae.reducio import blocks, content_tiles, fusion
from safetensors.torch import load_file
from torch import Tensor

from . import official_cases as cases

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    return load_file(cases.RECORDED)


@pytest.fixture(scope="module")
def model_of() -> Callable[[str], ReducioVAE]:
    """Each model once; none of these tests changes one."""
    models: dict[str, ReducioVAE] = {}

    def model_of(name: str) -> ReducioVAE:
        if name not in models:
            model = ReducioVAE(cases.CONFIGS[name])
            own = model.state_dict()
            model.load_state_dict(reducio.convert(own | cases.weights(own), cases.CONFIGS[name]))
            models[name] = model.eval().requires_grad_(False)
        return models[name]

    return model_of


def error(found: Tensor, expected: Tensor) -> float:
    thinned = cases.thin(found)
    assert thinned.shape == expected.shape
    assert float(expected.abs().max()) > 0.1
    return float((thinned - expected).abs().max())


@pytest.mark.parametrize("name", ["ft4", "ft2"])
@torch.no_grad()
def test_encoder(name: str, recorded: dict[str, Tensor], model_of: Callable[[str], ReducioVAE]) -> None:
    model, frames = model_of(name), cases.video(name, cases.WHOLE)
    posterior = model.posterior(frames)
    assert error(torch.cat([posterior.mean, posterior.logvar], dim=1), recorded[f"{name}.moments"]) < TOLERANCE
    assert error(model.encode(frames), recorded[f"{name}.latents"]) < TOLERANCE


@torch.no_grad()
def test_the_five_content_features(recorded: dict[str, Tensor], model_of: Callable[[str], ReducioVAE]) -> None:
    features = model_of("ft4").encoder_2d(cases.picture("ft4", cases.WHOLE))
    assert len(features) == 5
    for i, feature in enumerate(features):
        assert error(feature, recorded[f"ft4.features.{i}"]) < TOLERANCE


def decoded(model: ReducioVAE, name: str) -> Tensor:
    reference = None if model.config.fusion == "none" else cases.picture(name, cases.WHOLE)
    return model.decode(cases.latents(name, model.config, cases.WHOLE), reference=reference)


@pytest.mark.parametrize("name", cases.CONFIGS)
@torch.no_grad()
def test_decoder(name: str, recorded: dict[str, Tensor], model_of: Callable[[str], ReducioVAE]) -> None:
    assert error(decoded(model_of(name), name), recorded[f"{name}.frames"]) < TOLERANCE


TILES = {
    "spatial": round(cases.TILE * (1 + cases.TILE_OVERLAP)),
    "overlap": cases.TILE_OVERLAP / (1 + cases.TILE_OVERLAP),
    "layout": "overhang",
}


def decoded_in_tiles(model: ReducioVAE) -> Tensor:
    latents, picture = cases.latents("tiled", model.config, cases.TILED), cases.picture("tiled", cases.TILED)
    with model.tiled(**TILES):  # type: ignore[arg-type]
        return model.decode(latents, reference=picture)


@torch.no_grad()
def test_tiles_as_the_released_code_cuts_them(
    recorded: dict[str, Tensor], model_of: Callable[[str], ReducioVAE]
) -> None:
    model = model_of("ft4")
    with model.tiled(**TILES):  # type: ignore[arg-type]
        posterior = model.posterior(cases.video("tiled", cases.TILED))
    moments = torch.cat([posterior.mean, posterior.logvar], dim=1)
    assert error(moments, recorded["ft4.tiled.moments"]) < TOLERANCE
    assert error(decoded_in_tiles(model), recorded["ft4.tiled.frames"]) < TOLERANCE


def separable(rows: overhang.Rows, axes: tuple[overhang.Axis, overhang.Axis]) -> overhang.Rows:
    """The mutant: neighbours as they were before their own blending."""
    right = overhang.fade
    across = [[own if not j else right(row[j - 1], own, axes[1], axis=-1) for j, own in enumerate(row)] for row in rows]
    return [
        [own if not i else right(across[i - 1][j], own, axes[0], axis=-2) for j, own in enumerate(row)]
        for i, row in enumerate(across)
    ]


@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param("separable blending", marks=pytest.mark.slow),
        pytest.param("features not blended", marks=pytest.mark.slow),
        "heads of the middle",
        "padding",
    ],
)
@torch.no_grad()
def test_mutants_are_caught(
    mutant: str,
    recorded: dict[str, Tensor],
    model_of: Callable[[str], ReducioVAE],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of("ft4")
    if mutant == "separable blending":
        monkeypatch.setattr(overhang, "blend", separable)
    elif mutant == "features not blended":
        monkeypatch.setattr(content_tiles, "blend_levels", lambda grid, axes: grid)
    elif mutant == "heads of the middle":
        monkeypatch.setattr(model.decoder.mid.attn_1, "num_heads", 4)
    else:
        right = blocks.F.pad
        monkeypatch.setattr(blocks.F, "pad", lambda x, pad: right(x, tuple(reversed(pad))))
    if mutant == "heads of the middle":
        assert error(decoded(model, "ft4"), recorded["ft4.frames"]) > 10 * TOLERANCE
    elif mutant == "padding":
        features = model.encoder_2d(cases.picture("ft4", cases.WHOLE))
        assert error(features[1], recorded["ft4.features.1"]) > 10 * TOLERANCE
    else:
        assert error(decoded_in_tiles(model), recorded["ft4.tiled.frames"]) > 10 * TOLERANCE


@torch.no_grad()
def test_a_rebuilt_table_is_the_stored_one(recorded: dict[str, Tensor], model_of: Callable[[str], ReducioVAE]) -> None:
    """Another length rebuilds the table; at the trained length it is what the checkpoint holds."""
    model = model_of("ft4")
    with model.tiled(spatial=None, temporal=None):
        assert error(decoded(model, "ft4"), recorded["ft4.frames"]) < TOLERANCE
    for frames, width in ((16, 512), (4, 256)):
        rebuilt = fusion.frame_table(frames, width, dtype=torch.float32)
        assert float((rebuilt - fusion.frame_table(frames, width)).abs().max()) < 4e-6


@torch.no_grad()
def test_the_unused_weights_are_unused(model_of: Callable[[str], ReducioVAE]) -> None:
    model = model_of("ft4")
    before = decoded(model, "ft4")
    unused = [*model.encoder_2d.mid.block_2.parameters(), *model.encoder_2d.norm_out.parameters()]
    kept = [parameter.clone() for parameter in unused]
    for parameter in unused:
        parameter.add_(1)
    assert torch.equal(decoded(model, "ft4"), before)
    for parameter, value in zip(unused, kept, strict=True):
        parameter.copy_(value)


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (REDUCIO_FT4, 437_095_763),
        (REDUCIO_FT2, 432_379_219),
        (replace(REDUCIO_FT4, fusion="none"), 434_587_219),
        (replace(REDUCIO_FT4, fusion="linear"), 439_181_203),
        (replace(REDUCIO_FT4, fusion="add"), 448_041_043),
    ],
)
def test_parameter_counts(config: object, count: int) -> None:
    with torch.device("meta"):
        model = ReducioVAE(config)  # type: ignore[arg-type]
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_names_and_shapes_of_the_released_checkpoints() -> None:
    with torch.device("meta"):
        ft4, ft2 = (ReducioVAE(config).state_dict() for config in (REDUCIO_FT4, REDUCIO_FT2))
    ours = {f"{name} {'x'.join(map(str, tensor.shape))}" for name, tensor in ft4.items()}
    theirs = cases.KEYS.read_text(encoding="utf-8").splitlines()
    assert len(theirs) == 512
    assert ours == set(theirs)
    assert ft2.keys() == ft4.keys()
    other = {name: tuple(tensor.shape) for name, tensor in ft2.items() if tensor.shape != ft4[name].shape}
    assert other == {
        "encoder_3d.down.3.downsample.conv.weight": (512, 512, 1, 3, 3),
        "decoder.mid.fuse.0.pos_embed": (1, 8, 1, 512),
    }
