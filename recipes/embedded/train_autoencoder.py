"""Train the embedded autoencoder on random camera motions over photos and on real clips. Resumes where it was killed.

In four stages: the encoder learns to see motion and content in short clips, then in whole ones; the decoder learns to
use what it sees; then both learn together.
"""

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from camera_motion import offsets, sample_motion, sources
from data import Clips, Photos
from einops import rearrange
from fastvid_vae import FSAE, FSAEConfig
from fastvid_vae.layers.stream import Stream
from fastvid_vae.training.losses import add_latent_noise, decoding_loss, offset_error
from fastvid_vae.training.trainer import Trainer, TrainingSettings
from initialise import initialise_decoder, initialise_encoder
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

EMBEDDED_FSAE = FSAEConfig(
    latent_channels=64,
    stage_kinds=("conv", "conv", "conv", "conv", "attention"),
    encoder_widths=(16, 32, 64, 128, 128),
    decoder_widths=(16, 32, 64, 128, 128),
    encoder_depths=(0, 1, 2, 1, 1),
    decoder_depths=(0, 0, 1, 1, 2),
    temporal_stages=(1, 2),
    head_width=32,
    affine_norm=True,
    decoder_mode="causal",
    injection=("deformable",) * 5,
    injection_head_width=16,
    noise_weight=0.0,
    latent_mean=(0.0,) * 64,
    latent_std=(1.0,) * 64,
)
LATENT_NOISE = 0.2
FRAME_SIZE = 128
SEEN_STAGE = 2
"""The encoder stage that is asked how fast the picture moves."""

Item = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of the training.

    Attributes:
        name: of its checkpoint and its log.
        steps, decay_steps: in all, and at its end with falling learning rates.
        batch_size: clips a step.
        num_frames, window: of a clip; the window is cut out of frames of 128 pixels.
        kernel_rate, other_rate: learning rates, see `TrainingSettings`.
        guidance_weight: of what the probes and the decoder's heads are told.
        part: what is trained. The encoder alone learns what the probes ask; the others the pixels' error as well.
        clip_share: how many clips are real ones, whose motion is not known.
    """

    name: str
    steps: int
    decay_steps: int
    batch_size: int
    num_frames: int
    window: int
    kernel_rate: float
    other_rate: float
    guidance_weight: float
    part: Literal["encoder", "decoder", "both"]
    clip_share: float


# The rates of every stage fall to zero: at a constant rate twice the error is left, and what comes next is built on
# noise. The encoder rests while a new decoder learns, whose first errors would cost it the pixel it has learned to see.
STAGES = (
    Stage(
        name="motion", steps=700, decay_steps=300, batch_size=8, num_frames=5, window=64,
        kernel_rate=0.01, other_rate=1e-3, guidance_weight=1.0, part="encoder", clip_share=0.0,
    ),
    Stage(
        name="long_motion", steps=900, decay_steps=600, batch_size=8, num_frames=17, window=64,
        kernel_rate=0.006, other_rate=1e-3, guidance_weight=1.0, part="encoder", clip_share=0.1,
    ),
    Stage(
        name="decoder", steps=1100, decay_steps=850, batch_size=1, num_frames=17, window=128,
        kernel_rate=0.005, other_rate=5e-4, guidance_weight=0.03, part="decoder", clip_share=0.25,
    ),
    Stage(
        name="both", steps=1200, decay_steps=1180, batch_size=1, num_frames=17, window=128,
        kernel_rate=0.001, other_rate=1e-4, guidance_weight=0.03, part="both", clip_share=0.25,
    ),
)  # fmt: skip


class Guided(nn.Module):
    """The autoencoder and two linear probes, which ask its encoder for the motion and the content of clips.

    How far everything moved is known of camera motions. Asked for it, the encoder finds it in a hundred steps; from the
    pixels' error alone it does not find it in thousands. The probes are thrown away.
    """

    def __init__(self) -> None:
        super().__init__()
        self.autoencoder = FSAE(EMBEDDED_FSAE)
        self.speed = nn.Conv3d(EMBEDDED_FSAE.encoder_widths[SEEN_STAGE], 2, 1)
        self.content = nn.Conv3d(EMBEDDED_FSAE.latent_channels, 3 * 4 * 4, 1)
        nn.init.zeros_(self.content.weight)

    def encoding_loss(self, latents: Tensor, features: Tensor, frames: Tensor, places: Tensor) -> Tensor:
        """What the latents and the encoder's features tell of a clip.

        In pixels, the error of the offset at every latent and of the movement from frame to frame before that; and the
        squared error of a latent's last frame at a quarter of its size.
        """
        place = self.autoencoder.decoder.place(latents).permute(0, 2, 3, 4, 1).unsqueeze(-2)
        speed = self.speed(features).permute(0, 2, 3, 4, 1).unsqueeze(-2)
        step = (places.shape[1] - 1) // (speed.shape[1] - 1)
        moved = torch.cat([places[:, :1] * 0, places[:, step::step] - places[:, :-step:step]], dim=1)
        last = functional.avg_pool3d(frames[:, :, :: EMBEDDED_FSAE.stride[0]], (1, 4, 4))
        unit = latents / latents.detach().std(dim=(0, 2, 3, 4), keepdim=True)
        content = rearrange(self.content(unit), "b (c dy dx) t h w -> b c t (h dy) (w dx)", dy=4, dx=4)
        return offset_error(place, places) + 4 * offset_error(speed / 8, moved) + 10 * (content - last).square().mean()

    def loss(self, stage: Stage, frames: Tensor, latent_noise: Tensor, places: Tensor) -> Tensor:
        """The loss of a stage; frames b 3 T H W, places b T H W 2: offsets in pixels, NaN where not known."""
        model, weight = self.autoencoder, stage.guidance_weight
        with torch.set_grad_enabled(stage.part != "decoder"):
            latents, features = model.encoder(frames, Stream())
        latents = add_latent_noise(latents, latent_noise)
        loss = latents.new_zeros(())
        if stage.part != "decoder":
            loss = weight * self.encoding_loss(latents, features[SEEN_STAGE], frames, places)
        if stage.part != "encoder":
            loss = loss + decoding_loss(model, latents, features, frames, places, weight)
        return loss


class MotionClips(Dataset[Item]):
    """Item i of a stage is a clip, its latent noise and its offsets: the same in every run."""

    def __init__(self, data: Path, stage: Stage) -> None:
        self.photos = Photos(data, "train")
        self.clips = Clips(data, "train", short_side=144)
        self.stage = stage

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, index: int) -> Item:
        rng, num_frames, window = random.Random(f"{self.stage.name} {index}"), self.stage.num_frames, self.stage.window
        if rng.random() < self.stage.clip_share:
            clip = self.clips.clip(num_frames, FRAME_SIZE, rng)
            places = torch.full((num_frames, FRAME_SIZE, FRAME_SIZE, 2), torch.nan)
        else:
            times = [frame / 16 for frame in range(num_frames)]
            photo, motion = rng.randrange(len(self.photos.photos)), sample_motion(rng)
            clip = self.photos.clip(photo, motion, times, FRAME_SIZE, rng)
            places = offsets(sources(motion, times, FRAME_SIZE, FRAME_SIZE))
        top, left = (rng.randrange(FRAME_SIZE - window + 1) for _ in range(2))
        rows, columns = slice(top, top + window), slice(left, left + window)
        time, space, _ = EMBEDDED_FSAE.stride
        cells = (EMBEDDED_FSAE.latent_channels, 1 + (num_frames - 1) // time, window // space, window // space)
        noise = LATENT_NOISE * torch.randn(cells, generator=torch.Generator().manual_seed(rng.getrandbits(63)))
        return clip[:, :, rows, columns], noise, places[:, rows, columns]


def train_stage(model: Guided, stage: Stage, data: Path, output: Path, device: str, *, compiled: bool) -> None:
    """Train `model` in place, from its weights or on from the stage's checkpoint."""
    model.autoencoder.decoder.place.requires_grad_(stage.part != "decoder")  # it belongs to what the encoder learned
    dataset = MotionClips(data, stage)
    settings = TrainingSettings(
        kernel_rate=stage.kernel_rate,
        other_rate=stage.other_rate,
        warmup_steps=min(20, stage.steps),
        decay_steps=stage.decay_steps,
        total_steps=stage.steps,
        save_every=100,
    )

    def loss(batch: Item) -> Tensor:
        return model.loss(stage, *batch)

    trainer = Trainer(
        model, torch.compile(loss) if compiled else loss, settings, checkpoint=output / f"{stage.name}.pt"
    )

    def batches(first_step: int) -> Iterator[Item]:
        order = range(first_step * stage.batch_size, stage.steps * stage.batch_size)
        for frames, noise, places in DataLoader(dataset, stage.batch_size, sampler=order, num_workers=1):
            pixels = frames.to(device, memory_format=torch.channels_last_3d)
            yield pixels, noise.to(device), places.to(device)

    trainer.run(batches, output / f"{stage.name}.jsonl")


