"""Train a tiny Reducio-DiT on cached latents of the small Reducio-VAE: content frame and sentence -> latents of a clip.

Reads the folder `vae` that train_autoencoder.py left in the output folder. First a small autoencoder of pictures learns
to look at content frames (picture_autoencoder.py), then the transformer learns together with the text encoder. Leaves
the folders `transformer` and `text_encoder`, picture.safetensors, checkpoints and logs; goes on there after a kill.
"""

import argparse
import hashlib
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from fastvid_dit import ReducioDiT, ReducioDiTConfig
from fastvid_dit.reducio_dit.config import ContentFrameConfig
from fastvid_dit.training.noise_prediction import NUM_STEPS, NoiseBatch, draw_kept, noise_loss
from fastvid_pipelines.encoders.byte import ByteTextEncoder, ByteTextEncoderConfig, tokenize
from fastvid_vae import ReducioVAE
from fastvid_vae.training.trainer import Trainer, TrainingSettings
from picture_autoencoder import FEATURE_WIDTH, GRID, LATENT_CHANNELS, PictureAutoencoder, look
from reducio_clips import FRAME_SIDE, NUM_FRAMES, TIMES, Motion, Photos, Request, overlap, sample_request
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

TINY_REDUCIO_DIT = ReducioDiTConfig(
    patch_size=(1, 1, 1),
    latent_channels=16,
    learn_sigma=False,
    width=192,
    num_heads=6,
    num_blocks=6,
    ffn_width=768,
    frequency_width=256,
    text_width=128,
    content_frame=ContentFrameConfig(
        semantic_width=FEATURE_WIDTH,
        semantic_grid=(GRID, GRID),
        content_channels=LATENT_CHANNELS,
        content_patch=2,
        fusion="add",
        num_grids=1,
    ),
    size_embedding=True,
    temporal_blocks=False,
    position_span=4.0,
    learn_time_scale=False,
    norm_eps=1e-6,
)
SMALL_TEXT = ByteTextEncoderConfig(width=TINY_REDUCIO_DIT.text_width, num_layers=2, num_heads=4, max_bytes=128)
PROMPT_BYTES = 80
BATCH_SIZE, PICTURE_BATCH_SIZE = 16, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """What the transformer learns from, one row a clip."""

    latents: Tensor
    semantic: Tensor
    content: Tensor
    requests: list[Request]


class Denoiser(nn.Module):
    """Transformer and text encoder, which learn together; the paper's T5 is pretrained and rests."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = ReducioDiT(TINY_REDUCIO_DIT)
        self.text_encoder = ByteTextEncoder(SMALL_TEXT)

    def tokens(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Tokens and mask at one length for every batch."""
        ids, mask = tokenize(prompts, SMALL_TEXT.max_bytes)
        missing = PROMPT_BYTES - ids.shape[1]
        assert missing >= 0, max(prompts, key=len)
        device = self.text_encoder.token_embedding.weight.device
        ids, mask = (functional.pad(part, (0, missing)).to(device) for part in (ids, mask))
        return self.text_encoder(ids, mask), mask


def settings(steps: int, rate: float) -> TrainingSettings:
    """A rate that falls to zero over the last half."""
    return TrainingSettings(
        kernel_rate=rate,
        other_rate=rate,
        warmup_steps=min(50, steps),
        decay_steps=steps // 2,
        total_steps=steps,
        save_every=100,
    )


def trained_pictures(photos: Photos, output: Path, steps: int, seed: int) -> PictureAutoencoder:
    """The autoencoder of pictures that lies in the output folder; trained on photos if there is none yet."""
    torch.manual_seed(seed)
    model, file = PictureAutoencoder(), output / "picture.safetensors"

    def crops(first_step: int) -> Iterator[Tensor]:
        for step in range(first_step, steps):
            rng = random.Random(f"pictures {seed} {step}")
            yield torch.stack([still(photos, rng) for _ in range(PICTURE_BATCH_SIZE)])

    if not file.exists():
        trainer = Trainer(model, model.loss, settings(steps, 2e-3), checkpoint=output / "picture.pt")
        trainer.run(crops, output / "picture.jsonl")
        save_file(model.state_dict(), file)
    model.load_state_dict(load_file(file))
    return model.eval().requires_grad_(False)


