"""VGDFR on the model that comes with fastvid-pipelines."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fastvid_accel import VGDFR, AsymRnR, VGDFRConfig, compose
from fastvid_accel.vgdfr.ifnet import IFNet, IFNetConfig
from fastvid_pipelines import FSVideoPipeline, TensorClip
from fastvid_pipelines.stages.preview import PreviewCodec
from fastvid_vae import ODVAE
from PIL import Image

from ..tiny_models import OD_VAE
from ..warm import printed_by

PHOTO = Path(__file__).parents[2] / "examples" / "assets" / "meadow.jpg"
SCRIPT = Path(sys.executable).with_name("fastvid-cli")
STEPS = 4


@pytest.fixture(scope="module")
def pipe() -> FSVideoPipeline:
    return FSVideoPipeline.default()


def run(pipe: FSVideoPipeline, prompt: str, num_frames: int, accelerator: object) -> TensorClip:
    return pipe(
        image=PHOTO,
        prompt=prompt,
        num_frames=num_frames,
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(0),
        output_type="pt",
        accelerator=accelerator,  # type: ignore[arg-type]
    )


def test_at_threshold_one_it_is_the_same_to_the_bit(pipe: FSVideoPipeline) -> None:
    none = run(pipe, "the camera pans left", 17, None)
    ours = run(pipe, "the camera pans left", 17, VGDFR(VGDFRConfig(threshold=1.0)))
    assert torch.equal(ours.frames, none.frames)
    assert ours.acceleration["merges"] == []


def test_stillness_merges_the_most_and_haste_the_least(pipe: FSVideoPipeline) -> None:
    prompts = ("the camera holds still", "the camera slowly pans left", "the camera quickly pans left")
    left = []
    for prompt in prompts:
        clip = run(pipe, prompt, 33, VGDFR())
        assert clip.frames.shape[2] == 33
        assert clip.latent_frames == (len(clip.acceleration["kept_latents"]),) * STEPS  # the first step comes before
        left.append(clip.latent_frames[-1])
    assert left == sorted(left)
    assert left[0] == 5  # all that can go
    assert left[-1] > left[0]


@pytest.mark.parametrize("positions", ["local", "global", (0, 2)])
def test_a_video_that_holds_still_is_hardly_changed(pipe: FSVideoPipeline, positions: object) -> None:
    config = VGDFRConfig(positions=positions)  # type: ignore[arg-type]
    none = run(pipe, "the camera holds still", 17, None)
    ours = run(pipe, "the camera holds still", 17, VGDFR(config))
    assert ours.latent_frames == (4, 4, 4, 4)
    assert (ours.frames - none.frames).square().mean() < 4 * 10**-3  # 30 dB


def test_sizes_that_are_no_multiple_keep_their_frames(pipe: FSVideoPipeline) -> None:
    clip = pipe(
        image=PHOTO,
        prompt="the camera holds still",
        num_frames=19,
        height=100,
        width=72,
        num_inference_steps=2,
        accelerator=VGDFR(),
        generator=torch.Generator().manual_seed(0),
    )
    assert clip.frames.shape == (19, 100, 72, 3)
    assert clip.latent_frames == (3, 3)


def test_with_fewer_tokens_inside_attention_as_well(pipe: FSVideoPipeline) -> None:
    both = run(pipe, "the camera holds still", 33, compose(AsymRnR(), VGDFR()))
    assert both.frames.shape[2] == 33
    assert both.latent_frames == (5, 5, 5, 5)
    assert torch.isfinite(both.frames).all()
    again = run(pipe, "the camera holds still", 33, compose(AsymRnR(), VGDFR()))
    assert torch.equal(both.frames, again.frames)


def test_the_sidecar_holds_what_was_merged(tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    flags = ["--prompt", "the camera holds still", "--steps", "2", "--accelerate", "vgdfr", "--output", str(output)]
    printed_by(SCRIPT, "generate", PHOTO, *flags)
    record = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))["accelerator"]
    assert record["name"] == "vgdfr"
    assert record["latent_frames"] == [4, 4]
    assert record["report"]["kept_latents"] == [0, 1, 3, 4]
    assert np.all(np.array(record["report"]["similarity"]) > 0.75)


def test_settings_with_a_small_preview_and_a_network_for_the_gaps(tmp_path: Path) -> None:
    """From the command line, as the README has it; of RIFE only the layout, small and with random weights."""
    IFNet(IFNetConfig(feature_channels=2, widths=(8, 4), scales=(2, 1))).save_pretrained(tmp_path / "rife")
    settings = {"start_step": 1, "skipped_stages": 1, "refining_steps": 1}
    facts = {"format": "fastvid-vgdfr/1", "settings": settings, "interpolator": "rife"}
    (tmp_path / "vgdfr.json").write_text(json.dumps(facts))
    output = tmp_path / "out.mp4"
    flags = ["--prompt", "the camera holds still", "--steps", "2", "--accelerate", "asymrnr,vgdfr"]
    flags += ["--accelerate-settings", f"vgdfr={tmp_path / 'vgdfr.json'}", "--output", str(output)]
    printed_by(SCRIPT, "generate", PHOTO, *flags)
    record = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    merged = record["accelerator"]["report"]["accelerators"][1]
    assert (merged["refining_steps"], merged["kept_latents"]) == (1, [0, 1, 3, 4])
    assert record["request"]["num_frames"] == 17


def test_a_small_preview_finds_the_same_frames_to_merge(pipe: FSVideoPipeline) -> None:
    full, small = (
        run(pipe, "the camera slowly pans left", 17, VGDFR(VGDFRConfig(start_step=1, skipped_stages=stages)))
        for stages in (0, 1)
    )
    assert small.acceleration["kept_latents"] == full.acceleration["kept_latents"]
    assert small.acceleration["similarity"] != full.acceleration["similarity"]
    assert small.frames.shape == full.frames.shape


def test_a_refined_preview_is_another_one(pipe: FSVideoPipeline) -> None:
    config = VGDFRConfig(start_step=1, refining_steps=1)
    refined, plain = (
        run(pipe, "the camera slowly pans left", 17, VGDFR(replace(config, refining_steps=count))) for count in (1, 0)
    )
    assert refined.frames.shape[2] == 17
    assert refined.acceleration["refining_steps"] == 1
    assert refined.acceleration["similarity"] != plain.acceleration["similarity"]


@torch.inference_mode()
def test_a_small_preview_shows_what_the_whole_one_shows(pipe: FSVideoPipeline) -> None:
    """On a pan over the photo; numbers of the README of fastvid-vae."""
    with Image.open(PHOTO) as photo:
        pixels = torch.from_numpy(np.array(photo.convert("RGB").resize((192, 192)))) / 127.5 - 1
    frames = torch.stack([pixels[32:160, 2 * t : 2 * t + 128] for t in range(17)]).permute(3, 0, 1, 2)[None]
    latents = pipe.autoencoder.encode(frames)
    whole = PreviewCodec(autoencoder=pipe.autoencoder, reference=frames[:, :, 0])
    decoded = whole.decode(latents)
    for stages, least in ((1, 30), (2, 24)):
        small = whole.truncated(stages).decode(latents)
        expected = torch.nn.functional.avg_pool3d(decoded, (1, 2**stages, 2**stages))
        assert 10 * torch.log10(4 / (small - expected).square().mean()) > least


def test_an_autoencoder_that_cannot_leave_stages_out_says_so() -> None:
    codec = PreviewCodec(autoencoder=ODVAE(OD_VAE), reference=torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="OD-VAE cannot leave stages out as FSAE does"):
        VGDFR(VGDFRConfig(skipped_stages=1)).start(num_steps=4, codec=codec)
