"""A graph computes what its model computes: every kind of decoder and transformer, at sizes the trace never saw."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fastvid_dit import FSVideoDiT, FSVideoDiTConfig, ReducioDiT, ReducioDiTConfig
from fastvid_dit.rope import rotary_tables
from fastvid_export import (
    Exportable,
    OnnxEngine,
    ParityReport,
    content_transformer_exportable,
    decoder_exportable,
    export_onnx,
    transformer_exportable,
    upsampler_exportable,
)
from fastvid_vae import FSAE, ODVAE, LatentUpsampler, ReducioVAE
from torch import Tensor

from ..export.small_models import SMALL_AUTOENCODER, SMALL_OD_VAE, SMALL_REDUCIO, named_sizes
from ..tiny_models import REDUCIO_TRANSFORMER, REFINER, TRANSFORMER, UPSAMPLER, randomised
from .installed import TINY_CONFIGS, names

WITH_IMAGE = replace(TRANSFORMER, patch_size=(1, 2, 2), image_width=12, memory_norm="pre")
WITHOUT_MEMORY = replace(TRANSFORMER, layer_memory=False)


def export(exportable: Exportable, folder: Path) -> tuple[ParityReport, OnnxEngine]:
    report = export_onnx(exportable, folder / "graph.onnx")
    assert report.passed
    sizes = [dict(case.sizes) for case in report.cases]
    assert dict.fromkeys(exportable.axes, 1) in sizes
    assert all(any(case[axis] > 1 and case[axis] % 2 for case in sizes) for axis in exportable.axes)
    return report, OnnxEngine(folder / "graph.onnx")


def test_every_installed_kind_has_a_graph_here() -> None:
    """A new kind of model needs a test of its own below."""
    assert names("autoencoder") == ["FSAE", "ODVAE", "ReducioVAE"]
    assert names("transformer") == ["FSVideoDiT", "ReducioDiT"]
    assert set(TINY_CONFIGS) == {"FSAE", "FSVideoDiT", "ODVAE", "ReducioDiT", "ReducioVAE"}


@pytest.mark.parametrize(
    ("mode", "reference", "injection"),
    [
        pytest.param("causal", True, "deformable", marks=pytest.mark.slow),
        pytest.param("causal", True, "relative", marks=pytest.mark.slow),
        pytest.param("causal", False, None, marks=pytest.mark.slow),
        pytest.param("standard", True, "content", marks=pytest.mark.slow),
        pytest.param("lite", True, "linear", marks=pytest.mark.slow),
        pytest.param("lite", False, None, marks=pytest.mark.slow),
    ],
)
def test_decoder(tmp_path: Path, mode: Any, reference: bool, injection: Any) -> None:
    model = randomised(FSAE(replace(SMALL_AUTOENCODER, decoder_mode=mode, injection=(None, None, injection))))
    _, engine = export(decoder_exportable(model, reference=reference), tmp_path)
    expected: dict[str, list[str | int]] = {"latents": ["b", 4, "t", "h", "w"]}
    expected |= {"reference": ["b", 3, "4*h", "4*w"]} if reference else {}
    assert named_sizes(tmp_path / "graph.onnx") == expected | {"frames": ["b", 3, "4*t - 3", "4*h", "4*w"]}

    frames = torch.rand(1, 3, 13, 20, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents, first = model.encode(frames), frames[:, :, 0] if reference else None
    inputs = {"latents": latents} | ({} if first is None else {"reference": first})
    torch.testing.assert_close(engine(inputs)[0], model.decode(latents, reference=first), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["none", "attention"])
def test_decoder_with_content_frame(tmp_path: Path, fusion: Any) -> None:
    """One clip of any length; at the length of the training, what the model gives outside `tiled`."""
    model = randomised(ReducioVAE(replace(SMALL_REDUCIO, fusion=fusion)))
    for name, table in ReducioVAE(model.config).state_dict().items():  # what is no weight stays as it is
        if name.endswith("pos_embed"):
            model.get_parameter(name).copy_(table)
    fused = fusion != "none"
    _, engine = export(decoder_exportable(model, reference=fused), tmp_path)
    expected: dict[str, list[str | int]] = {"latents": ["b", 4, "t", "h", "w"]}
    expected |= {"reference": ["b", 3, "4*h", "4*w"]} if fused else {}
    assert named_sizes(tmp_path / "graph.onnx") == expected | {"frames": ["b", 3, "2*t", "4*h", "4*w"]}

    frames = torch.rand(1, 3, 8, 20, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents, content = model.encode(frames), frames[:, :, 3] if fused else None
    inputs = {"latents": latents} | ({} if content is None else {"reference": content})
    torch.testing.assert_close(engine(inputs)[0], model.decode(latents, reference=content), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"upsample_mode": "nearest"}, {"upsamples": ("flat",) * 2, "time_upsamples": ("linear", "mixed")}],
)
def test_decoder_without_a_reference(tmp_path: Path, changes: Any) -> None:
    """Any number of latent frames, one alone among them, which is not interpolated in time.

    Not the attention of version 1.0, 'scrambled', whose shapes no graph for any number of frames holds.
    """
    model = randomised(ODVAE(replace(SMALL_OD_VAE, **changes)))
    _, engine = export(decoder_exportable(model, reference=False), tmp_path)
    assert named_sizes(tmp_path / "graph.onnx") == {
        "latents": ["b", 4, "t", "h", "w"],
        "frames": ["b", 3, "4*t - 3", "4*h", "4*w"],
    }
    for frames in (1, 9):
        clip = torch.rand(1, 3, frames, 20, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
        latents = model.encode(clip)
        torch.testing.assert_close(engine({"latents": latents})[0], model.decode(latents), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "text_mask"),
    [
        (TRANSFORMER, True),
        pytest.param(TRANSFORMER, False, marks=pytest.mark.slow),
        pytest.param(WITH_IMAGE, False, marks=pytest.mark.slow),
        pytest.param(WITHOUT_MEMORY, True, marks=pytest.mark.slow),
    ],
)
def test_transformer(tmp_path: Path, config: FSVideoDiTConfig, text_mask: bool) -> None:
    model = randomised(FSVideoDiT(config))
    exportable = transformer_exportable(model, text_mask=text_mask)
    _, engine = export(exportable, tmp_path)
    assert named_sizes(tmp_path / "graph.onnx")["cos"] == ["t", "h", "w", 6]
    sizes = {"b": 1, "t": 4, "h": 3, "w": 2, "l": 9} | ({"m": 5} if config.image_width else {})
    inputs = exportable.draw_inputs(sizes, seed=3)
    grid = (4, 3, 2)
    for positions in (None, torch.rand(3, *grid, generator=torch.Generator().manual_seed(1)) * 11):
        got = engine(inputs | tables(config, grid, positions))[0]
        torch.testing.assert_close(got, eager(model, inputs, positions), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(engine(inputs)[0], got, rtol=1e-2, atol=1e-3)  # the tables do matter


@pytest.mark.slow
def test_upsampler(tmp_path: Path) -> None:
    model = randomised(LatentUpsampler(UPSAMPLER))
    _, engine = export(upsampler_exportable(model), tmp_path)
    assert named_sizes(tmp_path / "graph.onnx") == {
        "latents": ["b", 4, "t", "h", "w"],
        "upsampled": ["b", 4, "t", "2*h", "2*w"],
    }
    latents = torch.randn(1, 4, 7, 3, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(engine({"latents": latents})[0], model(latents), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_refiner(tmp_path: Path) -> None:
    """Given the condition that the model makes of a photo and of upsampled latents: its mask counts in the graph."""
    config, grid = replace(REFINER, num_blocks=1), (3, 4, 2)
    model = randomised(FSVideoDiT(config))
    exportable = transformer_exportable(model, text_mask=False)
    _, engine = export(exportable, tmp_path)
    inputs = exportable.draw_inputs({"b": 1, "t": 3, "h": 4, "w": 2, "l": 5}, seed=3) | tables(config, grid, None)
    upsampled, first = torch.randn(2, 1, 4, 3, 4, 2, generator=torch.Generator().manual_seed(1))
    condition = model.refiner_condition(upsampled, first[:, :, :1], upsampled[:, :, :1])
    assert condition[:, : config.mask_channels, 1:].unique().numel() > 1
    got = engine(inputs | {"condition": condition})[0]
    torch.testing.assert_close(got, eager(model, inputs | {"condition": condition}, None), rtol=1e-4, atol=1e-5)
    trusting = condition.clone()
    trusting[:, : config.mask_channels] = 1
    assert not torch.allclose(engine(inputs | {"condition": trusting})[0], got, rtol=1e-2, atol=1e-3)


def tables(config: FSVideoDiTConfig, grid: tuple[int, int, int], positions: Tensor | None) -> dict[str, Tensor]:
    """What a user of the graph gives for these positions; None: the integer grid."""
    if positions is None:
        positions = torch.stack(torch.meshgrid(*(torch.arange(size).float() for size in grid), indexing="ij"))
    cos, sin = rotary_tables(positions, config.width // config.num_heads, config.rope_theta)
    return {"cos": cos.reshape(*grid, -1), "sin": sin.reshape(*grid, -1)}


def eager(model: FSVideoDiT, inputs: dict[str, Tensor], positions: Tensor | None) -> Tensor:
    names_of_model = ("latents", "timestep", "text", "text_mask", "condition", "image_tokens")
    velocity: Tensor = model(**{name: inputs[name] for name in names_of_model if name in inputs}, positions=positions)
    return velocity


@pytest.mark.slow
@pytest.mark.parametrize(
    "config", [REDUCIO_TRANSFORMER, replace(REDUCIO_TRANSFORMER, temporal_blocks=True, learn_sigma=True)]
)
def test_transformer_with_content_frame(tmp_path: Path, config: ReducioDiTConfig) -> None:
    model = randomised(ReducioDiT(config))
    exportable = content_transformer_exportable(model, text_mask=True)
    _, engine = export(exportable, tmp_path)
    assert named_sizes(tmp_path / "graph.onnx")["content"] == ["b", 4, "4*y", "4*x"]
    inputs = exportable.draw_inputs({"b": 1, "t": 4, "h": 3, "w": 2, "l": 9, "y": 2, "x": 5}, seed=3)
    got = engine(inputs)[0]
    torch.testing.assert_close(got, model(**inputs), rtol=1e-4, atol=1e-5)
    for name in ("positions", "size", "semantic", "content"):
        assert not torch.allclose(engine(inputs | {name: inputs[name] * 2})[0], got, rtol=1e-2, atol=1e-3)
