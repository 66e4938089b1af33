"""Train the embedded latent upsampler and refiner on clips of 256 pixels, and add them to a pipeline's folder.

Reads pipeline_memory, which train_transformer.py left in the output folder, and leaves pipeline_refined there. Resumes
where it was killed.
"""

import argparse
import hashlib
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from camera_motion import Request, offsets, sample_request, sources
from data import Photos
from fastvid_dit import FSVideoDiT, RefinerMask
from fastvid_dit.flow import pseudo_huber_loss
from fastvid_dit.refinement import upsampling_error
from fastvid_dit.training.refinement import Degradation, deviated_latents, training_condition
from fastvid_dit.training.trainer import Batch, Trainer, TrainerConfig
from fastvid_pipelines import FSVideoPipeline, Refinement, Refiner
from fastvid_pipelines.encoders.byte import ByteTextEncoder
from fastvid_pipelines.sampling.solvers import METHODS
from fastvid_pipelines.stages.denoise import denoise, draw_noise
from fastvid_pipelines.types import Conditions, Sampling, TextFeatures
from fastvid_vae import FSAE, LatentUpsampler, LatentUpsamplerConfig
from fastvid_vae.training.trainer import Trainer as ConvolutionTrainer
from fastvid_vae.training.trainer import TrainingSettings
from fastvid_vae.training.upsampling import latent_loss
from torch import Tensor
from torch.nn import functional
from train_transformer import NUM_FRAMES, padded_text, train

LARGE_SIZE = 256
NUM_PAIRS = 600
LATENT_NOISE = 0.1
PLACE_WEIGHT = 0.3
"""Of the distance, in cells, between where a latent says its content lies and where the large video's says so."""
REFINER_PLACE_WEIGHT = 20.0
"""The same for the refiner: a pixel of that distance then counts about as much as all that is wrong with a latent."""

