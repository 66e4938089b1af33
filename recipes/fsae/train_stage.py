"""Train one stage of FSVideo's autoencoder on a folder of clips, from the weights of the stage before it.

LPIPS and the vision model of the alignment loss are pretrained networks that this project does not bring: LPIPS is left
out unless `--lpips` finds it, and the stage that aligns needs the folder of a DINOv2 model.
"""

import argparse
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from fastvid_vae import FSAE, FSAE_STANDARD, FSAEConfig
from fastvid_vae.conversion.decoder_mode import causal_to_centred
from fastvid_vae.fsae.encoder import SILENT
from fastvid_vae.layers.noise import Noise
from fastvid_vae.layers.stream import Stream
from fastvid_vae.training.adversarial import (
    MultiscaleDiscriminator,
    discriminator_loss,
    generator_loss,
    r1_penalty,
)
from fastvid_vae.training.alignment import VideoVFLoss
from fastvid_vae.training.patches import CUT, Window, decode_patch
from fastvid_vae.video_io import read_frames
from stages import STAGES, Stage, model_config, toy
from torch import Tensor, nn
from torch.nn import functional

PENALTY_EVERY = 16
FIRST_FRAME_DROPOUT = 0.1
FEATURE_SIDE = 224
TOY_DISCRIMINATOR = {"width": 4, "num_layers": 2, "num_scales": 2}  # the real one needs sides of 64

Distance = Callable[[Tensor, Tensor], Tensor]
Features = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judges:
    """What is asked beside the pixels: pretrained networks, and those that learn along.

    Attributes:
        lpips: distance of two clips; None leaves it out.
        features: frames (b 3 T H W) to features (b f T h w); None: no stage may align.
    """

    lpips: Distance | None
    features: Features | None
    discriminator: MultiscaleDiscriminator
    alignment: VideoVFLoss


