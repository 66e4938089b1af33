"""FSAE in chunks: graphs that hand their state on give the video that the model decodes whole."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fastvid_export import (
    Exportable,
    OnnxEngine,
    decoder_chunk_exportable,
    encoder_chunk_exportable,
    export_onnx,
    reference_exportable,
)
from fastvid_vae import FSAE
from torch import Tensor

from ..tiny_models import randomised
from .small_models import SMALL_AUTOENCODER

pytestmark = pytest.mark.slow
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def run(exportable: Exportable, folder: Path) -> OnnxEngine:
    path = folder / f"{exportable.name}.onnx"
    assert export_onnx(exportable, path).passed
    return OnnxEngine(path)


def chained(first: OnnxEngine, later: OnnxEngine, chunks: list[Tensor], given: dict[str, Tensor]) -> Tensor:
    """The results of all chunks, each but the first told what the one before remembers."""
    name = first.inputs[0]
    got, *state = first({name: chunks[0], **given})
    parts = [got]
    for chunk in chunks[1:]:
        caches = {f"cache_{index}": tensor for index, tensor in enumerate(state)}
        got, *state = later({name: chunk, **caches, **given})
        parts.append(got)
    return torch.cat(parts, dim=2)


@pytest.mark.parametrize(("mode", "injection"), [("lite", "content"), ("causal", "deformable"), ("lite", None)])
def test_decoder(tmp_path: Path, mode: Any, injection: Any) -> None:
    model = randomised(FSAE(replace(SMALL_AUTOENCODER, decoder_mode=mode, injection=(None, None, injection))))
    reference = torch.rand(1, 3, 12, 20) * 2 - 1 if injection else None
    with_reference = reference is not None
    first, later = (
        run(decoder_chunk_exportable(model, first=at_start, reference=with_reference), tmp_path)
        for at_start in (True, False)
    )
    given: dict[str, Tensor] = {}
    if reference is not None:
        features = run(reference_exportable(model), tmp_path)
        given = dict(zip(features.outputs, features({"reference": reference}), strict=True))
    latents = torch.randn(1, 4, 7, 3, 5)
    expected = model.decode(latents, reference=reference)
    for cuts in ([1, 3, 3], [3, 2, 2], [1] * 7):
        got = chained(first, later, list(latents.split(cuts, dim=2)), given)
        torch.testing.assert_close(got, expected, **TOLERANCE)


def test_encoder(tmp_path: Path) -> None:
    model = randomised(FSAE(SMALL_AUTOENCODER))
    first, later = (run(encoder_chunk_exportable(model, first=at_start), tmp_path) for at_start in (True, False))
    frames = torch.rand(1, 3, 17, 12, 20) * 2 - 1
    for cuts in ([1, 4, 12], [9, 8], [5, 4, 4, 4]):
        got = chained(first, later, list(frames.split(cuts, dim=2)), {})
        torch.testing.assert_close(got, model.encode(frames), **TOLERANCE)
