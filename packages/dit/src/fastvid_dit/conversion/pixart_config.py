"""What a PixArt-alpha checkpoint says of its architecture, and the `ReducioDiTConfig` that it means.

Source: diffusers' `PixArtTransformer2DModel`, whose published files still carry the name and the keys of its
predecessor; PixArt-alpha's own files have no configuration, so theirs is read from the tensors.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fastvid_dit.conversion.pixart_diffusers import position_span
from fastvid_dit.reducio_dit.config import ReducioDiTConfig

HEAD_SIZE = 72
"""Channels of a head in all published sizes; no tensor's shape tells."""

NORM_EPS = 1e-6
FREQUENCY_WIDTH = 256
FFN_RATIO = 4
SAMPLE_SIZE_OF_CONDITIONED = 128
"""diffusers gives the size of the picture to models of this many rows of latents, unless their file says otherwise."""

_CLASSES = ("PixArtTransformer2DModel", "Transformer2DModel")
_REQUIRED = (
    "num_attention_heads",
    "attention_head_dim",
    "in_channels",
    "out_channels",
    "num_layers",
    "cross_attention_dim",
    "sample_size",
    "patch_size",
    "norm_eps",
    "caption_channels",
)
_OPTIONAL = ("interpolation_scale", "use_additional_conditions")
_FIXED = {
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_type": "default",
    "norm_elementwise_affine": False,
    "norm_type": "ada_norm_single",
}
_WITHOUT_EFFECT = {"dropout": 0.0, "norm_num_groups": 32, "num_embeds_ada_norm": 1000, "upcast_attention": False}
_OF_PREDECESSOR = {
    "double_self_attention": False,
    "num_vector_embeds": None,
    "only_cross_attention": False,
    "use_linear_projection": False,
}


def read_diffusers(values: Mapping[str, Any] | None) -> ReducioDiTConfig:
    """The architecture, without content frame.

    Raises:
        ValueError: no config.json, an unknown or missing key, or a value that PixArt-alpha does not have.
    """
    given = _known(values)
    heads, layers, channels, patch, rows = (
        _integer(given, name)
        for name in ("num_attention_heads", "num_layers", "in_channels", "patch_size", "sample_size")
    )
    width = heads * _integer(given, "attention_head_dim")
    if given["cross_attention_dim"] != width:
        raise ValueError(f"config.json: `cross_attention_dim` is {given['cross_attention_dim']!r}; expected {width}")
    out = _integer(given, "out_channels")
    if out not in (channels, 2 * channels):
        raise ValueError(f"config.json: `out_channels` is {out}; expected {channels} or {2 * channels}")
    scale, conditioned = given.get("interpolation_scale"), given.get("use_additional_conditions")
    if scale is not None and not (type(scale) in (int, float) and scale > 0):
        raise ValueError(f"config.json: `interpolation_scale` is {scale!r}; expected a number above 0 or null")
    if conditioned not in (None, True, False):
        raise ValueError(f"config.json: `use_additional_conditions` is {conditioned!r}; expected true, false or null")
    return _config(
        patch=patch,
        latent_channels=channels,
        learn_sigma=out == 2 * channels,
        width=width,
        num_heads=heads,
        num_blocks=layers,
        ffn_width=FFN_RATIO * width,
        frequency_width=FREQUENCY_WIDTH,
        text_width=_integer(given, "caption_channels"),
        size_embedding=rows == SAMPLE_SIZE_OF_CONDITIONED if conditioned is None else conditioned,
        position_span=position_span(rows, patch, scale),
        norm_eps=_number(given, "norm_eps"),
    )


def write_diffusers(config: ReducioDiTConfig) -> dict[str, Any]:
    """The config.json of the `PixArtTransformer2DModel` that `config` is.

    Raises:
        ValueError: something that PixArt-alpha does not have, or has otherwise.
    """
    for name, expected in (("frequency_width", FREQUENCY_WIDTH), ("ffn_width", FFN_RATIO * config.width)):
        if getattr(config, name) != expected:
            raise ValueError(f"`{name}` is {getattr(config, name)}; diffusers' PixArt-alpha has {expected}")
    time, patch, across = config.patch_size
    if (time, patch) != (1, across):
        raise ValueError(f"`patch_size` is {config.patch_size}; PixArt-alpha's are squares of one frame")
    rows = SAMPLE_SIZE_OF_CONDITIONED if config.size_embedding else max(1, round(config.position_span)) * patch
    return {
        "_class_name": _CLASSES[0],
        "num_attention_heads": config.num_heads,
        "attention_head_dim": config.width // config.num_heads,
        "in_channels": config.latent_channels,
        "out_channels": config.out_channels,
        "num_layers": config.num_blocks,
        "cross_attention_dim": config.width,
        "sample_size": rows,
        "patch_size": patch,
        "norm_eps": config.norm_eps,
        "caption_channels": config.text_width,
        "interpolation_scale": rows // patch / config.position_span,
        "use_additional_conditions": config.size_embedding,
        **_FIXED,
        **_WITHOUT_EFFECT,
    }


