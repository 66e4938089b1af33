"""Every architecture becomes a real engine of TensorRT-RTX with all its profiles, transformers for three kinds of GPU.

The graphs are compared with eager on the way.

This shows that the parser takes the graph, that its shapes hold over each profile, and that attention has kernels. It
shows nothing of speed, memory or numbers, and nothing of an H100, for which TensorRT-RTX does not build.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fastvid_dit import FSVideoDiT, ReducioDiT
from fastvid_export import (
    AxisRange,
    EngineError,
    Exportable,
    Geometry,
    TensorRT,
    Workload,
    build_engine,
    content_transformer_exportable,
    decoder_exportable,
    encoder_exportable,
    load_engine,
    matching_exportable,
    profiles_of,
    transformer_exportable,
    upsampler_exportable,
)
from fastvid_vae import FSAE, ODVAE, LatentUpsampler, ReducioVAE

from ..tiny_models import REDUCIO_TRANSFORMER, TRANSFORMER, UPSAMPLER, randomised
from .small_models import SMALL_AUTOENCODER, SMALL_OD_VAE, SMALL_REDUCIO

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is there for Linux only")

CAPABILITIES = (80, 89, 120)
DENSE = ("17x32x32", "9x32x32:batch=2")
MERGED = (*DENSE, "17x32x32:merged=0.5")
REDUCED = ("17x32x32:merged=0.5,keep_q=0.7,keep_kv=0.5",)
WHOLE = replace(TRANSFORMER, width=32, num_blocks=1)  # heads of 16, for which attention has kernels


def dit() -> FSVideoDiT:
    return randomised(FSVideoDiT(WHOLE)).half()


def text(exportable: Exportable) -> Exportable:
    """With texts of 1 to 16 tokens."""
    return replace(exportable, axes={**exportable.axes, "l": AxisRange(minimum=1, example=7, maximum=16)})


CASES: dict[str, tuple[Callable[[], Exportable], str, Sequence[str], Geometry]] = {
    "dit": (
        lambda: text(transformer_exportable(dit(), text_mask=True)),
        "fused",
        MERGED,
        Geometry(stride=(4, 4, 4)),
    ),
    "dit, reduced": (
        lambda: text(transformer_exportable(dit(), text_mask=False, q_blocks=(0,), kv_blocks=(0,))),
        "fused",
        REDUCED,
        Geometry(stride=(4, 4, 4)),
    ),
    "dit, matching": (
        lambda: text(matching_exportable(dit(), text_mask=False, q_blocks=(0,), kv_blocks=(0,))),
        "fused",
        MERGED,
        Geometry(stride=(4, 4, 4)),
    ),
    "dit, portable": (
        lambda: text(transformer_exportable(randomised(FSVideoDiT(WHOLE)), text_mask=False)),
        "portable",
        MERGED,
        Geometry(stride=(4, 4, 4)),
    ),
    "reducio dit": (
        lambda: text(content_transformer_exportable(randomised(ReducioDiT(REDUCIO_TRANSFORMER)), text_mask=True)),
        "portable",
        ("16x32x32", "8x32x32"),
        Geometry(stride=(2, 4, 4), causal=False),
    ),
    "fsae decoder": (
        lambda: decoder_exportable(randomised(FSAE(SMALL_AUTOENCODER)), reference=True),
        "portable",
        DENSE,
        Geometry(stride=(4, 4, 4)),
    ),
    "fsae encoder": (
        lambda: encoder_exportable(randomised(FSAE(SMALL_AUTOENCODER))),
        "portable",
        DENSE,
        Geometry(stride=(4, 4, 4)),
    ),
    "od-vae decoder": (
        lambda: decoder_exportable(randomised(ODVAE(SMALL_OD_VAE)), reference=False),
        "portable",
        DENSE,
        Geometry(stride=(4, 4, 4)),
    ),
    "reducio decoder": (
        lambda: decoder_exportable(randomised(ReducioVAE(SMALL_REDUCIO)), reference=True),
        "portable",
        ("8x32x32", "8x32x64"),
        Geometry(stride=(2, 4, 4), causal=False),
    ),
    "upsampler": (
        lambda: upsampler_exportable(randomised(LatentUpsampler(UPSAMPLER)).half()),
        "fused",
        DENSE,
        Geometry(stride=(4, 4, 4)),
    ),
}


SLOW = ("dit, matching", "dit, portable", "fsae encoder")  # of kinds that are here already


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CASES]
)
def test_an_engine_with_all_its_profiles(tmp_path: Path, name: str) -> None:
    make, flavour, texts, geometry = CASES[name]
    exportable = make()
    profiles = profiles_of(exportable, [Workload.parse(text) for text in texts], geometry)
    backend = TensorRT(
        kind="tensorrt_rtx",
        flavour="fused" if flavour == "fused" else "portable",
        compute_capabilities=CAPABILITIES if name.startswith("dit") else CAPABILITIES[:1],
    )
    # Two sizes of each profile: that the graphs are right everywhere is shown beside this file.
    cases = [sizes for profile in profiles for sizes in (profile.minimum, profile.maximum)]
    record = build_engine(exportable, tmp_path / "engine", backend=backend, profiles=profiles, cases=cases)
    assert record.profiles == profiles
    assert [profile.name for profile in profiles] == (
        ["reduced"] if texts is REDUCED else ["dense", "merged"] if texts is MERGED else ["dense"]
    )
    assert (record.parity["passed"], record.parity_of, record.flavour) == (True, "graph", flavour)
    assert record.precision == str(exportable.precision).removeprefix("torch.")
    assert record.files[0].size > 10_000
    if not torch.cuda.is_available():
        with pytest.raises(EngineError, match="there is no GPU here"):
            load_engine(tmp_path / "engine", expect=exportable)
