"""Engines of one video at a time under guidance, which wants two: AsymRnR and VGDFR do what they do in eager."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from fastvid_accel import VGDFR, AsymRnR, AsymRnRConfig, VGDFRConfig, compose
from fastvid_dit import FSVideoDiT
from fastvid_export import (
    EngineRecord,
    EngineTransformer,
    Exportable,
    LoadedEngine,
    Profile,
    matching_exportable,
    transformer_exportable,
)
from fastvid_export.build import describe_inputs
from fastvid_export.guard import GuardedEngine
from fastvid_export.record import OutputRecord
from fastvid_pipelines import TensorClip
from torch import Tensor

from ..tiny_models import TRANSFORMER, tiny_pipeline

BLOCKS: dict[str, Any] = {"q_blocks": (0, 1), "kv_blocks": (0, 1)}
REDUCING = AsymRnR(AsymRnRConfig(q=((0.0, 0.4),), window=3, dense_matching=True, min_gain=0.0))
MERGING = VGDFR(VGDFRConfig(threshold=0.5, start_step=1))


class Alone:
    """An engine of one video at a time that computes by its module; and how often it was called."""

    def __init__(self, exportable: Exportable) -> None:
        self.exportable, self.calls = exportable, 0
        axes = {**exportable.axes, "b": replace(exportable.axes["b"], minimum=1, example=1, maximum=1)}
        record = EngineRecord(
            name=exportable.name,
            graph="",
            weights="",
            backend="tensorrt",
            backend_version="",
            target=(),
            precision="float32",
            flavour="portable",
            options={},
            versions={},
            inputs=describe_inputs(exportable),
            results=tuple(OutputRecord(name=name, dtype="float32", dims=()) for name in exportable.outputs),
            profiles=(Profile(name="dense", axes=axes),),
            files=(),
            parity={},
            parity_of="engine",
            seconds=0,
            created="",
        )
        self.loaded = LoadedEngine(record=record, engine=GuardedEngine(record, self.run))

    def run(self, inputs: Mapping[str, Tensor], profile: int) -> tuple[Tensor, ...]:
        self.calls += 1
        out = self.exportable.module(**inputs)
        return (out,) if isinstance(out, Tensor) else tuple(out)


@pytest.mark.parametrize(
    "accelerator", [None, REDUCING, MERGING, compose(REDUCING, MERGING)], ids=["none", "AsymRnR", "VGDFR", "both"]
)
def test_two_calls_are_one_batch(accelerator: Any) -> None:
    pipe = tiny_pipeline()
    assert isinstance(pipe.transformer, FSVideoDiT)
    assert TRANSFORMER.num_blocks == 2
    engines = [
        Alone(transformer_exportable(pipe.transformer, text_mask=True)),
        Alone(transformer_exportable(pipe.transformer, text_mask=True, **BLOCKS)),
        Alone(matching_exportable(pipe.transformer, text_mask=True, **BLOCKS)),
    ]
    dense, reduced, matching = (engine.loaded for engine in engines)

    def video() -> TensorClip:
        clip = pipe(
            image=torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1,
            prompt="the camera pans left",
            num_frames=17,
            num_inference_steps=4,
            guidance_scale=1.5,
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
            accelerator=accelerator,
        )
        assert isinstance(clip, TensorClip)
        return clip

    expected = video()
    assert (expected.latent_frames[-1] < 5) == (accelerator not in (None, REDUCING))  # frames were merged
    pipe.transformer = EngineTransformer(pipe.transformer, dense, reduced=reduced, matching=matching)
    torch.testing.assert_close(video().frames, expected.frames, rtol=1e-4, atol=1e-4)
    calls = [engine.calls for engine in engines]
    assert sum(calls) == 8  # two branches, four steps
    assert (calls[1] > 0) == (accelerator not in (None, MERGING))