def of_official(state_dict: Mapping[str, Tensor], span: float) -> ReducioDiTConfig:
    """The architecture of an official file, from the shapes of its tensors.

    Args:
        state_dict: in the official naming.
        span: of the positions; see `pixart_official.position_span`.
    Raises:
        ValueError: a tensor that tells is missing or has another rank, or the width is no multiple of a head's.
    """
    width, channels, patch, _ = _shape(state_dict, "x_embedder.proj.weight", rank=4)
    if width % HEAD_SIZE:
        raise ValueError(f"`state_dict`: {width} channels are no whole number of heads of {HEAD_SIZE}")
    out = _shape(state_dict, "final_layer.linear.weight", rank=2)[0]
    blocks = {name.split(".")[1] for name in state_dict if name.startswith("blocks.")}
    return _config(
        patch=patch,
        latent_channels=channels,
        learn_sigma=out == 2 * channels * patch * patch,
        width=width,
        num_heads=width // HEAD_SIZE,
        num_blocks=len(blocks),
        ffn_width=_shape(state_dict, "blocks.0.mlp.fc1.weight", rank=2)[0],
        frequency_width=_shape(state_dict, "t_embedder.mlp.0.weight", rank=2)[1],
        text_width=_shape(state_dict, "y_embedder.y_proj.fc1.weight", rank=2)[1],
        size_embedding="csize_embedder.mlp.0.weight" in state_dict,
        position_span=span,
        norm_eps=NORM_EPS,
    )


def _config(*, patch: int, **fields: Any) -> ReducioDiTConfig:
    return ReducioDiTConfig(
        patch_size=(1, patch, patch), content_frame=None, temporal_blocks=False, learn_time_scale=False, **fields
    )


def _known(values: Mapping[str, Any] | None) -> dict[str, Any]:
    if values is None:
        raise ValueError(
            "the weights have no config.json beside them; tensors alone do not say how positions were scaled"
        )
    if values.get("_class_name", _CLASSES[0]) not in _CLASSES:
        raise ValueError(f"config.json describes {values['_class_name']!r}; expected `_class_name` {_CLASSES[0]!r}")
    given = {name: value for name, value in values.items() if not name.startswith("_")}
    fixed = _FIXED | _WITHOUT_EFFECT | _OF_PREDECESSOR
    unknown = sorted(given.keys() - {*_REQUIRED, *_OPTIONAL, *fixed})
    missing = sorted({*_REQUIRED, *_FIXED} - given.keys())
    if unknown or missing:
        raise ValueError(f"config.json: unknown keys {unknown[:10]}, missing keys {missing[:10]}")
    for name, expected in (_FIXED | _OF_PREDECESSOR).items():
        if name in given and given[name] != expected:
            raise ValueError(f"config.json: `{name}` is {given[name]!r}; PixArt-alpha has {expected!r}")
    return given


def _shape(state_dict: Mapping[str, Tensor], name: str, *, rank: int) -> tuple[int, ...]:
    if name not in state_dict or state_dict[name].dim() != rank:
        raise ValueError(f"`state_dict`: {name} is missing or not of rank {rank}; this is no PixArt-alpha")
    return tuple(state_dict[name].shape)


def _integer(given: Mapping[str, Any], name: str) -> int:
    value = given[name]
    if type(value) is not int or value < 1:
        raise ValueError(f"config.json: `{name}` is {repr(value)[:80]}; expected a whole number above 0")
    return value


def _number(given: Mapping[str, Any], name: str) -> float:
    value = given[name]
    if type(value) not in (int, float):
        raise ValueError(f"config.json: `{name}` is {repr(value)[:80]}; expected a number")
    return float(value)
