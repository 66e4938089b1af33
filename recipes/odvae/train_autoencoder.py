"""Train a small OD-VAE at 4 x 8 x 8 on camera motions over photos and on real clips, from an image autoencoder.

Leaves state.pt, log.jsonl, curve.json (PSNR on validation clips by step, with the last weights and with their moving
average) and the averaged model's folder `vae` in the output folder, and goes on there after a kill.
"""

import argparse
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from diffusers import AutoencoderKL
from fastvid_vae import ODVAE, ODVAEConfig, psnr
from fastvid_vae.conversion.inflation import Initialisation, inflate
from fastvid_vae.training.averaging import WeightAverage
from fastvid_vae.training.odvae_loss import ODVAELossWeights, VolumeDiscriminator, odvae_loss
from fastvid_vae.training.patchgan import hinge_discriminator_loss
from fastvid_vae.training.reducio_loss import Distance
from fastvid_vae.training.trainer import Trainer, TrainingSettings
from odvae_clips import NUM_FRAMES, TrainingClips, batches, validation_clips
from odvae_config import SMALL_ODVAE, TOY_ODVAE
from torch import Tensor, nn

DISCRIMINATOR_WIDTH = 16


class Contest(nn.Module):
    """The autoencoder, the average of its weights, and the discriminator if there is one: all that resumes."""

    def __init__(
        self, autoencoder: ODVAE, decay: float, weights: ODVAELossWeights | None, perceptual: Distance | None = None
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.average = WeightAverage(autoencoder, decay)
        self.discriminator = None if weights is None else VolumeDiscriminator(DISCRIMINATOR_WIDTH)
        self.weights = weights
        self.perceptual = perceptual

    def loss(self, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
        """The autoencoder's, which does not move the discriminator, plus the discriminator's, which moves it alone."""
        frames, noise = batch
        if step:
            self.average.update(self.autoencoder)  # with what the step before made of it
        if self.discriminator is None or self.weights is None:
            return odvae_loss(self.autoencoder, frames, noise, perceptual=self.perceptual).total
        resting = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        judge = partial(torch.func.functional_call, self.discriminator, resting)
        terms = odvae_loss(
            self.autoencoder,
            frames,
            noise,
            step=step,
            perceptual=self.perceptual,
            discriminator=judge,
            weights=self.weights,
        )
        if step < self.weights.adversarial_start:
            return terms.total
        logits = self.discriminator(frames), self.discriminator(terms.decoded.detach())
        return terms.total + hinge_discriminator_loss(*logits)


class Curve:
    """PSNR on validation clips, in dB, by step; what a killed run left is kept."""

    def __init__(self, file: Path, clips: list[Tensor], every: int) -> None:
        self.file, self.clips, self.every = file, clips, every
        self.points: dict[str, dict[str, float]] = json.loads(file.read_text()) if file.exists() else {}

    def measure(self, contest: Contest, step: int) -> None:
        averaged = ODVAE(contest.autoencoder.config).to(next(contest.autoencoder.parameters()).device)
        averaged.load_state_dict(contest.average.weights())
        models = {"last": contest.autoencoder, "average": averaged}
        self.points[str(step)] = {name: mean_psnr(model, self.clips) for name, model in models.items()}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.points))


@torch.inference_mode()
def mean_psnr(model: ODVAE, clips: list[Tensor]) -> float:
    device = next(model.parameters()).device
    scores = []
    for clip in clips:
        frames = clip[None].to(device)
        scores.append(float(psnr(model.decode(model.encode(frames)).clamp(-1, 1), frames)))
    return sum(scores) / len(scores)


def initial(config: ODVAEConfig, image_vae: Path, initialisation: Initialisation, seed: int) -> ODVAE:
    generator = torch.Generator().manual_seed(seed) if initialisation == "random" else None
    weights = AutoencoderKL.from_pretrained(image_vae).state_dict()
    model = ODVAE(config)
    model.load_state_dict(inflate(weights, config, initialisation=initialisation, generator=generator))
    return model


def lpips_distance(device: str) -> Distance:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    network = LearnedPerceptualImagePatchSimilarity(net_type="vgg").net.to(device)
    return lambda decoded, frames: network(decoded, frames, normalize=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with photos/ and clips/")
    parser.add_argument("--image-vae", type=Path, required=True, help="folder that train_image_autoencoder.py leaves")
    parser.add_argument("--output", type=Path, required=True, help="folder for checkpoint, log and the trained model")
    parser.add_argument("--initialisation", default="tail", choices=get_args(Initialisation))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=64, help="of the windows to train on, in pixels; a multiple of 8")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--decay", type=float, default=0.99, help="of the weights' average; the paper's is 0.999")
    parser.add_argument("--validate-every", type=int, default=100, help="steps between two points of the curve")
    parser.add_argument("--validation-clips", type=int, default=8, help="how many clips make a point")
    parser.add_argument(
        "--adversarial-start", type=int, help="first step of the discriminator; without it there is none"
    )
    parser.add_argument("--lpips", action="store_true", help="use torchmetrics' LPIPS, which downloads its weights")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--toy", action="store_true", help="a tiny model: does it run at all?")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    config = TOY_ODVAE if options.toy else SMALL_ODVAE
    start = options.adversarial_start
    weights = None if start is None else ODVAELossWeights(adversarial_start=start)
    autoencoder = initial(config, options.image_vae, options.initialisation, options.seed)
    perceptual = lpips_distance(options.device) if options.lpips else None
    contest = Contest(autoencoder, options.decay, weights, perceptual).to(options.device)
    time, space, _ = config.stride
    cells = (1 + (NUM_FRAMES - 1) // time, options.side // space, options.side // space)
    clips = TrainingClips(
        options.data, options.side, (config.latent_channels, *cells), options.seed, num_frames=NUM_FRAMES
    )
    found = validation_clips(options.data, NUM_FRAMES)
    chosen = [clip for pair in zip(*found.values(), strict=False) for clip in pair][: options.validation_clips]
    curve = Curve(options.output / "curve.json", chosen, options.validate_every)

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        if trainer.step % curve.every == 0:
            curve.measure(contest, trainer.step)
        return contest.loss(batch, trainer.step)

    def data(first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        return batches(clips, options.batch_size, first_step, options.device)

    settings = TrainingSettings(
        kernel_rate=0.003,
        other_rate=1e-3,
        warmup_steps=min(20, options.steps),
        decay_steps=options.steps // 2,
        total_steps=options.steps,
        save_every=100,
    )
    trainer = Trainer(contest, loss, settings, checkpoint=options.output / "state.pt")
    trainer.run(data, options.output / "log.jsonl")
    contest.average.update(contest.autoencoder)
    curve.measure(contest, options.steps)
    contest.autoencoder.load_state_dict(contest.average.weights())
    contest.autoencoder.cpu().save_pretrained(options.output / "vae")


if __name__ == "__main__":
    main()
