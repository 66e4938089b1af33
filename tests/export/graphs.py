"""One graph of every kind, as small as its architecture allows, and what an engine of it is built for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from fastvid_dit import FSVideoDiT, ReducioDiT
from fastvid_export import (
    AxisRange,
    Exportable,
    Geometry,
    Profile,
    Workload,
    content_transformer_exportable,
    decoder_chunk_exportable,
    decoder_exportable,
    encoder_chunk_exportable,
    encoder_exportable,
    matching_exportable,
    profiles_of,
    reference_exportable,
    transformer_exportable,
    upsampler_exportable,
)
from fastvid_vae import FSAE, ODVAE, LatentUpsampler, ReducioVAE
from torch import nn

from ..tiny_models import REDUCIO_TRANSFORMER, TRANSFORMER, UPSAMPLER, randomised
from .small_models import SMALL_AUTOENCODER, SMALL_OD_VAE, SMALL_REDUCIO

Make = Callable[[torch.dtype], Exportable]

# Two resolutions each, one stage of each kind; heads of 16, and two of them where
# a single video comes: TensorRT's attention has kernels for no less.
TOY_AUTOENCODER = replace(
    SMALL_AUTOENCODER,
    stage_kinds=("conv", "attention"),
    encoder_widths=(4, 16),
    decoder_widths=(4, 16),
    encoder_depths=(1, 1),
    decoder_depths=(1, 1),
    temporal_stages=(0,),
    injection=(None, "content"),
    head_width=16,
    injection_head_width=16,
)
TOY_OD_VAE = replace(
    SMALL_OD_VAE,
    widths=(4, 16),
    encoder_blocks=("2d", "causal"),
    downsamples=("causal time",),
    time_downsamples=("none",),
    decoder_blocks=("2d", "half causal"),
    upsamples=("causal time",),
    time_upsamples=("none",),
)
TOY_REDUCIO = replace(
    SMALL_REDUCIO,
    widths=(32, 32),
    content_widths=(32,),
    fused_levels=(0,),
    num_frames=4,
    num_heads=2,
    fusion_head_width=16,
)
TOY_TRANSFORMER = replace(TRANSFORMER, width=32, num_blocks=1)
TOY_CONTENT_TRANSFORMER = replace(REDUCIO_TRANSFORMER, width=48, num_heads=3, num_blocks=1)

DENSE = ("17x32x32", "9x32x32:batch=2")
MERGED = (*DENSE, "17x32x32:merged=0.5")
REDUCED = ("17x32x32:merged=0.5,keep_q=0.7,keep_kv=0.5",)
CLIPS = ("8x32x32", "8x32x64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A graph, and what its engine is for: workloads, where they can say it, and the names of their profiles."""

    make: Make
    workloads: Sequence[str] = ()
    geometry: Geometry | None = None
    names: tuple[str, ...] = ("dense",)

    def profiles(self, exportable: Exportable) -> tuple[Profile, ...]:
        """Of the workloads; of a graph without any, one for small sizes."""
        if self.geometry is None:
            axes = {axis: AxisRange(minimum=1, example=3, maximum=6) for axis in exportable.axes}
            return (Profile(name="dense", axes=axes),)
        return profiles_of(exportable, [Workload.parse(text) for text in self.workloads], self.geometry)


def in_precision(model: nn.Module, dtype: torch.dtype) -> Any:
    """As the models are loaded: those that keep some weights in float32 do."""
    lower = getattr(randomised(model), "lower_precision", model.to)
    lower(dtype)
    return model


def of_text(exportable: Exportable) -> Exportable:
    """With texts of 1 to 16 tokens, and content frames of 1 to 8 cells a side."""
    small = {"l": (7, 16), "y": (3, 8), "x": (4, 8)}
    ranges = {
        axis: AxisRange(minimum=1, example=example, maximum=maximum)
        for axis, (example, maximum) in small.items()
        if axis in exportable.axes
    }
    return replace(exportable, axes={**exportable.axes, **ranges})


def dit(dtype: torch.dtype) -> Any:
    return in_precision(FSVideoDiT(TOY_TRANSFORMER), dtype)


