"""Weights that lie on disk between two uses, by diffusers' hooks: every part of a pipeline asks for its own in time.

On a CPU the hooks leave tensors of the right shape without their numbers behind, so a part that reaches past a module
for its weights computes with garbage. What goes to and from a GPU is not shown here.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.hooks import apply_group_offloading, group_offloading
from fastvid_dit import FSVideoDiT
from fastvid_pipelines import CLIPImageEncoder, FSVideoPipeline, NonFiniteError
from fastvid_vae import FSAE
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from ..tiny_models import AUTOENCODER, REFINER, TRANSFORMER, randomised, tiny_pipeline

PHOTO = np.random.default_rng(0).integers(0, 256, (70, 80, 3), dtype=np.uint8)
CLIP = CLIPVisionConfig(
    hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=28, patch_size=7
)


def whole_pipeline(injection: str = "content") -> FSVideoPipeline:
    """Both stages, and encoders for words and picture."""
    pipe = tiny_pipeline(refining=True)
    assert pipe.refiner is not None
    vae = replace(AUTOENCODER, injection=(None, None, injection, injection))  # type: ignore[arg-type]
    refiner = randomised(FSVideoDiT(replace(REFINER, image_width=16)), seed=1)
    return FSVideoPipeline(
        autoencoder=randomised(FSAE(vae)),
        transformer=randomised(FSVideoDiT(replace(TRANSFORMER, image_width=16))),
        text_encoder=pipe.text_encoder,
        image_encoder=CLIPImageEncoder(randomised(CLIPVisionModel(CLIP))),
        refiner=replace(pipe.refiner, transformer=refiner),
        sampling=pipe.sampling,
    )


def modules(pipe: FSVideoPipeline) -> dict[str, nn.Module]:
    assert pipe.refiner is not None
    parts = {
        "autoencoder": pipe.autoencoder,
        "transformer": pipe.transformer,
        "text_encoder": pipe.text_encoder,
        "image_encoder": pipe.image_encoder.model,  # type: ignore[union-attr]
        "upsampler": pipe.refiner.upsampler,
        "refiner": pipe.refiner.transformer,
    }
    return {name: part for name, part in parts.items() if isinstance(part, nn.Module)}


def offload(part: nn.Module, folder: Path) -> None:
    folder.mkdir()
    cpu = torch.device("cpu")
    apply_group_offloading(
        part, onload_device=cpu, offload_device=cpu, offload_type="leaf_level", offload_to_disk_path=str(folder)
    )


def frames(pipe: FSVideoPipeline) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    clip = pipe(
        image=PHOTO, prompt="pan left", height=64, width=64, num_frames=5, generator=generator, output_type="pt"
    )
    return clip.frames


@pytest.mark.parametrize("injection", ["content", "deformable"])
def test_with_all_weights_on_disk_the_video_is_the_same(tmp_path: Path, injection: str) -> None:
    expected = frames(whole_pipeline(injection))
    pipe = whole_pipeline(injection)
    parts = modules(pipe)
    assert len(parts) == 6
    for name, part in parts.items():
        offload(part, tmp_path / name)
        fresh = modules(whole_pipeline(injection))[name]
        left = zip(part.parameters(), fresh.parameters(), strict=True)
        assert any(not torch.equal(*pair) for pair in left), f"{name} has its weights still"
    assert torch.equal(frames(pipe), expected)


@pytest.mark.parametrize(
    "name", ["autoencoder", "transformer", "text_encoder", "image_encoder", "upsampler", "refiner"]
)
def test_a_part_whose_weights_stay_on_disk_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The mutant: nothing is fetched."""
    expected, pipe = frames(whole_pipeline()), whole_pipeline()
    offload(modules(pipe)[name], tmp_path / name)
    monkeypatch.setattr(group_offloading.ModuleGroup, "onload_", lambda self: None)
    try:
        found = frames(pipe)
    except (NonFiniteError, IndexError):  # numbers, or places in a table, that are nonsense
        return
    assert not torch.equal(found, expected)
