"""The config.json of a released OD-VAE, which Open-Sora-Plan calls CausalVAEModel, both ways.

Three graphs share that class name, and the defaults of its constructor are none of them, so every field that decides
the graph must be there. Source: Open-Sora-Plan 1.0 to 1.2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastvid_vae.odvae.config import ODVAE_VARIANT_4, ODVAEConfig

CLASS_NAME = "CausalVAEModel"
CONVS = {"Conv2d": "2d", "CausalConv3d": "causal"}
BLOCKS = {"ResnetBlock2D": "2d", "ResnetBlock3D": "causal"}
DOWNSAMPLES = {
    "Downsample": "2d",
    "SpatialDownsample2x": "flat",
    "Spatial2x3DDownsample": "causal",
    "Spatial2xTime2x3DDownsample": "causal time",
}
TIME_DOWNSAMPLES = {"": "none", "TimeDownsample2x": "pool", "TimeDownsampleRes2x": "mixed"}
UPSAMPLES = {
    "SpatialUpsample2x": "flat",
    "Spatial2x3DUpsample": "causal",
    "Spatial2xTime2x3DUpsample": "causal time",
}
TIME_UPSAMPLES = {"": "none", "TimeUpsample2x": "linear", "TimeUpsampleRes2x": "mixed"}
ATTENTIONS = {"AttnBlock3DFix": "frames", "AttnBlock3D": "scrambled"}

OPTIONAL = ("_class_name", "in_channels", "out_channels", "use_quant_layer")
"""What not every released file says."""

UNUSED = ("_diffusers_version", "_name_or_path", "dropout", "loss_params", "loss_type", "lr", "norm_type", "resolution")
"""Of training alone, read nowhere, or of one value ever."""


def from_official(config: Mapping[str, Any]) -> ODVAEConfig:
    """Their configuration as ours.

    Raises:
        ValueError: a field is missing or unknown, or its value is none that a release has.
    """
    needed = official(ODVAE_VARIANT_4).keys() - {*OPTIONAL}
    missing, unknown = sorted(needed - config.keys()), sorted(config.keys() - needed - {*OPTIONAL, *UNUSED})
    if missing or unknown:
        raise ValueError(f"`config` is none of a {CLASS_NAME}: missing {missing}, unknown {unknown}")
    base, factors, blocks = config["hidden_size"], config["hidden_size_mult"], config["num_res_blocks"]
    numbers = [base, *(factors if isinstance(factors, list) else [None]), blocks, config["z_channels"]]
    if not all(type(number) is int for number in numbers):
        raise ValueError(
            "`config`: `hidden_size`, `num_res_blocks` and `z_channels` must be whole numbers, and `hidden_size_mult` "
            "a list of them"
        )
    own = replace(
        ODVAE_VARIANT_4,
        latent_channels=config["z_channels"],
        widths=tuple(base * factor for factor in factors),
        num_blocks=blocks,
        encoder_conv_in=_kind(config, "encoder_conv_in", CONVS),
        encoder_blocks=_kinds(config, "encoder_resnet_blocks", BLOCKS),
        downsamples=_kinds(config, "encoder_spatial_downsample", DOWNSAMPLES, slice(None, -1)),
        time_downsamples=_kinds(config, "encoder_temporal_downsample", TIME_DOWNSAMPLES, slice(None, -1)),
        decoder_blocks=_kinds(config, "decoder_resnet_blocks", BLOCKS),
        upsamples=_kinds(config, "decoder_spatial_upsample", UPSAMPLES, slice(1, None)),
        time_upsamples=_kinds(config, "decoder_temporal_upsample", TIME_UPSAMPLES, slice(1, None)),
        decoder_conv_out=_kind(config, "decoder_conv_out", CONVS),
        attention=_kind(config, "encoder_attention", ATTENTIONS),
    )
    for name, value in official(own).items():
        if name in config and config[name] != value:
            raise ValueError(f"`config` has `{name}` {config[name]!r}; with its other fields expected {value!r}")
    return own


def official(config: ODVAEConfig) -> dict[str, Any]:
    """Ours as theirs.

    Raises:
        ValueError: theirs has no words for it.
    """
    told = replace(
        config,
        upsample_mode=ODVAE_VARIANT_4.upsample_mode,
        norm_groups=ODVAE_VARIANT_4.norm_groups,
        scaling_factor=ODVAE_VARIANT_4.scaling_factor,
    )
    base = config.widths[0]
    if told != config or any(width % base for width in config.widths):
        raise ValueError(f"the released layout cannot tell {config}: it would be read as {told}")
    attention = _word("attention", config.attention, ATTENTIONS)
    encoder_blocks, decoder_blocks = (
        [_word("blocks", kind, BLOCKS) for kind in kinds] for kinds in (config.encoder_blocks, config.decoder_blocks)
    )
    return {
        "_class_name": CLASS_NAME,
        "in_channels": 3,
        "out_channels": 3,
        "hidden_size": base,
        "hidden_size_mult": [width // base for width in config.widths],
        "z_channels": config.latent_channels,
        "embed_dim": config.latent_channels,
        "num_res_blocks": config.num_blocks,
        "double_z": True,
        "attn_resolutions": [],
        "q_conv": "CausalConv3d",
        "use_quant_layer": True,
        "encoder_conv_in": _word("encoder_conv_in", config.encoder_conv_in, CONVS),
        "encoder_conv_out": "CausalConv3d",
        "encoder_attention": attention,
        "encoder_resnet_blocks": encoder_blocks,
        "encoder_mid_resnet": encoder_blocks[-1],
        "encoder_spatial_downsample": [*(_word("downsamples", kind, DOWNSAMPLES) for kind in config.downsamples), ""],
        "encoder_temporal_downsample": [
            *(_word("time_downsamples", kind, TIME_DOWNSAMPLES) for kind in config.time_downsamples),
            "",
        ],
        "decoder_conv_in": "CausalConv3d",
        "decoder_conv_out": _word("decoder_conv_out", config.decoder_conv_out, CONVS),
        "decoder_attention": attention,
        "decoder_resnet_blocks": decoder_blocks,
        "decoder_mid_resnet": decoder_blocks[-1],
        "decoder_spatial_upsample": ["", *(_word("upsamples", kind, UPSAMPLES) for kind in config.upsamples)],
        "decoder_temporal_upsample": [
            "",
            *(_word("time_upsamples", kind, TIME_UPSAMPLES) for kind in config.time_upsamples),
        ],
    }


def _kind(config: Mapping[str, Any], name: str, kinds: Mapping[str, str]) -> Any:
    return _one(name, config[name], kinds)


def _kinds(config: Mapping[str, Any], name: str, kinds: Mapping[str, str], part: slice = slice(None)) -> Any:
    """The entries of a list, in `part` of it: at one of its ends a level has nothing to sample."""
    words = config[name]
    if not isinstance(words, Sequence) or isinstance(words, str):
        raise ValueError(f"`config` has `{name}` {words!r}; expected a list, one entry a level")
    return tuple(_one(name, word, kinds) for word in words[part])


def _one(name: str, word: Any, kinds: Mapping[str, str]) -> str:
    if not isinstance(word, str) or word not in kinds:
        raise ValueError(f"`config` has `{name}` {word!r}; expected one of {', '.join(map(repr, kinds))}")
    return kinds[word]


def _word(name: str, kind: str, kinds: Mapping[str, str]) -> str:
    words = [word for word, own in kinds.items() if own == kind]
    if not words:
        raise ValueError(f"the released layout has no word for {kind!r} (`{name}`)")
    return words[0]
