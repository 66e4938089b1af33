"""An OD-VAE that starts from an image autoencoder (diffusers' `AutoencoderKL`). Source: OD-VAE, section 3.3.

A kernel of the image autoencoder becomes one with a time axis. Since the past of the first frame is its own copy, any
inflation whose taps add up to the kernel sees one image as the image autoencoder does (equation 4); `tail` alone also
sees every frame of a video so, but for the norms. The decoder then decodes one image alike where it upsamples as the
image autoencoder does (`upsample_mode` 'nearest'); released OD-VAEs are 'trilinear'.

The paper starts from Stable Diffusion 2.1's autoencoder; those weights have not been run through this map yet.
"""

from collections.abc import Iterator, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from fastvid_vae.checkpoint import build_empty
from fastvid_vae.conversion.autoencoder_kl import Names, both, middle, resnet
from fastvid_vae.conversion.released import NAMES_SHOWN, StateDict
from fastvid_vae.odvae.config import ODVAEConfig
from fastvid_vae.odvae.model import ODVAE

Initialisation = Literal["tail", "average", "center", "random"]


def inflate(
    state_dict: Mapping[str, Tensor],
    config: ODVAEConfig,
    *,
    initialisation: Initialisation = "tail",
    generator: torch.Generator | None = None,
) -> StateDict:
    """The state dict with which `ODVAE(config)` starts.

    Args:
        state_dict: of diffusers' `AutoencoderKL`, with as many levels, blocks and channels as `config`.
        config: of a model without layers of their own for time ('mixed'), which no image autoencoder has.
        initialisation: the tap of a kernel's time axis that inherits: the last (`tail`, equation 3), all in equal parts
            (`average`, equation 5) or the middle one (`center`). Biases, norms and kernels without a time axis are
            copied. `random` inherits nothing, for comparison: kernels are Gaussian with standard deviation
            1 / sqrt(inputs of an output), biases 0, norms the identity.
        generator: for `random` alone.
    Raises:
        ValueError: a tensor is missing, left over or of another shape, or a layer has nothing to inherit.
    """
    if initialisation not in get_args(Initialisation):
        words = ", ".join(map(repr, get_args(Initialisation)))
        raise ValueError(f"`initialisation` is {initialisation!r}; expected {words}")
    if (initialisation == "random") != (generator is not None):
        raise ValueError(
            f"`generator` is {generator!r} with `initialisation` {initialisation!r}; 'random' alone has one"
        )
    like = build_empty(ODVAE, config).state_dict()
    pairs = _pairs(config, like, state_dict)
    if generator is not None:
        return {name: _random(name, like[name], state_dict[theirs], generator) for name, theirs in pairs.items()}
    return {name: _inflated(name, state_dict[theirs], like[name], initialisation) for name, theirs in pairs.items()}


def inflate_kernel(kernel: Tensor, depth: int, initialisation: Initialisation) -> Tensor:
    """A 2-D kernel (o i h w) with a time axis (o i depth h w)."""
    if initialisation == "average":
        return (kernel / depth).unsqueeze(2).repeat(1, 1, depth, 1, 1)
    inflated = kernel.new_zeros((*kernel.shape[:2], depth, *kernel.shape[2:]))
    inflated[:, :, depth - 1 if initialisation == "tail" else depth // 2] = kernel
    return inflated


def _pairs(config: ODVAEConfig, like: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> dict[str, str]:
    """Each tensor of ours and the one that it inherits from; none is left over on either side."""
    pairs = {}
    for ours, theirs in _names(config):
        name = ours if ours in like else _within(ours)
        if name in like or theirs in source:  # shortcuts are there on both sides or on neither
            pairs[name] = theirs
    missing, left = sorted({*pairs.values()} - source.keys()), sorted(source.keys() - {*pairs.values()})
    if missing or left:
        raise ValueError(
            f"`state_dict` is no AutoencoderKL of this size: missing {missing[:NAMES_SHOWN]}, left over "
            f"{left[:NAMES_SHOWN]}"
        )
    new = sorted(like.keys() ^ pairs.keys())
    if new:
        raise ValueError(f"`config` has layers that an image autoencoder does not, or lacks some: {new[:NAMES_SHOWN]}")
    return {name: pairs[name] for name in like}


def _names(config: ODVAEConfig) -> Iterator[Names]:
    """Ours as if no convolution were wrapped, and theirs."""
    last = len(config.widths) - 1
    for layer in ("quant_conv", "post_quant_conv"):
        yield from both(layer, layer)
    for side in ("encoder", "decoder"):
        for ours, theirs in (("conv_in", "conv_in"), ("norm_out", "conv_norm_out"), ("conv_out", "conv_out")):
            yield from both(f"{side}.{ours}", f"{side}.{theirs}")
        yield from middle(side, side)
    for level in range(last + 1):
        for block in range(config.num_blocks):
            yield from resnet(f"encoder.down.{level}.block.{block}", f"encoder.down_blocks.{level}.resnets.{block}")
        for block in range(config.num_blocks + 1):
            theirs = f"decoder.up_blocks.{last - level}.resnets.{block}"
            yield from resnet(f"decoder.up.{level}.block.{block}", theirs)
        if level < last:
            down = f"encoder.down_blocks.{level}.downsamplers.0.conv"
            yield from both(f"encoder.down.{level}.downsample.conv", down)
        if level:
            up = f"decoder.up_blocks.{last - level}.upsamplers.0.conv"
            yield from both(f"decoder.up.{level}.upsample.conv", up)


def _within(name: str) -> str:
    """The name of a tensor of a causal convolution, which wraps a plain one."""
    layer, _, tensor = name.rpartition(".")
    return f"{layer}.conv.{tensor}"


def _inflated(name: str, tensor: Tensor, like: Tensor, initialisation: Initialisation) -> Tensor:
    if tensor.dim() == 2:  # diffusers' attention projects by matrices
        tensor = tensor[:, :, None, None]
    if tensor.dim() == 4 and like.dim() == 5:
        tensor = inflate_kernel(tensor, like.shape[2], initialisation)
    if tensor.shape != like.shape:
        raise ValueError(f"`state_dict`: {name} would be {tuple(tensor.shape)}, expected {tuple(like.shape)}")
    return tensor.clone()


def _random(name: str, like: Tensor, source: Tensor, generator: torch.Generator) -> Tensor:
    if like.dim() == 1:
        return torch.full(like.shape, float(".norm" in name and name.endswith("weight")), dtype=source.dtype)
    values = torch.randn(like.shape, generator=generator, device=generator.device) * like[0].numel() ** -0.5
    drawn: Tensor = values.to(source)
    return drawn