BLOCKS: dict[str, Any] = {"q_blocks": (0,), "kv_blocks": (0,)}
CAUSAL = Geometry(stride=(4, 4, 4))
PAIRS = Geometry(stride=(2, 2, 2))
IN_CLIPS = Geometry(stride=(2, 2, 2), causal=False)

TRANSFORMERS: Mapping[str, Graph] = {
    "FSVideoDiT": Graph(
        make=lambda dtype: of_text(transformer_exportable(dit(dtype), text_mask=True)),
        workloads=MERGED,
        geometry=CAUSAL,
        names=("dense", "merged"),
    ),
    "FSVideoDiT of fewer tokens": Graph(
        make=lambda dtype: of_text(transformer_exportable(dit(dtype), text_mask=False, block_tables=True, **BLOCKS)),
        workloads=REDUCED,
        geometry=CAUSAL,
        names=("reduced",),
    ),
    "FSVideoDiT that matches": Graph(
        make=lambda dtype: of_text(matching_exportable(dit(dtype), text_mask=False, **BLOCKS)),
        workloads=MERGED,
        geometry=CAUSAL,
        names=("dense", "merged"),
    ),
    "ReducioDiT": Graph(
        make=lambda dtype: of_text(
            content_transformer_exportable(in_precision(ReducioDiT(TOY_CONTENT_TRANSFORMER), dtype), text_mask=True)
        ),
        workloads=("16x32x32", "8x32x32"),
        geometry=Geometry(stride=(2, 4, 4), causal=False),
    ),
}

AUTOENCODERS: Mapping[str, Graph] = {
    "FSAE decoder": Graph(
        make=lambda dtype: decoder_exportable(in_precision(FSAE(TOY_AUTOENCODER), dtype), reference=True),
        workloads=DENSE,
        geometry=PAIRS,
    ),
    "FSAE encoder": Graph(
        make=lambda dtype: encoder_exportable(in_precision(FSAE(TOY_AUTOENCODER), dtype)),
        workloads=DENSE,
        geometry=PAIRS,
    ),
    "OD-VAE decoder": Graph(
        make=lambda dtype: decoder_exportable(in_precision(ODVAE(TOY_OD_VAE), dtype), reference=False),
        workloads=DENSE,
        geometry=PAIRS,
    ),
    "OD-VAE encoder": Graph(
        make=lambda dtype: encoder_exportable(in_precision(ODVAE(TOY_OD_VAE), dtype)),
        workloads=DENSE,
        geometry=PAIRS,
    ),
    "Reducio decoder": Graph(
        make=lambda dtype: decoder_exportable(in_precision(ReducioVAE(TOY_REDUCIO), dtype), reference=True),
        workloads=CLIPS,
        geometry=IN_CLIPS,
    ),
    "Reducio encoder": Graph(
        make=lambda dtype: encoder_exportable(in_precision(ReducioVAE(TOY_REDUCIO), dtype)),
        workloads=CLIPS,
        geometry=IN_CLIPS,
    ),
    "upsampler": Graph(
        make=lambda dtype: upsampler_exportable(in_precision(LatentUpsampler(UPSAMPLER), dtype)),
        workloads=DENSE,
        geometry=PAIRS,
    ),
}


def chunked(dtype: torch.dtype) -> Any:
    return in_precision(FSAE(TOY_AUTOENCODER), dtype)


CHUNKS: Mapping[str, Graph] = {
    "encoder of first chunks": Graph(make=lambda dtype: encoder_chunk_exportable(chunked(dtype), first=True)),
    "encoder of later chunks": Graph(make=lambda dtype: encoder_chunk_exportable(chunked(dtype), first=False)),
    "decoder of first chunks": Graph(
        make=lambda dtype: decoder_chunk_exportable(chunked(dtype), first=True, reference=True)
    ),
    "decoder of later chunks": Graph(
        make=lambda dtype: decoder_chunk_exportable(chunked(dtype), first=False, reference=True)
    ),
    "features of the reference": Graph(make=lambda dtype: reference_exportable(chunked(dtype))),
}
