"""The architecture of a DC-AE: read from its tensors, and as the config.json of each layout, both ways.

A name in a configuration can say what tensors cannot (an activation, a scaling factor), and the other way round. So the
tensors give the `FSAEConfig`, and a config.json must agree with it in every key.

Source: diffusers' `AutoencoderDC`; efficientvit's model zoo, which knows its architectures by name only.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from fastvid_vae.fsae.config import FSAE_STANDARD, FSAEConfig

SANA_NAMES = ("dc-ae-f32c32-sana-1.0", "dc-ae-f32c32-sana-1.1")
SANA_SCALING_FACTOR = 0.41407
_SANA = {
    "latent_channels": 32,
    "stage_kinds": FSAE_STANDARD.stage_kinds[:6],
    "encoder_widths": FSAE_STANDARD.encoder_widths[:6],
    "decoder_widths": FSAE_STANDARD.decoder_widths[:6],
    "encoder_depths": FSAE_STANDARD.encoder_depths[:6],
    "decoder_depths": FSAE_STANDARD.decoder_depths[:6],
    "head_width": FSAE_STANDARD.head_width,
}
"""Of both models of that name: they differ in the decoder's weights alone."""

_LATER_KEYS = ("encoder_out_shortcut", "decoder_in_shortcut", "decoder_conv_act_fn")
"""Newer than the published files; diffusers fills in the values that we expect."""


def config_of(state_dict: Mapping[str, Tensor]) -> FSAEConfig:
    """The FSAE that does the same: one frame at a time, its latents not scaled yet.

    What DC-AE does not say (the decoder's mode, its noise in training) is as in `FSAE_STANDARD`.

    Args:
        state_dict: in diffusers' names.
    Raises:
        ValueError: a tensor that every DC-AE has is missing, or stages do not follow one another.
    """
    encoder, decoder = _blocks(state_dict, "encoder.down_blocks"), _blocks(state_dict, "decoder.up_blocks")
    if len(encoder) != len(decoder):
        raise ValueError(f"`state_dict` has {len(encoder)} encoder stages and {len(decoder)} decoder stages")
    last = len(encoder) - 1
    depths = [[len(blocks) - int(stage < last) for stage, blocks in enumerate(side)] for side in (encoder, decoder)]
    attention = [
        any(name.startswith(f"encoder.down_blocks.{i}.0.attn.") for name in state_dict) for i in range(last + 1)
    ]
    widths = [_size(state_dict, "encoder.conv_in.weight", 0)]
    widths += [_size(state_dict, f"encoder.down_blocks.{i}.{depths[0][i]}.conv.weight", 0) for i in range(last)]
    latent_channels = _size(state_dict, "encoder.conv_out.weight", 0)
    head_width = FSAE_STANDARD.head_width
    if any(attention):
        block = f"encoder.down_blocks.{attention.index(True)}.0.attn"
        head_width = _size(state_dict, f"{block}.to_qkv_multiscale.0.proj_out.weight", 1)
    return replace(
        FSAE_STANDARD,
        latent_channels=latent_channels,
        stage_kinds=tuple("attention" if found else "conv" for found in attention),
        encoder_widths=tuple(widths),
        decoder_widths=(
            *(_size(state_dict, f"decoder.up_blocks.{i}.0.conv.weight", 0) for i in range(last)),
            _size(state_dict, "decoder.conv_in.weight", 0),
        ),
        encoder_depths=tuple(depths[0]),
        decoder_depths=tuple(depths[1]),
        temporal_stages=(),
        head_width=head_width,
        injection=(None,) * (last + 1),
        latent_mean=(0.0,) * latent_channels,
        latent_std=(1.0,) * latent_channels,
    )


def scaled(config: FSAEConfig, scaling_factor: float) -> FSAEConfig:
    """With latents that leave `encode` multiplied by DC-AE's scaling factor, as its diffusion models eat them."""
    return replace(config, latent_std=(1 / scaling_factor,) * config.latent_channels)


def scaling_factor_of(config: FSAEConfig) -> float:
    """The inverse of `scaled`: the shortest number that gives the same `latent_std`.

    Raises:
        ValueError: channels with statistics of their own, which DC-AE has not.
    """
    std = config.latent_std[0]
    if any(config.latent_mean) or set(config.latent_std) != {std}:
        raise ValueError("`latent_mean` and `latent_std` differ among channels; DC-AE has one scaling factor")
    shortened = (float(f"{1 / std:.{digits}g}") for digits in range(1, 18))
    return next((factor for factor in shortened if 1 / factor == std), 1 / std)


