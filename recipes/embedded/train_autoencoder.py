"""Train the embedded autoencoder: random camera motions over photos, and real clips. Resumes where it was killed."""

import argparse
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from camera_motion import sample_motion
from data import Clips, Photos
from fastvid_vae import FSAE, FSAEConfig
from fastvid_vae.training.losses import reconstruction_loss
from fastvid_vae.training.trainer import Trainer, TrainingSettings
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

EMBEDDED_FSAE = FSAEConfig(
    latent_channels=64,
    stage_kinds=("conv", "conv", "conv", "conv", "attention"),
    encoder_widths=(16, 32, 128, 128, 128),
    decoder_widths=(16, 32, 128, 128, 128),
    encoder_depths=(0, 0, 1, 0, 1),
    decoder_depths=(0, 1, 1, 1, 1),
    temporal_stages=(0, 1),
    head_width=32,
    affine_norm=True,
    decoder_mode="causal",
    injection=(None, None, "relative", "relative", "relative"),
    injection_head_width=32,
    noise_weight=0.0,
    latent_mean=(0.0,) * 64,
    latent_std=(1.0,) * 64,
)
LATENT_NOISE = 0.1
FRAME_SIZE = 128
CLIP_SHARE = 0.2


class MotionClips(Dataset[tuple[Tensor, Tensor]]):
    """Item i is a clip and its latent noise, drawn from a generator seeded with i: the same in every run."""

    def __init__(self, data: Path, *, num_frames: int, window: int) -> None:
        self.photos = Photos(data, "train")
        self.clips = Clips(data, "train", short_side=144)
        self.num_frames = num_frames
        self.window = window

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = random.Random(index)
        if rng.random() < CLIP_SHARE:
            clip = self.clips.clip(self.num_frames, self.window, rng)
        else:
            times = [frame / 16 for frame in range(self.num_frames)]
            photo = rng.randrange(len(self.photos.photos))
            clip = self.photos.clip(photo, sample_motion(rng), times, FRAME_SIZE, rng, self.window)
        time, space, _ = EMBEDDED_FSAE.stride
        side = self.window // space
        cells = (EMBEDDED_FSAE.latent_channels, 1 + (self.num_frames - 1) // time, side, side)
        return clip, LATENT_NOISE * torch.randn(cells, generator=torch.Generator().manual_seed(index))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with photos/ and clips/")
    parser.add_argument("output", type=Path, help="folder for the checkpoint, the log and the trained model")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--decay-steps", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--num-frames", type=int, default=9)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--eager", action="store_true", help="do not compile (for tests)")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    model = FSAE(EMBEDDED_FSAE).to(memory_format=torch.channels_last_3d)
    dataset = MotionClips(arguments.data, num_frames=arguments.num_frames, window=arguments.window)

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        return reconstruction_loss(model, *batch)

    settings = TrainingSettings(
        kernel_rate=0.02,
        other_rate=1e-3,
        warmup_steps=100,
        decay_steps=arguments.decay_steps,
        total_steps=arguments.steps,
        ema_decay=0.998,
        save_every=100,
    )
    trainer = Trainer(
        model,
        loss if arguments.eager else torch.compile(loss),
        settings,
        checkpoint=arguments.output / "training.pt",
    )

    def batches(first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        size = arguments.batch_size
        order = range(first_step * size, settings.total_steps * size)
        for frames, noise in DataLoader(dataset, size, sampler=order, num_workers=arguments.workers):
            yield frames.contiguous(memory_format=torch.channels_last_3d), noise

    trainer.run(batches, arguments.output / "log.jsonl")
    averaged = trainer.average.module
    mean, std = latent_statistics(averaged, dataset)
    averaged.config = replace(EMBEDDED_FSAE, latent_mean=mean, latent_std=std)
    averaged.save_pretrained(arguments.output / "vae")


@torch.inference_mode()
def latent_statistics(
    model: FSAE, dataset: MotionClips, num_clips: int = 256
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every raw latent channel over training clips."""
    latents = torch.cat([model.encode(dataset[-1 - index][0][None]) for index in range(num_clips)])
    mean, std = latents.mean(dim=(0, 2, 3, 4)), latents.std(dim=(0, 2, 3, 4))
    return tuple(mean.tolist()), tuple(std.tolist())


if __name__ == "__main__":
    main()
