"""Every stage of the autoencoder's training at toy size: which weights move, and what the losses compare."""

import random
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from fastvid_vae import FSAE, FSAEConfig
from fastvid_vae.training.adversarial import MultiscaleDiscriminator
from fastvid_vae.training.alignment import VideoVFLoss
from fastvid_vae.video_io import VideoWriter
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes" / "fsae"))

import train_stage  # the recipes are scripts in one folder
from stages import STAGES, Stage, model_config, toy

SIDE = 64
CONFIG = FSAEConfig(
    latent_channels=4,
    stage_kinds=("conv", "conv", "conv", "attention"),
    encoder_widths=(4, 4, 8, 8),
    decoder_widths=(4, 4, 8, 8),
    encoder_depths=(0, 0, 0, 1),
    decoder_depths=(0, 0, 0, 1),
    temporal_stages=(0, 1),
    head_width=8,
    affine_norm=True,
    decoder_mode="causal",
    injection=(None, None, "content", "content"),
    injection_head_width=8,
    noise_weight=0.05,
    latent_mean=(0.0,) * 4,
    latent_std=(1.0,) * 4,
)
BY_NAME = {stage.name: stage for stage in STAGES}


def features(frames: Tensor) -> Tensor:
    """In a vision model's place."""
    return torch.nn.functional.avg_pool3d(frames, (1, 16, 16))


def build(stage: Stage, folder: Path) -> train_stage.StageTrainer:
    torch.manual_seed(0)
    judges = train_stage.Judges(
        lpips=lambda a, b: (a - b).square().mean(),
        features=features,
        discriminator=MultiscaleDiscriminator(width=4, num_layers=2, num_scales=2),
        alignment=VideoVFLoss(4, 3),
    )
    return train_stage.StageTrainer(FSAE(model_config(CONFIG, stage)), stage, judges, folder / "state.pt")


def clip(frames: int) -> Tensor:
    return torch.rand(1, 3, frames, SIDE, SIDE, generator=torch.Generator().manual_seed(frames)) * 2 - 1


def test_the_paper() -> None:
    assert list(BY_NAME) == ["reconstruct", "adversarial", "large", "align", "standard", "lite"]
    assert [stage.name for stage in STAGES if not stage.gan] == ["reconstruct"]
    assert [stage.name for stage in STAGES if stage.train == "decoder"] == ["standard", "lite"]
    assert [stage.name for stage in STAGES if stage.first_frame and stage.noise] == ["standard", "lite"]
    assert [stage.name for stage in STAGES if stage.patch] == ["large"]
    assert [stage.name for stage in STAGES if stage.alignment] == ["align"]
    assert max(BY_NAME["large"].clips) == (169, 256)
    assert (121, 1024) in BY_NAME["large"].clips


def moved(stage: Stage, folder: Path) -> set[str]:
    """Which parts another weight has after two steps."""
    trainer = build(toy(stage, SIDE), folder)
    parts = {
        "encoder": trainer.model.encoder,
        "decoder": trainer.model.decoder,
        "discriminator": trainer.judges.discriminator,
        "alignment": trainer.judges.alignment,
    }
    before = {name: [p.clone() for p in part.parameters()] for name, part in parts.items()}
    trainer.run(lambda first: (clip(5) for _ in range(first, 9)))
    assert trainer.step == 2
    return {
        name
        for name, part in parts.items()
        if any(not torch.equal(*pair) for pair in zip(before[name], part.parameters(), strict=True))
    }


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_moves_what_it_trains(stage: Stage, tmp_path: Path) -> None:
    expected = {"decoder"} | ({"encoder"} if stage.train == "all" else set())
    expected |= ({"discriminator"} if stage.gan else set()) | ({"alignment"} if stage.alignment else set())
    assert moved(stage, tmp_path) == expected


def test_an_encoder_that_is_not_frozen_would_be_seen(tmp_path: Path) -> None:
    assert "encoder" not in moved(BY_NAME["lite"], tmp_path / "frozen")
    assert "encoder" in moved(replace(BY_NAME["lite"], train="all"), tmp_path / "mutant")


