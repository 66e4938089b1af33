"""Train the embedded latent upsampler and refiner on clips of 256 pixels, and add them to a pipeline's folder.

Reads pipeline_memory, which train_transformer.py left in the output folder, and leaves pipeline_refined there. Resumes
where it was killed.
"""

import argparse
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from camera_motion import sample_request
from fastvid_dit import FSVideoDiT, RefinerMask, grid_positions
from fastvid_dit.flow import pseudo_huber_loss
from fastvid_dit.refinement import upsampling_error
from fastvid_dit.training.refinement import Degradation, training_condition
from fastvid_dit.training.trainer import Batch, Trainer, TrainerConfig
from fastvid_pipelines import FSVideoPipeline, Refinement, Refiner
from fastvid_pipelines.encoders.byte import ByteTextEncoder
from fastvid_vae import FSAE, LatentUpsampler, LatentUpsamplerConfig
from fastvid_vae.training.trainer import Trainer as ConvolutionTrainer
from fastvid_vae.training.trainer import TrainingSettings
from fastvid_vae.training.upsampling import latent_loss
from places import Places
from refiner_pairs import Pairs, cached, encode_clips, make_small_videos, upsample
from stray import stray
from torch import Tensor
from train_transformer import padded_text, train

NUM_PAIRS = 600
LATENT_NOISE = 0.1
PLACE_WEIGHT = 0.3
"""Of the distance, in cells, between where a latent says its content lies and where the large video's says so."""
REFINER_PLACE_WEIGHT = 20.0
"""The same for the refiner: a pixel of that distance then counts about as much as all that is wrong with a latent."""
TOKEN_STEP = 2
"""Of the rows and columns of tokens that the refiner learns on, at their own positions: four times as many clips."""

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
UPSAMPLER_BATCH, REFINER_BATCH = 16, 16
REFINING = TrainerConfig(
    num_steps=3000,
    warmup_steps=50,
    learning_rate=4e-3,
    ema_decay=0.98,
    muon=True,
    text_dropout=0.0,
    sigma_shift=1e6,  # from pure noise, always
    compile=True,
)


def train_upsampler(
    upsampler: LatentUpsampler, places: Places, pairs: tuple[Tensor, Tensor], settings: TrainingSettings, path: Path
) -> None:
    """Train in place; batch i is a function of i alone."""
    small, large = pairs

    def batches(first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        for step in range(first_step, settings.total_steps):
            generator = torch.Generator().manual_seed(step)
            chosen = torch.randint(len(small), (min(UPSAMPLER_BATCH, len(small)),), generator=generator)
            clean = small[chosen].float()
            yield clean + LATENT_NOISE * torch.randn(clean.shape, generator=generator), large[chosen].float()

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        noisy, target = batch
        upsampled = upsampler(noisy)
        cells = places.part(upsampled - target)
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
    refiner: FSVideoDiT, text_encoder: ByteTextEncoder, pairs: Pairs, places: Places, first_step: int
) -> Iterator[Batch]:
    """Batch i is a function of i alone: which clips, how they stray and are worded, and which of their tokens."""
    mask_settings, step = refiner.config.refiner_mask, first_step
    assert mask_settings is not None  # a refiner
    while True:
        rng, generator = random.Random(f"refiner batch {step}"), torch.Generator().manual_seed(step)
        chosen = [rng.randrange(len(pairs.requests)) for _ in range(min(REFINER_BATCH, len(pairs.requests)))]
        upsampled, target, asked = stray(pairs, chosen, places, rng, generator)
        text, text_mask = padded_text(text_encoder, [request.prompt(rng) for request in asked])
        first = pairs.upsampled_first[chosen].float()
        condition = training_condition(upsampled, first, target, mask_settings, EMBEDDED_DEGRADATION, generator)
        rows, columns = (slice(rng.randrange(TOKEN_STEP), None, TOKEN_STEP) for _ in range(2))
        yield Batch(
            latents=target[..., rows, columns],
            condition=condition.channels(refiner.config.mask_channels)[..., rows, columns],
            positions=grid_positions((target.shape[2], *target.shape[3:]))[..., rows, columns],
            text=text,
            text_mask=text_mask,
        )
        step += 1