EMBEDDED_UPSAMPLER = LatentUpsamplerConfig(latent_channels=64, width=28, num_blocks=3)
EMBEDDED_DEGRADATION = Degradation(shuffle=0.1, replacement=0.1, dropout=0.0)
# One step from pure noise: at lower levels training latents give their true places away, which generated ones cannot. A
# refiner trained at all levels was 2.6 dB behind the enlarged small videos in one step, one trained here 0.4 dB ahead.
EMBEDDED_REFINEMENT = Refinement(num_inference_steps=1, shift=1.0, solver="euler")
UPSAMPLING = TrainingSettings(
    kernel_rate=0.01,
    other_rate=1e-3,
    warmup_steps=50,
    decay_steps=900,
    total_steps=1200,
    save_every=200,
)
UPSAMPLER_BATCH, REFINER_BATCH, NUM_DEVIATED, MAKING_BATCH = 16, 8, 2, 10
REFINING = TrainerConfig(
    num_steps=1200,
    warmup_steps=50,
    learning_rate=3e-3,
    ema_decay=0.98,
    muon=True,
    text_dropout=0.0,
    sigma_shift=150.0,
    sigma_std=1.3,
    compile=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Latents of clips at half size and at `LARGE_SIZE`, and what was asked for.

    `made` is what the base model makes of a small clip's first frame and words: what it gets wrong, it gets wrong the
    same way again and again, so that a refiner can learn to set it right.
    """

    small: Tensor
    large: Tensor
    made: Tensor
    requests: list[Request]


@torch.inference_mode()
def cache_pairs(vae: Path, data: Path, count: int) -> tuple[Tensor, Tensor, list[Request]]:
    """Latents of clips at half size and at `LARGE_SIZE`, and what was asked for; computed once, then read."""
    requests = [sample_request(random.Random(f"large request {index}")) for index in range(count)]
    digest = hashlib.sha256((vae / "model.safetensors").read_bytes()).hexdigest()
    path = vae.with_name(f"pairs_{count}_{digest[:12]}.pt")
    if not path.exists():
        model, photos = FSAE.from_pretrained(vae), Photos(data, "train")
        times = [frame / (NUM_FRAMES - 1) for frame in range(NUM_FRAMES)]
        small, large = [], []
        for index, request in enumerate(requests):
            rng = random.Random(f"large crop {index}")
            clip = photos.clip(rng.randrange(len(photos.photos)), request.motion, times, LARGE_SIZE, rng)
            half = functional.interpolate(clip.transpose(0, 1), scale_factor=0.5, mode="bicubic", antialias=True)
            small.append(model.encode(half.clamp(-1, 1).transpose(0, 1)[None]).half())
            true = offsets(sources(request.motion, times, LARGE_SIZE, LARGE_SIZE))
            large.append(with_true_offsets(model, model.encode(clip[None]), true).half())
        partial = path.with_suffix(".partial")
        torch.save((torch.cat(small), torch.cat(large)), partial)
        partial.replace(path)
    small, large = torch.load(path, weights_only=True)
    return small, large, requests


def with_true_offsets(model: FSAE, latents: Tensor, true: Tensor) -> Tensor:
    """Latents that differ as little as possible from these, and say exactly where their content lies in frame 0.

    The encoder learned on frames of 128 pixels; at 256 its offsets are 1 to 4 pixels off, which cost 2 to 6 dB on
    four training photos.

    Args:
        latents: of a camera motion.
        true: (T, H, W, 2), offsets in pixels.
    """
    place, (time, space, _) = model.decoder.place, model.stride
    assert place is not None  # the embedded decoder is deformable
    cells = functional.avg_pool2d(true[::time].permute(0, 3, 1, 2), space).div(space).transpose(0, 1)
    raw = model.denormalise(latents)
    to_latents = torch.linalg.pinv(place.weight[:, :, 0, 0, 0])
    return model.normalise(raw + torch.einsum("cp,bpthw->bcthw", to_latents, cells[None] - place(raw)))


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


def train_upsampler(
    upsampler: LatentUpsampler, autoencoder: FSAE, pairs: tuple[Tensor, Tensor], settings: TrainingSettings, path: Path
) -> None:
    """Train in place; batch i is a function of i alone."""
    small, large = pairs
    place = autoencoder.decoder.place
    assert place is not None  # the embedded decoder is deformable

    def batches(first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        for step in range(first_step, settings.total_steps):
            generator = torch.Generator().manual_seed(step)
            chosen = torch.randint(len(small), (min(UPSAMPLER_BATCH, len(small)),), generator=generator)
            clean = small[chosen].float()
            yield clean + LATENT_NOISE * torch.randn(clean.shape, generator=generator), large[chosen].float()

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        noisy, target = batch
        upsampled = upsampler(noisy)
        cells = place(autoencoder.denormalise(upsampled)) - place(autoencoder.denormalise(target))
        return latent_loss(upsampled, target) + PLACE_WEIGHT * cells.norm(dim=1).mean()

    trainer = ConvolutionTrainer(upsampler, loss, settings, checkpoint=path)
    trainer.run(batches, path.with_suffix(".jsonl"))


@torch.inference_mode()
def measure_mask(upsampler: LatentUpsampler, small: Tensor, large: Tensor) -> RefinerMask:
    """The quantiles of the first frame's upsampling error over training pairs."""
    errors = [
        upsampling_error(large[i : i + 1, :, :1].float(), upsampler(small[i : i + 1, :, :1].float())).flatten()
        for i in range(len(small))
    ]
    low, high = torch.cat(errors).quantile(torch.tensor([0.05, 0.95])).tolist()
    return RefinerMask(error_low=low, error_high=high)


def refiner_batches(
    base: FSVideoDiT,
    upsampler: LatentUpsampler,
    refiner: FSVideoDiT,
    text_encoder: ByteTextEncoder,
    pairs: Pairs,
    first_step: int,
) -> Iterator[Batch]:
    """Batch i is a function of i alone: which clips, how they are worded, and how their small videos are wrong.

    `NUM_DEVIATED` of a batch are wrong as in the paper, by one velocity of the base model; the others are its own.
    """
    mask_settings, step = refiner.config.refiner_mask, first_step
    assert mask_settings is not None  # a refiner
    while True:
        rng, generator = random.Random(f"refiner batch {step}"), torch.Generator().manual_seed(step)
        chosen = [rng.randrange(len(pairs.requests)) for _ in range(min(REFINER_BATCH, len(pairs.requests)))]
        text, text_mask = padded_text(text_encoder, [pairs.requests[index].prompt(rng) for index in chosen])
        clean, target, made = (part[chosen].float() for part in (pairs.small, pairs.large, pairs.made))
        with torch.no_grad():
            few, words, mask = clean[:NUM_DEVIATED], text[:NUM_DEVIATED], text_mask[:NUM_DEVIATED]
            given = base.first_frame_condition(few[:, :, :1], few.shape[2])

            def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
                return base(noisy, 1000 * sigma, words, mask, condition=given)  # noqa: B023  # called in this turn

            wrong = torch.cat((deviated_latents(few, velocity, generator), made[NUM_DEVIATED:]))
            condition = training_condition(
                upsampler(wrong), upsampler(clean[:, :, :1]), target, mask_settings, EMBEDDED_DEGRADATION, generator
            )
        channels = condition.channels(refiner.config.mask_channels)
        yield Batch(latents=target, condition=channels, text=text, text_mask=text_mask)
        step += 1


def distance_of_latents(autoencoder: FSAE) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A loss of velocities: how far apart clean latents are, and the places in the first frame that they point to."""
    place = autoencoder.decoder.place
    assert place is not None  # the embedded decoder is deformable
    std = torch.tensor(autoencoder.config.latent_std)
    to_cells = REFINER_PLACE_WEIGHT * place.weight[:, :, 0, 0, 0].detach() * std

    def loss(velocity: Tensor, target: Tensor, sigma: Tensor) -> Tensor:
        latents = (velocity - target) * sigma.view(-1, 1, 1, 1, 1)
        both = torch.cat((latents, torch.einsum("pc,bcthw->bpthw", to_cells, latents)), dim=1)
        return pseudo_huber_loss(both, torch.zeros_like(both)).mean() / latents[0].numel() ** 0.5

    return loss


def build_refiner(base: FSVideoDiT, mask: RefinerMask) -> FSVideoDiT:
    """The base model without its inner blocks, with all weights that fit: new are the second block's router and the
    head, which is zero, so that it starts as the upsampled video.

    One that predicted velocities lost noise on the way: after 500 steps, places in frame 0 itself, which it is shown,
    were a pixel off.
    """
    torch.manual_seed(0)
    refiner = FSVideoDiT(replace(base.config, num_blocks=2, refiner_mask=mask, prediction="correction"))
    given, last = base.state_dict(), base.config.num_blocks - 1
    inherited = {name: given[name.replace("blocks.1.", f"blocks.{last}.")] for name in refiner.state_dict()}
    fitting = {
        name: tensor for name, tensor in inherited.items() if "memory_router" not in name and "head.linear" not in name
    }
    refiner.load_state_dict(refiner.state_dict() | fitting)
    return refiner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with photos/ and clips/")
    parser.add_argument("output", type=Path, help="folder with pipeline_memory/ and its vae/")
    parser.add_argument("--toy", action="store_true", help="two eager steps on two clips: does it run at all?")
    arguments = parser.parse_args()
    output, toy = arguments.output, arguments.toy

    torch.set_flush_denormal(True)
    small, large, requests = cache_pairs(output / "vae", arguments.data, 2 if toy else NUM_PAIRS)
    pipe = FSVideoPipeline.from_pretrained(output / "pipeline_memory")
    base, text_encoder, autoencoder = pipe.transformer, pipe.text_encoder, pipe.autoencoder
    assert isinstance(base, FSVideoDiT)
    assert isinstance(text_encoder, ByteTextEncoder)
    assert isinstance(autoencoder, FSAE)

    torch.manual_seed(0)
    upsampler = LatentUpsampler(EMBEDDED_UPSAMPLER)
    settings = replace(UPSAMPLING, total_steps=2, warmup_steps=1, decay_steps=1) if toy else UPSAMPLING
    train_upsampler(upsampler, autoencoder, (small, large), settings, output / "upsampler.pt")
    upsampler = upsampler.eval().requires_grad_(False)

    made = make_small_videos(base, text_encoder, small, requests, pipe.sampling)
    pairs = Pairs(small=small, large=large, made=made, requests=requests)
    refiner = build_refiner(base, measure_mask(upsampler, small, large))
    config = replace(REFINING, num_steps=2, warmup_steps=1, compile=False) if toy else REFINING
    trainer = Trainer(config, refiner, loss_function=distance_of_latents(autoencoder))
    checkpoint = output / "refiner.pt"
    if checkpoint.exists():
        trainer.resume(checkpoint)
    train(trainer, refiner_batches(base, upsampler, refiner, text_encoder, pairs, trainer.step), checkpoint)
    with trainer.ema.applied():
        save(pipe, upsampler, refiner, output)


def save(pipe: FSVideoPipeline, upsampler: LatentUpsampler, refiner: FSVideoDiT, output: Path) -> None:
    """The pipeline with both, in half precision."""
    refiner.lower_precision(torch.float16)
    folder = output / "pipeline_refined"
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier run of this script left
    whole = FSVideoPipeline.from_pretrained(output / "pipeline_memory", dtype=torch.float16)
    whole.refiner = Refiner(upsampler=upsampler.half(), transformer=refiner, refinement=EMBEDDED_REFINEMENT)
    whole.save_pretrained(folder)


if __name__ == "__main__":
    main()
