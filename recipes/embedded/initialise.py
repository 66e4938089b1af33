"""Starting weights of the embedded autoencoder, which show motion and the first frame from the first step.

Neighbouring pixels and frames are nearly equal, so a randomly drawn convolution sees brightness and little else, and
what moves is lost in it: a model that starts so finds no motion in its first thousand steps. Here the first layer is
a bank of brightness, edge and change filters scaled to equal strength, and every later convolution gives unit variance
(layer-sequential unit variance, Mishkin and Matas 2016). The injection at the pixels starts as a copy of the first
frame, louder than what comes from the latents, so that the model starts as a still video and learns what to change.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from fastvid_vae import FSAE
from fastvid_vae.layers.deformable_attention import DeformableFirstFrameAttention
from fastvid_vae.layers.linear_attention import GLUConv, LinearAttention
from fastvid_vae.layers.noise import Noise
from fastvid_vae.layers.resnet import ResBlock
from fastvid_vae.layers.stream import Stream
from torch import Tensor, nn

LOUDNESS = 4.0
"""Of the first frame at the pixels, in units of all that comes from the latents."""
BASELINE = 6.0
"""Constant under the last stage's features, in the same units, so that their norm hardly changes with brightness."""


@torch.no_grad()
def initialise_encoder(model: FSAE, clips: Tensor) -> None:
    """Set the weights of a new encoder from a few clips (b, 3, T, H, W) in [-1, 1]."""
    first = model.encoder.conv_in
    assert first.bias is not None  # as every first convolution
    first.weight.copy_(filter_bank(first.out_channels))
    first.bias.zero_()
    first.weight.div_(_spread(first(clips, Stream())))
    with _unit_variance(model.encoder, but=[first]):
        model.encoder(clips, Stream())


@torch.no_grad()
def initialise_decoder(model: FSAE, clips: Tensor) -> None:
    """Set the weights of a new decoder, but for where its latents come from, which is learned with the encoder."""
    _start_with_the_first_frame(model)
    latents, features = model.encoder(clips, Stream())
    kept = [model.decoder.place, model.decoder.conv_out, *model.decoder.injections.modules()]
    additions = (ResBlock, LinearAttention, GLUConv, DeformableFirstFrameAttention)
    hooks = [
        module.register_forward_pre_hook(_to_the_strength_of_its_input)
        for module in model.decoder.modules()
        if isinstance(module, additions)
    ]
    with _unit_variance(model.decoder, but=kept):
        model.decoder(latents, [feature[:, :, :1] for feature in features], Stream(), Noise("off", 0.0, None))
    for hook in hooks:
        hook.remove()


@contextmanager
def _unit_variance(part: nn.Module, *, but: Sequence[nn.Module | None]) -> Iterator[None]:
    """In this context a forward pass scales every convolution to unit variance, but for these."""
    layers = [module for module in part.modules() if isinstance(module, nn.Conv3d) and module not in but]
    hooks = [layer.register_forward_hook(_to_unit_variance) for layer in layers]
    yield
    for hook in hooks:
        hook.remove()


def _start_with_the_first_frame(model: FSAE) -> None:
    injections = [module for module in model.modules() if isinstance(module, DeformableFirstFrameAttention)]
    for module in injections:
        nn.init.dirac_(module.v.weight)
        nn.init.dirac_(module.out.weight)
    at_the_pixels = model.decoder.injections["0"]
    at_the_pixels.out.weight.mul_(LOUDNESS)
    at_the_pixels.out.bias.fill_(BASELINE)


def filter_bank(count: int) -> Tensor:
    """(count, 3, 3, 3, 3): the mean of each colour, then the cosine filters of brightness, low frequencies first."""
    filters = torch.zeros(count, 3, 3, 3, 3)
    for colour in range(3):
        filters[colour, colour] = 1 / 27
    orders = sorted(
        ((t, y, x) for t in range(3) for y in range(3) for x in range(3)), key=lambda order: (sum(order), max(order))
    )
    for index, (t, y, x) in enumerate(orders[1 : count - 2]):
        filters[3 + index] = torch.einsum("t,y,x->tyx", _cosine(t), _cosine(y), _cosine(x)) / 3
    return filters


def _cosine(order: int) -> Tensor:
    return torch.tensor([math.cos(math.pi * (place + 0.5) * order / 3) for place in range(3)])


def _spread(output: Tensor) -> Tensor:
    """(c, 1, 1, 1, 1): standard deviation per channel, without frame 0, where nothing changes."""
    return output[:, :, 1:].std(dim=(0, 2, 3, 4)).view(-1, 1, 1, 1, 1)


def _to_unit_variance(module: nn.Module, inputs: tuple[object, ...], output: Tensor) -> Tensor:
    assert isinstance(module, nn.Conv3d)
    spread = output.std()
    module.weight.div_(spread)
    if module.bias is not None:
        module.bias.div_(spread)
    return output / spread


def _to_the_strength_of_its_input(module: nn.Module, inputs: tuple[object, ...]) -> None:
    """Kernels keep their norm in training, so what starts weak stays weak."""
    features = inputs[0]
    assert isinstance(features, Tensor)
    if isinstance(module, DeformableFirstFrameAttention):
        module.out.weight.mul_(features.std())
        module.out.bias.mul_(features.std())
    else:
        assert isinstance(module, (ResBlock, LinearAttention, GLUConv))
        module.norm.weight.fill_(features.std())
