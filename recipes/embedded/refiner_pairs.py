"""What the refiner learns from: large clips, and the small videos that the base model makes of what they began with."""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from camera_motion import Request, offsets, sources
from data import Photos
from fastvid_dit import FSVideoDiT
from fastvid_pipelines.encoders.byte import ByteTextEncoder
from fastvid_pipelines.sampling.solvers import METHODS
from fastvid_pipelines.stages.denoise import denoise, draw_noise
from fastvid_pipelines.types import Conditions, Sampling, TextFeatures
from fastvid_vae import FSAE, LatentUpsampler
from places import Places
from torch import Tensor
from torch.nn import functional
from train_transformer import NUM_FRAMES, padded_text

LARGE_SIZE = 256
MAKING_BATCH, UPSAMPLING_BATCH = 10, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Latents of clips at `LARGE_SIZE`, what was asked for, and what the upsampler makes of the small video.

    The small video is the base model's own, from the clip's first frame and words: what it gets wrong, it gets wrong
    the same way again and again, so that a refiner can learn to set it right.

    Attributes:
        upsampled_first: of the small first frame's true latent.
        large_places, upsampled_places: where their contents lie, see `Places`.
    """

    large: Tensor
    upsampled: Tensor
    upsampled_first: Tensor
    large_places: Tensor
    upsampled_places: Tensor
    requests: list[Request]


def cached(path: Path, sources: Sequence[Path], make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """What `make` gives, computed once while these files are as they are, then read."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    path = path.with_name(f"{path.name}_{digest[:12]}.pt")
    if not path.exists():
        partial = path.with_suffix(".partial")
        torch.save(make(), partial)
        partial.replace(path)
    tensors: tuple[Tensor, ...] = torch.load(path, weights_only=True)
    return tensors


@torch.inference_mode()
def encode_clips(model: FSAE, data: Path, requests: list[Request]) -> tuple[Tensor, Tensor]:
    """Latents of clips at half size and at `LARGE_SIZE`."""
    photos, places = Photos(data, "train"), Places(model)
    times = [frame / (NUM_FRAMES - 1) for frame in range(NUM_FRAMES)]
    small, large = [], []
    for index, request in enumerate(requests):
        rng = random.Random(f"large crop {index}")
        clip = photos.clip(rng.randrange(len(photos.photos)), request.motion, times, LARGE_SIZE, rng)
        half = functional.interpolate(clip.transpose(0, 1), scale_factor=0.5, mode="bicubic", antialias=True)
        small.append(model.encode(half.clamp(-1, 1).transpose(0, 1)[None]).half())
        true = offsets(sources(request.motion, times, LARGE_SIZE, LARGE_SIZE))
        large.append(with_true_offsets(places, model.encode(clip[None]), true, model.stride).half())
    return torch.cat(small), torch.cat(large)


def with_true_offsets(places: Places, latents: Tensor, true: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """Latents that differ as little as possible from these, and say exactly where their content lies in frame 0.

    The encoder learned on frames of 128 pixels; at 256 its offsets are 1 to 4 pixels off, which cost 2 to 6 dB on
    four training photos.

    Args:
        latents: of a camera motion.
        true: (T, H, W, 2), offsets in pixels.
        stride: of the autoencoder.
    """
    time, space, _ = stride
    cells = functional.avg_pool2d(true[::time].permute(0, 3, 1, 2), space).div(space).transpose(0, 1)
    return places.moved(latents, cells[None] - places.of(latents))


@torch.inference_mode()
def make_small_videos(
    base: FSVideoDiT, text_encoder: ByteTextEncoder, small: Tensor, requests: list[Request], sampling: Sampling
) -> Tensor:
    """The base model's own latents of the clips, sampled as the pipeline samples."""
    method, made = METHODS[sampling.solver], []
    sigmas = method.sigmas(sampling.num_inference_steps, sampling.shift)
    for first in range(0, len(small), MAKING_BATCH):
        clean, asked = small[first : first + MAKING_BATCH].float(), requests[first : first + MAKING_BATCH]
        rng, generator = random.Random(f"made {first}"), torch.Generator().manual_seed(first)
        text, mask = padded_text(text_encoder, [""] * len(asked) + [request.prompt(rng) for request in asked])
        conditions = Conditions(
            text=TextFeatures(tokens=text[len(asked) :], mask=mask[len(asked) :]),
            negative_text=TextFeatures(tokens=text[: len(asked)], mask=mask[: len(asked)]),
            image_latents=clean[:, :, :1],
            image_tokens=None,
        )
        noise = draw_noise(conditions, clean.shape[2], base.config.patch_size, generator)
        guidance = sampling.guidance_scale
        video = denoise(base, noise, conditions, sigmas, method.solver, guidance_scale=guidance)
        made.append(video.latents.half())
    return torch.cat(made)


@torch.inference_mode()
def upsample(
    upsampler: LatentUpsampler, places: Places, small: Tensor, large: Tensor, made: Tensor, requests: list[Request]
) -> Pairs:
    """Small videos at the size of the large clips."""

    def larger(latents: Tensor) -> Tensor:
        return torch.cat([upsampler(some.float()).half() for some in latents.split(UPSAMPLING_BATCH)])

    upsampled = larger(made)
    return Pairs(
        large=large,
        upsampled=upsampled,
        upsampled_first=larger(small[:, :, :1]),
        large_places=places.of(large.float()),
        upsampled_places=places.of(upsampled.float()),
        requests=requests,
    )
