"""The encoders of all autoencoders as graphs: what they give is what the model's own `encode` gives."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fastvid_export import OnnxEngine, encoder_exportable, export_onnx
from fastvid_vae import FSAE, ODVAE, ReducioVAE

from ..tiny_models import randomised
from .small_models import SMALL_AUTOENCODER, SMALL_OD_VAE, SMALL_REDUCIO, named_sizes

pytestmark = pytest.mark.slow  # smaller ones are compared, and built, in `test_every_autoencoder`


@pytest.mark.parametrize(
    ("kind", "config", "frames"),
    [
        (ODVAE, SMALL_OD_VAE, "4*t - 3"),
        (FSAE, SMALL_AUTOENCODER, "4*t - 3"),
        (ReducioVAE, SMALL_REDUCIO, "2*t"),
        (ReducioVAE, replace(SMALL_REDUCIO, fusion="none"), "2*t"),
    ],
)
def test_encoder(tmp_path: Path, kind: Any, config: Any, frames: str) -> None:
    model = randomised(kind(config))
    assert export_onnx(encoder_exportable(model), tmp_path / "graph.onnx").passed
    assert named_sizes(tmp_path / "graph.onnx") == {
        "frames": ["b", 3, frames, "4*h", "4*w"],
        "latents": ["b", 4, "t", "h", "w"],
    }
    engine = OnnxEngine(tmp_path / "graph.onnx")
    length = 8 if kind is ReducioVAE else 9
    for num_frames in {length, length if kind is ReducioVAE else 1}:  # and the first frame of a video alone
        clip = torch.rand(1, 3, num_frames, 20, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
        torch.testing.assert_close(engine({"frames": clip})[0], model.encode(clip), rtol=1e-4, atol=1e-5)