def distance_of_latents(places: Places) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A loss of velocities: how far apart clean latents are, and the places in the first frame that they point to."""

    def loss(velocity: Tensor, target: Tensor, sigma: Tensor) -> Tensor:
        latents = (velocity - target) * sigma.view(-1, 1, 1, 1, 1)
        both = torch.cat((latents, REFINER_PLACE_WEIGHT * places.part(latents)), dim=1)
        return pseudo_huber_loss(both, torch.zeros_like(both)).mean() / latents[0].numel() ** 0.5

    return loss


def build_refiner(base: FSVideoDiT, mask: RefinerMask) -> FSVideoDiT:
    """The base model without its inner blocks, with all weights that fit.

    New are the second block's router, the head, which is zero, so that it starts as the upsampled video, and what is
    read of the noise, nothing at first.

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
    with torch.no_grad():
        refiner.patch_embedding.weight[:, : base.config.latent_channels].zero_()
    return refiner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with photos/ and clips/")
    parser.add_argument("output", type=Path, help="folder with pipeline_memory/ and its vae/")
    parser.add_argument("--toy", action="store_true", help="two eager steps on two clips: does it run at all?")
    arguments = parser.parse_args()
    output, toy = arguments.output, arguments.toy

    torch.set_flush_denormal(True)
    folder = output / "pipeline_memory"
    pipe = FSVideoPipeline.from_pretrained(folder)
    base, text_encoder, autoencoder = pipe.transformer, pipe.text_encoder, pipe.autoencoder
    assert isinstance(base, FSVideoDiT)
    assert isinstance(text_encoder, ByteTextEncoder)
    assert isinstance(autoencoder, FSAE)
    weights = {part: folder / part / "model.safetensors" for part in ("vae", "transformer", "text_encoder")}
    requests = [sample_request(random.Random(f"large request {index}")) for index in range(2 if toy else NUM_PAIRS)]
    small, large = cached(
        output / f"pairs_{len(requests)}",
        [weights["vae"]],
        lambda: encode_clips(autoencoder, arguments.data, requests),
    )
    (made,) = cached(
        output / f"made_{len(requests)}",
        [*weights.values(), folder / "model_index.json"],
        lambda: (make_small_videos(base, text_encoder, small, requests, pipe.sampling),),
    )

    torch.manual_seed(0)
    upsampler = LatentUpsampler(EMBEDDED_UPSAMPLER)
    settings = replace(UPSAMPLING, total_steps=2, warmup_steps=1, decay_steps=1) if toy else UPSAMPLING
    places = Places(autoencoder)
    train_upsampler(upsampler, places, (small, large), settings, output / "upsampler.pt")
    upsampler = upsampler.eval().requires_grad_(False)

    pairs = upsample(upsampler, places, small, large, made, requests)
    refiner = build_refiner(base, measure_mask(upsampler, small, large))
    config = replace(REFINING, num_steps=2, warmup_steps=1, compile=False) if toy else REFINING
    trainer = Trainer(config, refiner, loss_function=distance_of_latents(places))
    checkpoint = output / "refiner.pt"
    if checkpoint.exists():
        trainer.resume(checkpoint)
    train(trainer, refiner_batches(refiner, text_encoder, pairs, places, trainer.step), checkpoint)
    with trainer.ema.applied():
        save(pipe, upsampler, refiner, output)


def save(pipe: FSVideoPipeline, upsampler: LatentUpsampler, refiner: FSVideoDiT, output: Path) -> None:
    """The pipeline with both, in half precision, also what embeds the timestep: the refiner only knows one."""
    folder = output / "pipeline_refined"
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier run of this script left
    whole = FSVideoPipeline.from_pretrained(output / "pipeline_memory", dtype=torch.float16)
    whole.refiner = Refiner(upsampler=upsampler.half(), transformer=refiner.half(), refinement=EMBEDDED_REFINEMENT)
    whole.save_pretrained(folder)


if __name__ == "__main__":
    main()
