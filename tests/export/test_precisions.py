"""Every kind of model in both flavours and three precisions, each compared with eager of the same precision.

Portable float32, fused float16 and a transformer in fused bfloat16 are compared by default where engines are built of
them, in `test_every_transformer` and `test_every_autoencoder`. Here stands the rest, on models of more stages.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from fastvid_dit import FSVideoDiT, ReducioDiT
from fastvid_export import (
    Exportable,
    Flavour,
    content_transformer_exportable,
    decoder_exportable,
    export_onnx,
    transformer_exportable,
    upsampler_exportable,
)
from fastvid_vae import FSAE, ODVAE, LatentUpsampler, ReducioVAE
from torch import nn

from ..tiny_models import REDUCIO_TRANSFORMER, TRANSFORMER, UPSAMPLER, randomised
from .small_models import SMALL_AUTOENCODER, SMALL_OD_VAE, SMALL_REDUCIO

ELEMENTS = {torch.float32: 1, torch.float16: 10, torch.bfloat16: 16}


def in_precision(model: nn.Module, dtype: torch.dtype) -> Any:
    """As the models are loaded: those that keep some weights in float32 do."""
    lower = getattr(randomised(model), "lower_precision", model.to)
    lower(dtype)
    return model


def fsvideo(dtype: torch.dtype) -> Exportable:
    model = in_precision(FSVideoDiT(replace(TRANSFORMER, num_blocks=1)), dtype)
    return transformer_exportable(model, text_mask=True)


def reducio(dtype: torch.dtype) -> Exportable:
    model = in_precision(ReducioDiT(replace(REDUCIO_TRANSFORMER, num_blocks=1)), dtype)
    return content_transformer_exportable(model, text_mask=True)


def fsae(dtype: torch.dtype) -> Exportable:
    return decoder_exportable(in_precision(FSAE(SMALL_AUTOENCODER), dtype), reference=True)


def od_vae(dtype: torch.dtype) -> Exportable:
    return decoder_exportable(in_precision(ODVAE(SMALL_OD_VAE), dtype), reference=False)


def reducio_vae(dtype: torch.dtype) -> Exportable:
    return decoder_exportable(in_precision(ReducioVAE(SMALL_REDUCIO), dtype), reference=True)


def upsampler(dtype: torch.dtype) -> Exportable:
    return upsampler_exportable(in_precision(LatentUpsampler(UPSAMPLER), dtype))


def compare(exportable: Exportable, flavour: Flavour, path: Path, dtype: torch.dtype) -> None:
    # Onnx's evaluator, which compares bfloat16, is slow where there are convolutions.
    few = [exportable.example_sizes, dict.fromkeys(exportable.axes, 1)] if dtype == torch.bfloat16 else None
    assert export_onnx(exportable, path, flavour=flavour, cases=few).passed
    graph = onnx.load(path, load_external_data=False).graph
    assert graph.output[0].type.tensor_type.elem_type == ELEMENTS[dtype]
    assert exportable.precision == dtype


@pytest.mark.slow
@pytest.mark.parametrize("make", [fsvideo, reducio, fsae, od_vae, reducio_vae, upsampler])
@pytest.mark.parametrize(
    ("flavour", "dtype"),
    [
        ("fused", torch.float32),
        ("portable", torch.float16),
        ("fused", torch.float16),
        ("portable", torch.bfloat16),
        ("fused", torch.bfloat16),
    ],
)
def test_every_kind(
    make: Callable[[torch.dtype], Exportable], flavour: Flavour, dtype: torch.dtype, tmp_path: Path
) -> None:
    compare(make(dtype), flavour, tmp_path / "graph.onnx", dtype)
