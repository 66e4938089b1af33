"""Where an attention fusion begins: it learns at which place of the content frame to look.

Its queries and keys know nothing of places but what padding tells the layers before them. Beside latents, which explain
the colours first, it learned to mix the whole frame, and no more in 800 steps. Here there is nothing else to go by: the
clip stands still, its latents are zeros, and all that the decoder knows comes by the attention. One latent frame is
enough for that, and a quarter of the work.
"""

from dataclasses import replace
from pathlib import Path

import torch
from fastvid_vae import ReducioVAE
from fastvid_vae.training.reducio_loss import reconstruction_loss
from fastvid_vae.training.trainer import Trainer, TrainingSettings
from reducio_clips import Item, TrainingClips, batches
from torch import Tensor, nn

BATCH_SIZE = 16


def learn_to_look(
    model: ReducioVAE, data: Path, side: int, *, settings: TrainingSettings, seed: int, output: Path
) -> None:
    """Train all that a clip of one latent frame has in common with the model's, in place; goes on after a kill."""
    time, space, _ = model.config.stride
    short = ReducioVAE(replace(model.config, num_frames=time)).to(next(model.parameters()).device)
    for module in short.modules():
        if isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)
    short.load_state_dict(short.state_dict() | in_common(model, short))
    noise_shape = (model.config.latent_channels, 1, side // space, side // space)
    clips = TrainingClips(data, side, noise_shape, seed, num_frames=time)

    def loss(batch: Item) -> Tensor:
        frames, noise = batch
        content = short.content_frames(frames)
        with short.tiled(spatial=None):
            decoded = short.decode(torch.zeros_like(noise), reference=content)
        return reconstruction_loss(decoded, content.expand_as(frames))

    trainer = Trainer(short, loss, settings, checkpoint=output / "look.pt")
    device = str(next(model.parameters()).device)
    trainer.run(lambda step: batches(clips, BATCH_SIZE, step, device), output / "look.jsonl")
    model.load_state_dict(model.state_dict() | in_common(short, model))


def in_common(source: nn.Module, target: nn.Module) -> dict[str, Tensor]:
    """What both have in the same shape: all but tables over time."""
    shapes = {name: tensor.shape for name, tensor in target.state_dict().items()}
    return {name: tensor for name, tensor in source.state_dict().items() if tensor.shape == shapes[name]}
