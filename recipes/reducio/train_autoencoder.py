"""Train a small Reducio-VAE at 4 x 32 x 32 on camera motions over photos and on real clips.

Leaves state.pt, log.jsonl and the model's folder `vae` in the output folder, and goes on there after a kill.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from fastvid_vae import ReducioConfig, ReducioVAE
from fastvid_vae.reducio.config import Fusion
from fastvid_vae.training.patchgan import PatchGAN, hinge_discriminator_loss
from fastvid_vae.training.reducio_loss import LossWeights, reducio_loss
from fastvid_vae.training.trainer import Trainer, TrainingSettings
from learn_to_look import learn_to_look
from reducio_clips import FRAME_SIDE, LATENT_SIDE, NUM_FRAMES, Item, TrainingClips, batches
from torch import Tensor, nn

# Half of the operations are those of the first level, whose 16 channels are what a CPU's convolutions take at once.
SMALL_REDUCIO = ReducioConfig(
    latent_channels=16,
    num_frames=NUM_FRAMES,
    widths=(16, 16, 32, 64, 96, 96),
    content_widths=(16, 32, 64, 64),
    num_blocks=1,
    temporal_levels=2,
    fusion="attention",
    fused_levels=(2, 3),
    num_heads=4,
    fusion_head_width=16,
    norm_groups=8,
)
TOY_REDUCIO = replace(SMALL_REDUCIO, widths=(4, 4, 8, 8, 8, 8), content_widths=(4, 4, 8, 8), fusion_head_width=8,
                      num_heads=2, norm_groups=2)  # fmt: skip
FIRST_LOGVAR = -6.0
"""Of the posterior. At 0, where a new network begins, the latents would be noise for thousands of steps."""

DISCRIMINATOR_WIDTH = 16


class Contest(nn.Module):
    """The autoencoder, and the discriminator if there is one; both learn from one loss."""

    def __init__(self, config: ReducioConfig, weights: LossWeights | None) -> None:
        super().__init__()
        self.autoencoder = ReducioVAE(config)
        bias = self.autoencoder.quant_conv.bias
        assert bias is not None
        with torch.no_grad():
            bias[config.latent_channels :] = FIRST_LOGVAR
        self.discriminator = None if weights is None else PatchGAN(DISCRIMINATOR_WIDTH)
        self.weights = weights

    def loss(self, batch: Item, step: int) -> Tensor:
        """The autoencoder's, which does not move the discriminator, plus the discriminator's, which moves it alone."""
        frames, noise = batch
        if self.discriminator is None or self.weights is None:
            return reducio_loss(self.autoencoder, frames, noise).total
        resting = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        judge = partial(torch.func.functional_call, self.discriminator, resting)
        terms = reducio_loss(self.autoencoder, frames, noise, step=step, discriminator=judge, weights=self.weights)
        if step < self.weights.adversarial_start:
            return terms.total
        logits = self.discriminator(frames), self.discriminator(terms.decoded.detach())
        return terms.total + hinge_discriminator_loss(*logits)


def settings(steps: int) -> TrainingSettings:
    """Rates that fall to zero over the last half."""
    return TrainingSettings(
        kernel_rate=0.004,
        other_rate=1.5e-3,
        warmup_steps=min(50, steps),
        decay_steps=steps // 2,
        total_steps=steps,
        save_every=100,
    )


def noise_shape(config: ReducioConfig, side: int) -> tuple[int, ...]:
    """Of the latents of one clip."""
    time, space, _ = config.stride
    return config.latent_channels, NUM_FRAMES // time, side // space, side // space


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with photos/ and clips/")
    parser.add_argument("--output", type=Path, required=True, help="folder for checkpoint, log and the trained model")
    parser.add_argument("--fusion", default="attention", choices=get_args(Fusion))
    parser.add_argument("--latent-channels", type=int, default=SMALL_REDUCIO.latent_channels, help="|z|")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--look-steps", type=int, help="of attention, before those; as many if not given, 0 for none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--side", type=int, default=LATENT_SIDE, help="of the windows to train on, in pixels; a multiple of 32"
    )
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument(
        "--adversarial-start", type=int, help="first step of the discriminator; without it there is none"
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--toy", action="store_true", help="a tiny model: does it run at all?")
    options = parser.parse_args()
    if options.side % LATENT_SIDE or not LATENT_SIDE <= options.side <= FRAME_SIDE:
        parser.error(f"--side is {options.side}; it must be a multiple of 32 and at most {FRAME_SIDE}")
    look_steps = options.steps if options.look_steps is None else options.look_steps
    if look_steps < 0:
        parser.error(f"--look-steps is {look_steps}; it must be at least 0")
    if options.look_steps and options.fusion != "attention":
        parser.error(f"--look-steps is {look_steps}; only attention learns to look, and --fusion is {options.fusion}")

    torch.set_flush_denormal(True)  # a third of the time goes into numbers below 1e-38 otherwise
    torch.manual_seed(options.seed)
    config = TOY_REDUCIO if options.toy else SMALL_REDUCIO
    config = replace(config, fusion=options.fusion, latent_channels=options.latent_channels)
    start = options.adversarial_start
    weights = None if start is None else LossWeights(adversarial_start=start)
    contest = Contest(config, weights).to(options.device)
    for module in contest.modules():
        if isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)
    state = options.output / "state.pt"
    if options.fusion == "attention" and look_steps and not state.exists():
        learn_to_look(
            contest.autoencoder,
            options.data,
            options.side,
            settings=settings(look_steps),
            seed=options.seed,
            output=options.output,
        )
    clips = TrainingClips(options.data, options.side, noise_shape(config, options.side), options.seed)

    def loss(batch: Item) -> Tensor:
        return contest.loss(batch, trainer.step)

    def data(first_step: int) -> Iterator[Item]:
        return batches(clips, options.batch_size, first_step, options.device)

    trainer = Trainer(contest, loss, settings(options.steps), checkpoint=state)
    trainer.run(data, options.output / "log.jsonl")
    contest.autoencoder.cpu().save_pretrained(options.output / "vae")


if __name__ == "__main__":
    main()