class StageTrainer:
    """One stage: the autoencoder against its judges; state is a function of the step, so a killed run goes on."""

    def __init__(self, model: FSAE, stage: Stage, judges: Judges, checkpoint: Path) -> None:
        if stage.alignment and judges.features is None:
            raise ValueError(f"stage {stage.name!r} aligns latents; give the folder of a vision model (`--dino`)")
        self.model, self.stage, self.judges, self.checkpoint, self.step = model, stage, judges, checkpoint, 0
        model.encoder.requires_grad_(stage.train == "all")
        learners = [p for p in (*model.parameters(), *judges.alignment.parameters()) if p.requires_grad]
        self.optimizers = [
            torch.optim.AdamW(parameters, lr=stage.learning_rate, betas=(0.9, 0.95))
            for parameters in (learners, [*judges.discriminator.parameters()])
        ]
        self.parts = nn.ModuleList([model, judges.discriminator, judges.alignment])
        if checkpoint.exists():
            state = torch.load(checkpoint, weights_only=True, map_location="cpu")
            self.parts.load_state_dict(state["parts"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.step = state["step"]

    def run(self, clips: Callable[[int], Iterator[Tensor]], *, save_every: int = 1000) -> None:
        """Train to the stage's last step; `clips(first_step)` yields one batch (b 3 T H W) a step."""
        for frames in islice(clips(self.step), self.stage.steps - self.step):
            self.update(frames)
            if self.step % save_every == 0 or self.step == self.stage.steps:
                self.save()

    def update(self, frames: Tensor) -> Tensor:
        """One step of the autoencoder, and one of the discriminator where the stage has one."""
        loss, decoded, real = self.loss(frames)
        if not loss.isfinite():
            raise FloatingPointError(f"the loss of step {self.step} of {self.stage.name!r} is {loss.item()}")
        self._descend(0, loss)
        if self.stage.gan:
            discriminator = self.judges.discriminator
            against = discriminator_loss(discriminator(real), discriminator(decoded.detach()))
            if self.step % PENALTY_EVERY == 0:
                against = against + r1_penalty(discriminator, real, gamma=float(PENALTY_EVERY))
            self._descend(1, against)
        self.step += 1
        return loss.detach()

    def loss(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The autoencoder's loss, and the frames that were compared: all of them, or a patch."""
        stage, judges = self.stage, self.judges
        rng = random.Random(f"{stage.name} {self.step}")
        with torch.set_grad_enabled(stage.train == "all"):
            latents, features = self.model.encoder(frames, Stream())
        shown = stage.first_frame and rng.random() >= FIRST_FRAME_DROPOUT
        if stage.patch is None or frames.shape[2] == 1:
            first = [feature[:, :, :1] for feature in features] if shown else None
            decoded, real = self.model.decoder(latents, first, Stream(), self._noise(rng)), frames
        else:
            window = patch_window(frames.shape[3], frames.shape[4], stage.patch, rng)
            decoded, region = decode_patch(self.model, latents, frames[:, :, 0] if shown else None, window)
            real = region.of(frames)
        loss: Tensor = (decoded - real).abs().mean()
        if stage.lpips and judges.lpips is not None:
            # Frame by frame, or its activations would be as large as the decoder's.
            pairs = zip(decoded.unbind(2), real.unbind(2), strict=True)
            loss = loss + stage.lpips * torch.stack([judges.lpips(a, b) for a, b in pairs]).mean()
        if stage.gan:
            loss = loss + stage.gan * generator_loss(judges.discriminator(decoded))
        if stage.alignment:
            assert judges.features is not None  # or the stage was refused
            with torch.no_grad():
                seen = judges.features(frames)
            loss = loss + stage.alignment * judges.alignment(latents, seen)
        return loss, decoded, real

    def save(self) -> None:
        """Under a temporary name first, so that a checkpoint is never half-written."""
        state = {
            "parts": self.parts.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
        }
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.checkpoint)

    def _noise(self, rng: random.Random) -> Noise:
        if not self.stage.noise:
            return SILENT
        generator = torch.Generator().manual_seed(rng.getrandbits(63))
        return Noise("spatial", self.model.config.noise_weight, generator)

    def _descend(self, index: int, loss: Tensor) -> None:
        loss.backward()
        self.optimizers[index].step()
        for optimizer in self.optimizers:  # the autoencoder's loss has left gradients in the discriminator
            optimizer.zero_grad(set_to_none=True)


def patch_window(height: int, width: int, share: float, rng: random.Random) -> Window:
    """A random rectangle of so much of each side, in cells of 8 pixels."""
    cells = height >> (CUT + 1), width >> (CUT + 1)
    sides = [max(1, round(share * length)) for length in cells]
    top, left = (rng.randrange(length - side + 1) for length, side in zip(cells, sides, strict=True))
    return Window(top=top, left=left, height=sides[0], width=sides[1])


def start(config: FSAEConfig, stage: Stage, before: Path | None) -> FSAE:
    """The model of a stage with the weights of the stage before it; what is new there starts as nothing."""
    model = FSAE(model_config(config, stage))
    if before is None:
        return model
    previous = FSAE.from_pretrained(before)
    weights = previous.state_dict()
    if previous.config.decoder_mode == "causal" and stage.decoder_mode != "causal":
        weights = causal_to_centred(weights)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if unexpected or any("injections" not in name for name in missing):
        raise ValueError(f"{before} does not fit stage {stage.name!r}: missing {missing}, unexpected {unexpected}")
    return model


def clips_of(folder: Path, stage: Stage, first_step: int) -> Iterator[Tensor]:
    """A random clip a step, its sizes in turn: scaled to the side, the middle square, the last frame repeated."""
    files = sorted(folder.glob("*.mp4"))
    if not files:
        raise ValueError(f"`clips` is {str(folder)!r}, which holds no .mp4")
    for step in range(first_step, stage.steps):
        num_frames, side = stage.clips[step % len(stage.clips)]
        file = random.Random(f"{stage.name} clip {step}").choice(files)
        frames = torch.stack([torch.as_tensor(picture) for picture in islice(read_frames(file), num_frames)])
        video = frames.permute(0, 3, 1, 2).float() / 127.5 - 1
        scale = side / min(video.shape[2:])
        size = [max(side, round(length * scale)) for length in video.shape[2:]]
        video = functional.interpolate(video, size, mode="bilinear", antialias=True)
        top, left = ((length - side) // 2 for length in video.shape[2:])
        video = video[:, :, top : top + side, left : left + side]
        last = video[-1:].expand(num_frames - len(video), -1, -1, -1)
        yield torch.cat([video, last]).transpose(0, 1)[None]


def dino_features(folder: Path) -> Features:
    """Patch tokens of a DINOv2 model after its last norm, from frames of 224 pixels: 16 x 16 of them."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, local_files_only=True).eval().requires_grad_(False)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])

    def features(frames: Tensor) -> Tensor:
        pictures = frames.transpose(1, 2).flatten(0, 1)
        small = functional.interpolate(pictures, (FEATURE_SIDE, FEATURE_SIDE), mode="bicubic", antialias=True)
        tokens = model(((small + 1) / 2 - mean.view(3, 1, 1)) / std.view(3, 1, 1)).last_hidden_state[:, 1:]
        side = int(tokens.shape[1] ** 0.5)
        return tokens.mT.reshape(len(frames), frames.shape[2], -1, side, side).transpose(1, 2)

    return features


def lpips_distance() -> Distance:
    from torchmetrics.functional.image.lpips import learned_perceptual_image_patch_similarity

    return lambda a, b: learned_perceptual_image_patch_similarity(a.clamp(-1, 1), b, net_type="vgg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path, help="folder of .mp4 files")
    parser.add_argument("output", type=Path, help="folder for the checkpoint and the trained model")
    parser.add_argument("--stage", required=True, choices=[stage.name for stage in STAGES])
    parser.add_argument("--before", type=Path, help="model of the stage before")
    parser.add_argument("--config", type=Path, help="folder of a model whose architecture is trained; FSAE_STANDARD")
    parser.add_argument("--lpips", action="store_true", help="use torchmetrics' LPIPS, which downloads its weights")
    parser.add_argument("--dino", type=Path, help="folder of a DINOv2 model")
    parser.add_argument("--feature-channels", type=int, default=1024, help="of that model")
    parser.add_argument("--toy", type=int, metavar="SIDE", help="two steps on 5 frames of this side")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    config = FSAE_STANDARD if arguments.config is None else FSAE.from_pretrained(arguments.config).config
    stage = next(stage for stage in STAGES if stage.name == arguments.stage)
    if arguments.toy:
        stage = toy(stage, arguments.toy)
    if stage.lpips and not arguments.lpips:
        print(f"stage {stage.name!r} trains without LPIPS, which the paper weighs {stage.lpips}")
        stage = replace(stage, lpips=0.0)
    judges = Judges(
        lpips=lpips_distance() if arguments.lpips else None,
        features=None if arguments.dino is None else dino_features(arguments.dino),
        discriminator=MultiscaleDiscriminator(**TOY_DISCRIMINATOR if arguments.toy else {}),
        alignment=VideoVFLoss(config.latent_channels, arguments.feature_channels),
    )
    model = start(config, stage, arguments.before)
    trainer = StageTrainer(model, stage, judges, arguments.output / f"{stage.name}.pt")
    trainer.run(lambda first_step: clips_of(arguments.clips, stage, first_step))
    model.save_pretrained(arguments.output / stage.name)


if __name__ == "__main__":
    main()
