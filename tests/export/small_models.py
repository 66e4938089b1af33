"""Autoencoders smaller than the tiny ones: what costs time is the trace, and more stages show nothing new to it."""

from dataclasses import replace
from pathlib import Path

import onnx

from ..tiny_models import AUTOENCODER, OD_VAE, REDUCIO

SMALL_AUTOENCODER = replace(
    AUTOENCODER,
    stage_kinds=("conv", "conv", "attention"),
    encoder_widths=(4, 8, 16),
    decoder_widths=(4, 8, 16),
    encoder_depths=(1, 1, 1),
    decoder_depths=(1, 1, 1),
    injection=(None, None, "content"),
)
SMALL_REDUCIO = replace(
    REDUCIO, widths=(4, 8, 8), content_widths=(4, 8), temporal_levels=1, fused_levels=(1,), num_frames=8
)
SMALL_OD_VAE = replace(
    OD_VAE,
    widths=(4, 4, 8),
    encoder_blocks=("2d", "causal", "causal"),
    downsamples=("causal time",) * 2,
    time_downsamples=("none",) * 2,
    decoder_blocks=("2d", "causal", "half causal"),
    upsamples=("causal time",) * 2,
    time_upsamples=("none",) * 2,
)


def named_sizes(path: Path) -> dict[str, list[str | int]]:
    """Of the inputs and outputs of an ONNX file."""
    graph = onnx.load(path).graph
    return {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
