"""Train the embedded text encoder, then the transformer on cached latents of camera motions; write a pipeline folder.

Reads the autoencoder that train_autoencoder.py left in the output folder; leaves pipeline_memory there, or
pipeline_plain of the transformer without layer memory. Resumes where it was killed.
"""

import argparse
import hashlib
import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from camera_motion import Request, sample_request
from data import Photos
from fastvid_dit import FSVideoDiT, FSVideoDiTConfig
from fastvid_dit.training.trainer import Batch, NullText, StepReport, Trainer, TrainerConfig
from fastvid_pipelines import FSVideoPipeline, Sampling
from fastvid_pipelines.encoders.byte import ByteTextEncoder, ByteTextEncoderConfig
from fastvid_vae import FSAE
from teach_text import teach
from torch import Tensor
from torch.nn import functional

FRAME_SIZE = 128
NUM_FRAMES = 17
PROMPT_BYTES = 80

EMBEDDED_TEXT = ByteTextEncoderConfig(width=128, num_layers=2, num_heads=4, max_bytes=128)
EMBEDDED_SAMPLING = Sampling(
    num_frames=NUM_FRAMES,
    height=FRAME_SIZE,
    width=FRAME_SIZE,
    fps=8.0,
    num_inference_steps=10,
    guidance_scale=1.5,
    shift=8.0,
    solver="euler",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of the training with its own rates, which rise and fall to zero, and noise levels."""

    name: str
    steps: int
    warmup_steps: int
    learning_rate: float
    ema_decay: float
    sigma_shift: float
    sigma_std: float


# Where the camera goes is decided close to sigma 1: the offsets in the latents are smooth and large, and shine through
# the noise below. The first phase hardly ever looks there (above 0.97: one sample in 370), the second
# does (one in five). After the first alone, offsets in the last frame of eight motions were 3 to 14 pixels off.
PHASES = (
    Phase(
        name="all_levels", steps=1500, warmup_steps=100, learning_rate=3e-3, ema_decay=0.99,
        sigma_shift=2.0, sigma_std=1.0,
    ),
    Phase(
        name="high_noise", steps=500, warmup_steps=30, learning_rate=2e-3, ema_decay=0.98,
        sigma_shift=12.0, sigma_std=1.3,
    ),
)  # fmt: skip
BATCH_SIZE = 16
NUM_CLIPS = 2400
TEXT_STEPS = 1000


def transformer_config(*, layer_memory: bool) -> FSVideoDiTConfig:
    return FSVideoDiTConfig(
        patch_size=(1, 1, 1),
        latent_channels=64,
        mask_channels=1,
        width=192,
        num_heads=6,
        num_blocks=6,
        ffn_width=768,
        frequency_width=256,
        text_width=EMBEDDED_TEXT.width,
        image_width=None,
        norm_eps=1e-6,
        rope_theta=100.0,
        layer_memory=layer_memory,
        memory_norm="post",
    )


def build(*, layer_memory: bool) -> FSVideoDiT:
    """A new transformer, which starts from the same weights with and without layer memory, but for its routers."""
    torch.manual_seed(0)
    transformer = FSVideoDiT(transformer_config(layer_memory=True))
    if layer_memory:
        return transformer
    plain = FSVideoDiT(transformer_config(layer_memory=False))
    weights = {name: weight for name, weight in transformer.state_dict().items() if "memory_router" not in name}
    plain.load_state_dict(weights)
    return plain


def taught_text_encoder(folder: Path, num_steps: int) -> ByteTextEncoder:
    """The text encoder of this folder; taught and written there if there is none yet."""
    if not folder.exists():
        torch.manual_seed(0)
        text_encoder = ByteTextEncoder(EMBEDDED_TEXT)
        print(f"text encoder: {teach(text_encoder, num_steps):.3f} rms in units of the plain sentences' motions")
        text_encoder.save_pretrained(folder)
    return ByteTextEncoder.from_pretrained(folder)


@torch.inference_mode()
def cache_latents(vae: Path, data: Path, count: int, device: str) -> tuple[Tensor, list[Request]]:
    """Latents of `count` random motions over training photos, and what was asked for; computed once, then read.

    The cache lies beside the autoencoder and is named after its weights, so that another one's is never read.
    """
    requests = [sample_request(random.Random(f"request {index}")) for index in range(count)]
    digest = hashlib.sha256((vae / "model.safetensors").read_bytes()).hexdigest()
    path = vae.with_name(f"latents_{count}_{digest[:12]}.pt")
    if not path.exists():
        model, photos = FSAE.from_pretrained(vae, device=device), Photos(data, "train")
        times = [frame / (NUM_FRAMES - 1) for frame in range(NUM_FRAMES)]
        latents = []
        for index, request in enumerate(requests):
            rng = random.Random(f"crop {index}")
            clip = photos.clip(rng.randrange(len(photos.photos)), request.motion, times, FRAME_SIZE, rng)
            latents.append(model.encode(clip[None].to(device)).half().cpu())
        partial = path.with_suffix(".partial")
        torch.save(torch.cat(latents), partial)
        partial.replace(path)
    return torch.load(path, weights_only=True), requests


def batches(
    transformer: FSVideoDiT,
    latents: Tensor,
    requests: list[Request],
    text_encoder: ByteTextEncoder,
    size: int,
    first_step: int,
) -> Iterator[Batch]:
    """Batch i is a function of i alone: which clips, and how each request is worded."""
    device = text_encoder.token_embedding.weight.device
    step = first_step
    while True:
        rng = random.Random(f"batch {step}")
        chosen = [rng.randrange(len(requests)) for _ in range(size)]
        text, mask = padded_text(text_encoder, [requests[index].prompt(rng) for index in chosen])
        clips = latents[chosen].float().to(device)
        # The encoder is causal: the first latent frame is that of the photo alone.
        condition = transformer.first_frame_condition(clips[:, :, :1], clips.shape[2])
        yield Batch(latents=clips, condition=condition, text=text, text_mask=mask)
        step += 1


@torch.no_grad()
def padded_text(text_encoder: ByteTextEncoder, prompts: list[str]) -> tuple[Tensor, Tensor]:
    """Tokens and mask at one length for every batch, so that a compiled step sees one shape."""
    features = text_encoder.encode(prompts)
    missing = PROMPT_BYTES - features.mask.shape[1]
    assert missing >= 0, max(prompts, key=len)
    return functional.pad(features.tokens, (0, 0, 0, missing)), functional.pad(features.mask, (0, missing))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with photos/ and clips/")
    parser.add_argument("output", type=Path, help="folder with vae/; gets checkpoints, logs and the pipeline's folder")
    parser.add_argument("--no-layer-memory", action="store_true", help="the same transformer without layer memory")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--toy", action="store_true", help="two eager steps a phase on two clips: does it run at all?")
    arguments = parser.parse_args()
    output, device, toy = arguments.output, arguments.device, arguments.toy
    name = "plain" if arguments.no_layer_memory else "memory"

    torch.set_flush_denormal(True)
    text_encoder = taught_text_encoder(output / "text_encoder", 2 if toy else TEXT_STEPS).to(device)
    latents, requests = cache_latents(output / "vae", arguments.data, 2 if toy else NUM_CLIPS, device)
    transformer = build(layer_memory=not arguments.no_layer_memory).to(device)
    null, null_mask = padded_text(text_encoder, [""])
    first_batch = 0
    for seed, planned in enumerate(PHASES):
        phase = replace(planned, steps=2, warmup_steps=1) if toy else planned
        config = trainer_config(phase, seed, compiled=not toy)
        trainer = Trainer(config, transformer, null_text=NullText(text=null[0], mask=null_mask[0]))
        checkpoint = output / f"{phase.name}_{name}.pt"
        if checkpoint.exists():
            trainer.resume(checkpoint)
        size = 2 if toy else BATCH_SIZE
        first_step = first_batch + trainer.step
        train(trainer, batches(transformer, latents, requests, text_encoder, size, first_step), checkpoint)
        first_batch += phase.steps
    with trainer.ema.applied():
        transformer.lower_precision(torch.float16)
        pipe = FSVideoPipeline(
            autoencoder=FSAE.from_pretrained(output / "vae", dtype=torch.float16, device=device),
            transformer=transformer,
            text_encoder=text_encoder.half(),
            sampling=EMBEDDED_SAMPLING,
        )
        folder = output / f"pipeline_{name}"
        shutil.rmtree(folder, ignore_errors=True)  # what an earlier run of this script left
        pipe.save_pretrained(folder)


def trainer_config(phase: Phase, seed: int, *, compiled: bool) -> TrainerConfig:
    return TrainerConfig(
        num_steps=phase.steps,
        warmup_steps=phase.warmup_steps,
        learning_rate=phase.learning_rate,
        ema_decay=phase.ema_decay,
        muon=True,
        sigma_shift=phase.sigma_shift,
        sigma_std=phase.sigma_std,
        compile=compiled,
        seed=seed,
    )


def train(trainer: Trainer, data: Iterator[Batch], checkpoint: Path) -> None:
    """Run a phase to its end, with a checkpoint every hundred steps and a log beside it."""
    log = checkpoint.with_suffix(".jsonl")

    def on_step(report: StepReport) -> None:
        if report.step % 25 == 0:
            with log.open("a") as file:
                file.write(json.dumps(asdict(report)) + "\n")
        if report.step % 100 == 0:
            trainer.save(checkpoint)

    trainer.run(data, on_step=on_step)
    trainer.save(checkpoint)


if __name__ == "__main__":
    main()