def still(photos: Photos, rng: random.Random) -> Tensor:
    """(3, 128, 128): a random square of a random photo."""
    return photos.clip(rng.randrange(len(photos.photos)), Motion(), [0.0], FRAME_SIDE, rng)[:, 0]


@torch.inference_mode()
def cached(output: Path, photos: Photos, pictures: PictureAutoencoder, count: int, tile: int | None) -> Cache:
    """`count` camera motions over training photos through both autoencoders; computed once, then read.

    The file is named after all that it depends on.
    """
    requests = [sample_request(random.Random(f"request {index}")) for index in range(count)]
    weights = (output / "vae" / "model.safetensors").read_bytes() + (output / "picture.safetensors").read_bytes()
    path = output / f"cache_{count}_{tile}_{hashlib.sha256(weights).hexdigest()[:12]}.pt"
    if not path.exists():
        vae = ReducioVAE.from_pretrained(output / "vae").eval()
        rows: list[tuple[Tensor, ...]] = []
        for index, request in enumerate(requests):
            rng = random.Random(f"crop {index}")
            clip = photos.clip(rng.randrange(len(photos.photos)), request.motion, TIMES, FRAME_SIDE, rng)[None]
            with vae.tiled(spatial=tile, overlap=overlap(tile)):
                rows.append((vae.encode(clip), *look(pictures, clip[:, :, (NUM_FRAMES - 1) // 2])))
        parts = dict(zip(("latents", "semantic", "content"), map(torch.cat, zip(*rows, strict=True)), strict=True))
        partial = path.with_suffix(".partial")
        torch.save(parts, partial)
        partial.replace(path)
    return Cache(**torch.load(path, weights_only=True), requests=requests)


def batches(model: Denoiser, cache: Cache, seed: int, first_step: int, steps: int) -> Iterator[NoiseBatch]:
    """Batch i is a function of i and the text encoder's weights: clips, wordings, noise, and what is left out."""
    device = model.transformer.patch_embedding.weight.device
    for step in range(first_step, steps):
        rng = random.Random(f"transformer {seed} {step}")
        generator = torch.Generator().manual_seed(rng.getrandbits(63))
        chosen = [rng.randrange(len(cache.requests)) for _ in range(BATCH_SIZE)]
        text, mask = model.tokens([cache.requests[index].prompt(rng) for index in chosen])
        null_text, null_mask = model.tokens([""])
        latents = cache.latents[chosen].to(device)
        kept = draw_kept(BATCH_SIZE, generator)
        yield NoiseBatch(
            latents=latents,
            noise=torch.randn(latents.shape, generator=generator).to(device),
            timestep=torch.randint(NUM_STEPS, (BATCH_SIZE,), generator=generator).to(device),
            text=text,
            text_mask=mask,
            null_text=null_text[0],
            null_mask=null_mask[0],
            keep_text=kept[0].to(device),
            keep_frame=kept[1].to(device),
            semantic=cache.semantic[chosen].to(device),
            content=cache.content[chosen].to(device),
            size=torch.full((BATCH_SIZE, 2), float(FRAME_SIDE), device=device),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with photos/ and clips/")
    parser.add_argument("--output", type=Path, required=True, help="folder with vae/; gets what is trained")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--picture-steps", type=int, default=1000)
    parser.add_argument("--clips", type=int, default=2400, help="how many are cached")
    parser.add_argument(
        "--tile", type=int, help="encode in tiles of this side, such as that of the training; else whole"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options = parser.parse_args()
    output: Path = options.output

    torch.set_flush_denormal(True)
    photos = Photos(options.data, "train")
    pictures = trained_pictures(photos, output, options.picture_steps, options.seed)
    cache = cached(output, photos, pictures, options.clips, options.tile)
    torch.manual_seed(options.seed)
    model = Denoiser().to(options.device)

    def data(first_step: int) -> Iterator[NoiseBatch]:
        return batches(model, cache, options.seed, first_step, options.steps)

    def loss(batch: NoiseBatch) -> Tensor:
        return noise_loss(model.transformer, batch)

    trainer = Trainer(model, loss, settings(options.steps, 1e-3), checkpoint=output / "transformer.pt")
    trainer.run(data, output / "transformer.jsonl")
    model.cpu().transformer.save_pretrained(output / "transformer")
    shutil.rmtree(output / "text_encoder", ignore_errors=True)  # what an earlier run of this script left
    model.text_encoder.save_pretrained(output / "text_encoder")


if __name__ == "__main__":
    main()