@torch.inference_mode()
def latent_statistics(model: FSAE, dataset: MotionClips, num_clips: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every raw latent channel over training clips."""
    latents = torch.cat([model.encode(dataset[-1 - index][0][None]) for index in range(num_clips)])
    mean, std = latents.mean(dim=(0, 2, 3, 4)), latents.std(dim=(0, 2, 3, 4))
    return tuple(mean.tolist()), tuple(std.tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with photos/ and clips/")
    parser.add_argument("output", type=Path, help="folder for checkpoints, logs and the trained model")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--toy", action="store_true", help="two eager steps of every stage: does it run at all?")
    arguments = parser.parse_args()

    torch.set_flush_denormal(True)  # a third of the time goes into numbers below 1e-38 otherwise
    torch.manual_seed(0)
    model = Guided()
    first = MotionClips(arguments.data, STAGES[0])
    clips = torch.stack([first[-1 - index][0] for index in range(8)])
    initialise_encoder(model.autoencoder, clips)
    model = model.to(arguments.device, memory_format=torch.channels_last_3d)
    for planned in STAGES:
        stage = replace(planned, steps=2, decay_steps=1) if arguments.toy else planned
        # Compiling takes minutes, which only long stages earn back.
        compiled = stage.steps >= 1000
        if stage.part == "decoder":
            initialise_decoder(model.autoencoder, clips.to(arguments.device))
        train_stage(model, stage, arguments.data, arguments.output, arguments.device, compiled=compiled)
    autoencoder, count = model.autoencoder.cpu(), 2 if arguments.toy else 128
    mean, std = latent_statistics(autoencoder, MotionClips(arguments.data, STAGES[-1]), count)
    autoencoder.config = replace(EMBEDDED_FSAE, latent_mean=mean, latent_std=std)
    autoencoder.save_pretrained(arguments.output / "vae")


if __name__ == "__main__":
    main()
