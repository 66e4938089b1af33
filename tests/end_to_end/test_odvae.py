"""A video transformer on OD-VAE's latents, with random weights: what comes out means nothing but its shape."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from fastvid_dit import FSVideoDiT
from fastvid_pipelines import ByteTextEncoder, Clip, FSVideoPipeline, LatentVideo
from fastvid_vae import ODVAE, ODVAE_VARIANT_4

from ..tiny_models import OD_VAE, SAMPLING, TEXT_ENCODER, TRANSFORMER, randomised

SIZE = {"num_frames": 9, "height": 32, "width": 48}


def pipeline() -> FSVideoPipeline:
    return FSVideoPipeline(
        autoencoder=randomised(ODVAE(OD_VAE)),
        transformer=randomised(FSVideoDiT(replace(TRANSFORMER, patch_size=(1, 2, 2)))),
        text_encoder=randomised(ByteTextEncoder(TEXT_ENCODER)),
        sampling=replace(SAMPLING, **SIZE),
    )


def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)


def run(pipe: FSVideoPipeline, output_type: str = "np") -> Clip | LatentVideo:
    video = pipe(
        image=photo(),
        prompt="the camera pans left",
        generator=torch.Generator().manual_seed(3),
        output_type=output_type,
    )
    assert isinstance(video, Clip | LatentVideo)
    return video


def test_photo_to_video(tmp_path: Path) -> None:
    """Latents at (4, 8, 8) with 4 channels, tokens at (1, 2, 2); a decoder that takes no reference is given none."""
    pipe = pipeline()
    latents = run(pipe, "latent")
    assert isinstance(latents, LatentVideo)
    assert latents.latents.shape == (1, 4, 3, 4, 6)
    assert latents.positions.shape == (3, 3, 2, 3)
    clip = run(pipe)
    assert isinstance(clip, Clip)
    assert clip.frames.shape == (9, 32, 48, 3)
    pipe.save_pretrained(tmp_path / "model")
    again = run(FSVideoPipeline.from_pretrained(tmp_path / "model"))
    assert isinstance(again, Clip)
    assert np.array_equal(again.frames, clip.frames)


def test_a_transformer_of_full_size_fits_its_latents() -> None:
    """Shapes alone, on the meta device: 33 frames of 256 x 256 are 9 x 32 x 32 latents and 9 x 16 x 16 tokens."""
    with torch.device("meta"):
        model = ODVAE(ODVAE_VARIANT_4)
        frames = torch.empty(1, 3, 33, 256, 256)
        transformer = FSVideoDiT(
            replace(TRANSFORMER, patch_size=(1, 2, 2), latent_channels=model.latent_channels, width=384, num_heads=6)
        )
        latents = model.encode(frames)
        condition = transformer.first_frame_condition(latents[:, :, :1], latents.shape[2])
        velocity = transformer(latents, torch.ones(1), torch.empty(1, 5, 16), condition=condition)
        decoded = model.decode(velocity)
    assert latents.shape == velocity.shape == (1, 4, 9, 32, 32)
    assert decoded.shape == frames.shape
