"""A Reducio-VAE that starts from Stable Diffusion's autoencoder (diffusers' `AutoencoderKL`).

The content encoder is that autoencoder's encoder. The 3-D networks inherit its levels, each kernel of stride one in the
tap of the current frame; a new model then treats every frame as a picture, as far as convolutions go. The paper starts
from scratch and says nothing of this, so which level inherits which is ours.

Source: diffusers, AutoencoderKL of four levels, such as stabilityai/sd-vae-ft-ema. Its weights have not been run
through this map yet.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from fastvid_vae.conversion.autoencoder_kl import Names, both, middle, resnet
from fastvid_vae.reducio.fusion import AttentionFusion
from fastvid_vae.reducio.model import ReducioVAE

Form = Literal["same", "centre tap", "first tap", "no depth"]
Entry = tuple[str, str, Form]

NUM_LEVELS, NUM_SD_LEVELS = 6, 4
# (level, block) of theirs for each block of ours; levels are counted from the pixels, in their decoder too.
ENCODER_BLOCKS = (
    ((0, 0), (0, 1)),
    ((1, 0), (1, 1)),
    ((1, 1), (1, 1)),  # as wide as the level before, so nothing here widens
    ((2, 0), (2, 1)),
    ((3, 0), (3, 1)),
    ((3, 0), (3, 1)),
)
ENCODER_DOWNSAMPLES = (0, 1, 1, 2, 2)
DECODER_LEVELS = (0, 1, 1, 2, 3, 3)
DECODER_BLOCKS = (0, 1, 2, 2)
DECODER_BLOCKS_OF_LEVEL_1 = (1, 2, 1, 2)  # block 0 narrows, which our level 2 has done
DECODER_UPSAMPLES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 3}


def start_from_sd_vae(model: ReducioVAE, state_dict: Mapping[str, Tensor]) -> None:
    """Give a model the weights of Stable Diffusion's autoencoder wherever it has a place for them, in place.

    What leads to and from the latents stays as it is, and so do fusions, but that fusing attention adds nothing yet.

    Args:
        model: on a real device; six levels with two blocks each, as wide as the inherited ones.
        state_dict: of diffusers' `AutoencoderKL`, four levels with two blocks each in the encoder.
    Raises:
        ValueError: the model has other levels, or a tensor is missing or of another shape.
    """
    levels, content = len(model.config.widths), len(model.config.content_widths)
    if (levels, content, model.config.num_blocks) != (NUM_LEVELS, NUM_SD_LEVELS, 2):
        raise ValueError(
            f"`model` has {levels} levels, {content} content levels and {model.config.num_blocks} blocks a level; "
            f"only {NUM_LEVELS}, {NUM_SD_LEVELS} and 2 inherit from Stable Diffusion's autoencoder"
        )
    entries = [*_content_encoder(), *_video_encoder(model), *_decoder()]
    own = model.state_dict()
    # A shortcut convolution is there on both sides or on neither; where widths differ, the shapes tell.
    entries = [entry for entry in entries if ".nin_shortcut." not in entry[0] or entry[0] in own]
    missing = sorted({theirs for _, theirs, _ in entries if theirs not in state_dict})
    if missing:
        raise ValueError(f"`state_dict` is none of diffusers' AutoencoderKL: missing {missing[:10]}")
    inherited = {ours: _formed(state_dict[theirs], form) for ours, theirs, form in entries}
    wrong = [
        f"{name} {tuple(tensor.shape)}, expected {tuple(own[name].shape)}"
        for name, tensor in inherited.items()
        if tensor.shape != own[name].shape
    ]
    if wrong:
        raise ValueError(f"`state_dict`: misshapen tensors {wrong[:10]}")
    model.load_state_dict(own | inherited)
    for fusion in (module for module in model.modules() if isinstance(module, AttentionFusion)):
        for parameter in fusion.attn.to_out.parameters():
            nn.init.zeros_(parameter)


def _content_encoder() -> Iterator[Entry]:
    yield from _with("same", both("encoder_2d.conv_in", "encoder.conv_in"))
    for level in range(NUM_SD_LEVELS):
        for block in range(2):
            yield from _with("same", resnet(f"encoder_2d.down.{level}.block.{block}", _down(level, block)))
        if level < NUM_SD_LEVELS - 1:
            theirs = f"encoder.down_blocks.{level}.downsamplers.0.conv"
            yield from _with("same", both(f"encoder_2d.down.{level}.downsample.conv", theirs))
    yield from _with("same", middle("encoder_2d", "encoder"))
    yield from _with("same", both("encoder_2d.norm_out", "encoder.conv_norm_out"))


def _video_encoder(model: ReducioVAE) -> Iterator[Entry]:
    yield from _with("centre tap", both("encoder_3d.conv_in", "encoder.conv_in"))
    for level, blocks in enumerate(ENCODER_BLOCKS):
        for block, source in enumerate(blocks):
            yield from _with("centre tap", resnet(f"encoder_3d.down.{level}.block.{block}", _down(*source)))
    for level, source_level in enumerate(ENCODER_DOWNSAMPLES):
        form: Form = "first tap" if model.config.halves_time(level) else "no depth"
        theirs = f"encoder.down_blocks.{source_level}.downsamplers.0.conv"
        yield from _with(form, both(f"encoder_3d.down.{level}.downsample.conv", theirs))
    yield from _with("centre tap", middle("encoder_3d", "encoder"))
    yield from _with("same", both("encoder_3d.norm_out", "encoder.conv_norm_out"))


def _decoder() -> Iterator[Entry]:
    yield from _with("centre tap", middle("decoder", "decoder"))
    for level, source_level in enumerate(DECODER_LEVELS):
        blocks = DECODER_BLOCKS_OF_LEVEL_1 if level == 1 else DECODER_BLOCKS
        for i, block in enumerate(blocks):
            theirs = f"decoder.up_blocks.{NUM_SD_LEVELS - 1 - source_level}.resnets.{block}"
            yield from _with("centre tap", resnet(f"decoder.up.{level}.block_{1 + i // 2}.{i % 2}", theirs))
    for level, source_level in DECODER_UPSAMPLES.items():
        theirs = f"decoder.up_blocks.{NUM_SD_LEVELS - 1 - source_level}.upsamplers.0.conv"
        yield from _with("centre tap", both(f"decoder.up.{level}.upsample.conv", theirs))
    yield from _with("same", both("decoder.norm_out", "decoder.conv_norm_out"))
    yield from _with("centre tap", both("decoder.conv_out", "decoder.conv_out"))


def _down(level: int, block: int) -> str:
    return f"encoder.down_blocks.{level}.resnets.{block}"


def _with(form: Form, names: Iterator[Names]) -> Iterator[Entry]:
    return ((ours, theirs, form) for ours, theirs in names)


def _formed(tensor: Tensor, form: Form) -> Tensor:
    """A 2-D kernel, or the matrix of an attention's projection, as the kernel that stands for it."""
    if tensor.dim() == 1:
        return tensor
    kernel = tensor[:, :, None, None] if tensor.dim() == 2 else tensor
    if form == "same":
        return kernel
    if form == "no depth" or kernel.shape[2:] == (1, 1):
        return kernel.unsqueeze(2)
    zero = torch.zeros_like(kernel)
    return torch.stack([zero, kernel, zero] if form == "centre tap" else [kernel, zero, zero], dim=2)