def test_the_loss_of_a_patch_is_that_of_the_whole_there(tmp_path: Path) -> None:
    stage = replace(toy(BY_NAME["large"], SIDE), gan=0.0)
    patch, frames = build(stage, tmp_path), clip(5)
    loss, part, real = patch.loss(frames)
    assert 0 < real.numel() < frames.numel()
    whole = build(replace(stage, patch=None), tmp_path / "whole")
    whole.model.load_state_dict(patch.model.state_dict())
    decoded = whole.loss(frames)[1]
    rows, columns = real.shape[3:]
    places = [
        (y, x)
        for y in range(0, SIDE - rows + 1, 8)
        for x in range(0, SIDE - columns + 1, 8)
        if torch.equal(frames[..., y : y + rows, x : x + columns], real)
    ]
    ((y, x),) = places
    there = decoded[..., y : y + rows, x : x + columns]
    assert (there - part).abs().max() < 1e-5
    expected = (there - real).abs().mean() + 0.1 * (there - real).square().mean(dim=(0, 1, 3, 4)).mean()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert loss.item() != pytest.approx(whole.loss(frames)[0].item(), abs=1e-5)


def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    stage = replace(toy(BY_NAME["lite"], SIDE), steps=4)
    straight = build(stage, tmp_path / "straight")
    straight.run(lambda first: (clip(5 if step % 2 else 1) for step in range(first, 9)))
    build(replace(stage, steps=2), tmp_path / "cut").run(
        lambda first: (clip(5 if step % 2 else 1) for step in range(first, 9))
    )
    resumed = build(stage, tmp_path / "cut")
    assert resumed.step == 2
    resumed.run(lambda first: (clip(5 if step % 2 else 1) for step in range(first, 9)))
    weights = zip(straight.parts.state_dict().values(), resumed.parts.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in weights)


def test_the_decoder_stages_start_from_the_causal_model(tmp_path: Path) -> None:
    causal = build(toy(BY_NAME["reconstruct"], SIDE), tmp_path).model
    causal.save_pretrained(tmp_path / "causal")
    still = clip(1).expand(-1, -1, 5, -1, -1)
    for name in ("standard", "lite"):
        model = train_stage.start(CONFIG, BY_NAME[name], tmp_path / "causal").eval()
        latents = causal.encode(still)
        assert torch.allclose(model.encode(still), latents)
        shown = model.decode(latents, reference=still[:, :, 0])
        assert torch.allclose(shown, causal.decode(latents), atol=1e-5)  # new injections add nothing yet


def test_windows_lie_in_the_frame() -> None:
    for seed in range(20):
        window = train_stage.patch_window(64, 96, 0.5, random.Random(seed))
        assert (window.height, window.width) == (4, 6)
        assert 0 <= window.top <= 4
        assert 0 <= window.left <= 6


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    stage = BY_NAME["align"]
    with pytest.raises(ValueError, match="`alignment` has no effect on a frozen encoder"):
        replace(stage, train="decoder")
    with pytest.raises(ValueError, match=r"`clips` has 16 frames of 256; expected 1 \+ 4k"):
        replace(stage, clips=((16, 256),))
    with pytest.raises(ValueError, match=r"`patch` is 1\.5"):
        replace(stage, patch=1.5)
    with pytest.raises(ValueError, match="`noise` has no effect where a `patch`"):
        replace(stage, patch=0.5, noise=True)
    judges = replace(build(stage, tmp_path).judges, features=None)
    with pytest.raises(ValueError, match="give the folder of a vision model"):
        train_stage.StageTrainer(FSAE(model_config(CONFIG, stage)), stage, judges, tmp_path / "state.pt")


@pytest.mark.parametrize("name", ["adversarial", "large"])
def test_the_script_on_a_clip(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a folder of videos to a model that can be read back."""
    (tmp_path / "clips").mkdir()
    with VideoWriter(tmp_path / "clips" / "noise.mp4", rate=Fraction(8)) as writer:
        for picture in np.random.default_rng(0).integers(0, 256, (5, 64, 80, 3), dtype=np.uint8):
            writer.write(picture)
    FSAE(CONFIG).save_pretrained(tmp_path / "config")
    words = ["--stage", name, "--config", str(tmp_path / "config"), "--toy", str(SIDE)]
    monkeypatch.setattr(sys, "argv", ["train_stage", str(tmp_path / "clips"), str(tmp_path / "run"), *words])
    train_stage.main()
    assert FSAE.from_pretrained(tmp_path / "run" / name).config.decoder_mode == "causal"
