"""Train a small image autoencoder, diffusers' AutoencoderKL, on the first frames of the clips of `odvae_clips`.

Leaves state.pt, log.jsonl and the model's folder `image_vae` in the output folder, and goes on there after a kill.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from fastvid_vae import ODVAEConfig
from fastvid_vae.training.trainer import Trainer, TrainingSettings
from odvae_clips import TrainingClips, pictures
from odvae_config import FIRST_LOGVAR, SMALL_ODVAE, TOY_ODVAE
from torch import Tensor

KL_WEIGHT = 1e-6


def image_autoencoder(config: ODVAEConfig) -> AutoencoderKL:
    """With the levels, blocks and channels of an OD-VAE, which can then inherit all of its weights."""
    levels = len(config.widths)
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.widths,
        layers_per_block=config.num_blocks,
        norm_num_groups=config.norm_groups,
        latent_channels=config.latent_channels,
        scaling_factor=config.scaling_factor,
    )
    with torch.no_grad():
        model.quant_conv.bias[config.latent_channels :] = FIRST_LOGVAR
    return model


def loss_of(model: AutoencoderKL, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The absolute error, summed over a picture, and the divergence of its posterior."""
    frames, noise = batch
    posterior = model.encode(frames).latent_dist
    decoded = model.decode(posterior.mean + posterior.std * noise).sample
    error: Tensor = (decoded - frames).abs().flatten(1).sum(1).mean()
    return error + KL_WEIGHT * posterior.kl().mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with photos/ and clips/")
    parser.add_argument("--output", type=Path, required=True, help="folder for checkpoint, log and the trained model")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=64, help="of the windows to train on, in pixels")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--toy", action="store_true", help="a tiny model: does it run at all?")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    config = TOY_ODVAE if options.toy else SMALL_ODVAE
    model = image_autoencoder(config).to(options.device)
    cells = options.side // config.stride[1]
    clips = TrainingClips(options.data, options.side, (config.latent_channels, cells, cells), options.seed, 2)

    def data(first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        for frames, noise in pictures(clips, options.batch_size, first_step):
            yield frames.to(options.device), noise.to(options.device)

    settings = TrainingSettings(
        kernel_rate=0.01,
        other_rate=2e-3,
        warmup_steps=min(50, options.steps),
        decay_steps=options.steps // 2,
        total_steps=options.steps,
        save_every=200,
    )
    checkpoint = options.output / "state.pt"
    Trainer(model, lambda batch: loss_of(model, batch), settings, checkpoint=checkpoint).run(
        data, options.output / "log.jsonl"
    )
    model.cpu().save_pretrained(options.output / "image_vae")


if __name__ == "__main__":
    main()