def read_diffusers(values: Mapping[str, Any] | None, config: FSAEConfig) -> float:
    """The scaling factor in the config.json of an `AutoencoderDC`, after all else has proved to be `config`.

    Raises:
        ValueError: no config.json, an unknown or missing key, or a value that is not what the tensors and FSAE are.
    """
    if values is None:
        raise ValueError("the weights have no config.json beside them; diffusers writes one")
    given = {name: value for name, value in values.items() if not name.startswith("_")}
    expected = write_diffusers(config, 1.0)
    class_name, found = expected.pop("_class_name"), values.get("_class_name", "AutoencoderDC")
    if found != class_name:
        raise ValueError(f"config.json describes {found!r}; expected `_class_name` {class_name!r}")
    unknown = sorted(given.keys() - expected.keys())
    missing = sorted(expected.keys() - given.keys() - set(_LATER_KEYS))
    if unknown or missing:
        raise ValueError(f"config.json: unknown keys {unknown[:10]}, missing keys {missing[:10]}")
    factor = given.pop("scaling_factor")
    if type(factor) not in (int, float) or not 0 < factor < math.inf:
        raise ValueError(f"config.json: `scaling_factor` is {factor!r}; expected a number above 0")
    for name, value in given.items():
        if _same_everywhere(name, value, config) != expected[name]:
            raise ValueError(f"config.json: `{name}` is {value!r}; only {expected[name]!r} can become an FSAE here")
    return float(factor)


def write_diffusers(config: FSAEConfig, scaling_factor: float) -> dict[str, Any]:
    """The config.json of the `AutoencoderDC` that `config` is on images."""
    attention = [kind == "attention" for kind in config.stage_kinds]
    sides: dict[str, Any] = {}
    for side in ("encoder", "decoder"):
        sides |= {
            f"{side}_block_types": ["EfficientViTBlock" if found else "ResBlock" for found in attention],
            f"{side}_qkv_multiscales": [[5] if found else [] for found in attention],
            f"{side}_block_out_channels": list(getattr(config, f"{side}_widths")),
            f"{side}_layers_per_block": list(getattr(config, f"{side}_depths")),
        }
    return {
        "_class_name": "AutoencoderDC",
        "downsample_block_type": "conv",
        "upsample_block_type": "interpolate",
        "decoder_norm_types": "rms_norm",
        "decoder_act_fns": "silu",
        "decoder_conv_act_fn": "relu",
        "encoder_out_shortcut": True,
        "decoder_in_shortcut": True,
        "in_channels": 3,
        "latent_channels": config.latent_channels,
        "attention_head_dim": config.head_width,
        **sides,
        "scaling_factor": scaling_factor,
    }


def read_efficientvit(values: Mapping[str, Any] | None, config: FSAEConfig) -> float:
    """The scaling factor that belongs to the name in config.json; 1 where there is no config.json.

    Raises:
        ValueError: no name, the name of a DC-AE of other blocks, or one that `config` is not.
    """
    if values is None:
        return 1.0
    name = values.get("model_name")
    if name not in SANA_NAMES:
        raise ValueError(f"config.json: `model_name` is {name!r}; expected one of {SANA_NAMES}")
    if not _is_sana(config):
        raise ValueError(f"config.json names {name!r}, but the tensors are of another size")
    return SANA_SCALING_FACTOR


def write_efficientvit(config: FSAEConfig, scaling_factor: float) -> dict[str, Any] | None:
    """The config.json with the name of this architecture, or None: others have no name.

    Raises:
        ValueError: a scaling factor that the layout has no place for.
    """
    named = _is_sana(config) and scaling_factor == SANA_SCALING_FACTOR
    if not named and scaling_factor != 1:
        raise ValueError(
            f"`latent_std` means a scaling factor of {scaling_factor}, which efficientvit's files cannot say"
        )
    return {"model_name": SANA_NAMES[0]} if named else None


def _is_sana(config: FSAEConfig) -> bool:
    return all(getattr(config, name) == value for name, value in _SANA.items())


def _same_everywhere(name: str, value: Any, config: FSAEConfig) -> Any:
    """One kind for all stages, written as such; and the one word of which published files write two spellings."""
    if name in ("decoder_norm_types", "decoder_act_fns") and isinstance(value, list):
        return value[0] if value == value[:1] * len(config.stage_kinds) else value
    if name in ("encoder_block_types", "decoder_block_types") and isinstance(value, str):
        return [value] * len(config.stage_kinds)
    return "conv" if name == "downsample_block_type" and value == "Conv" else value


def _blocks(state_dict: Mapping[str, Tensor], prefix: str) -> list[set[int]]:
    """The indices of the blocks of each stage."""
    found = (re.match(rf"{re.escape(prefix)}\.(\d{{1,3}})\.(\d{{1,3}})\.", name) for name in state_dict)
    pairs = {(int(match[1]), int(match[2])) for match in found if match}
    stages = sorted({stage for stage, _ in pairs})
    if not stages or stages != list(range(len(stages))):
        raise ValueError(f"`state_dict` has the stages {stages[:10]} in {prefix}: it is no DC-AE, or not a whole one")
    return [{block for stage, block in pairs if stage == index} for index in stages]


def _size(state_dict: Mapping[str, Tensor], name: str, axis: int) -> int:
    if name not in state_dict or state_dict[name].dim() <= axis:
        raise ValueError(f"`state_dict` has no {name!r} of {axis + 1} or more axes: it is no DC-AE, or not a whole one")
    return state_dict[name].shape[axis]
