"""The config.json of a Wan2.1 image-to-video transformer in both layouts, and the `FSVideoDiTConfig` that it means.

Source: diffusers' `WanTransformer3DModel`; Wan2.1's `WanModel`, whose code and not whose file holds the patch size and
the widths of text and image tokens.
"""

from collections.abc import Collection, Mapping
from typing import Any

from fastvid_dit.config import WAN21_I2V_14B, FSVideoDiTConfig

ROPE_THETA = 10000.0
OFFICIAL_PATCH_SIZE, OFFICIAL_TEXT_WIDTH, OFFICIAL_IMAGE_WIDTH = (
    WAN21_I2V_14B.patch_size,
    WAN21_I2V_14B.text_width,
    WAN21_I2V_14B.image_width,
)

_DIFFUSERS_FIXED = {"cross_attn_norm": True, "qk_norm": "rms_norm_across_heads"}
_OFFICIAL_FIXED = {"model_type": "i2v"}
_OFFICIAL_UNLIKE_OURS = {"text_len": 512}
"""How the official code pads its prompts; it shapes no tensor."""


def read_diffusers(values: Mapping[str, Any] | None) -> FSVideoDiTConfig:
    """The architecture, without layer memory.

    Raises:
        ValueError: no config.json, an unknown or missing key, a value of another type, or no image-to-video model.
    """
    later = ("rope_max_seq_len", "pos_embed_seq_len")  # the first is the size of a table, the second came later
    given = _known(values, "WanTransformer3DModel", write_diffusers(WAN21_I2V_14B), optional=later)
    if given.get("image_dim") is None:
        raise ValueError(
            "config.json: `image_dim` is null; a transformer without image encoder is no image-to-video Wan2.1"
        )
    if given.get("pos_embed_seq_len") is not None:
        raise ValueError(
            "config.json: `pos_embed_seq_len` is set, as for first and last frame; FSVideoDiT takes the first"
        )
    _require(given, _DIFFUSERS_FIXED)
    heads = _integer(given, "num_attention_heads")
    width = heads * _integer(given, "attention_head_dim")
    _require(given, {"added_kv_proj_dim": width})
    patch_size = given["patch_size"]
    if not isinstance(patch_size, list) or len(patch_size) != 3 or not all(type(size) is int for size in patch_size):
        raise ValueError(f"config.json: `patch_size` is {patch_size!r}; expected three whole numbers")
    return _config(
        given,
        patch_size=(patch_size[0], patch_size[1], patch_size[2]),
        channels=("in_channels", "out_channels"),
        width=width,
        num_heads=heads,
        text_width=_integer(given, "text_dim"),
        image_width=_integer(given, "image_dim"),
    )


def write_diffusers(config: FSVideoDiTConfig) -> dict[str, Any]:
    """The config.json of the `WanTransformer3DModel` that `config` is without layer memory.

    Raises:
        ValueError: something that Wan2.1 image-to-video does not have, or has otherwise.
    """
    image_width = _image_width(config)
    return {
        "_class_name": "WanTransformer3DModel",
        "patch_size": list(config.patch_size),
        "num_attention_heads": config.num_heads,
        "attention_head_dim": config.width // config.num_heads,
        "in_channels": config.latent_channels + config.condition_channels,
        "out_channels": config.latent_channels,
        "text_dim": config.text_width,
        "freq_dim": config.frequency_width,
        "ffn_dim": config.ffn_width,
        "num_layers": config.num_blocks,
        **_DIFFUSERS_FIXED,
        "eps": config.norm_eps,
        "image_dim": image_width,
        "added_kv_proj_dim": config.width,
        "rope_max_seq_len": 1024,
        "pos_embed_seq_len": None,
    }


def read_official(values: Mapping[str, Any] | None) -> FSVideoDiTConfig:
    """As `read_diffusers`, for the config.json of Wan2.1's own repositories."""
    given = _known(values, "WanModel", write_official(WAN21_I2V_14B))
    _require(given, _OFFICIAL_FIXED)
    _integer(given, "text_len")
    return _config(
        given,
        patch_size=OFFICIAL_PATCH_SIZE,
        channels=("in_dim", "out_dim"),
        width=_integer(given, "dim"),
        num_heads=_integer(given, "num_heads"),
        text_width=OFFICIAL_TEXT_WIDTH,
        image_width=OFFICIAL_IMAGE_WIDTH,
    )


def write_official(config: FSVideoDiTConfig) -> dict[str, Any]:
    """As `write_diffusers`, for Wan2.1's own code; what stands in that code must be as there."""
    fixed = {
        "patch_size": OFFICIAL_PATCH_SIZE,
        "text_width": OFFICIAL_TEXT_WIDTH,
        "image_width": OFFICIAL_IMAGE_WIDTH,
    }
    for name, expected in fixed.items():
        if getattr(config, name) != expected:
            raise ValueError(f"`{name}` is {getattr(config, name)}; Wan2.1's own code knows {expected} only")
    _image_width(config)
    return {
        "_class_name": "WanModel",
        **_OFFICIAL_FIXED,
        **_OFFICIAL_UNLIKE_OURS,
        "in_dim": config.latent_channels + config.condition_channels,
        "dim": config.width,
        "ffn_dim": config.ffn_width,
        "freq_dim": config.frequency_width,
        "out_dim": config.latent_channels,
        "num_heads": config.num_heads,
        "num_layers": config.num_blocks,
        "eps": config.norm_eps,
    }


def _image_width(config: FSVideoDiTConfig) -> int:
    if config.image_width is None:
        raise ValueError("`image_width` is None; Wan2.1 image-to-video has image tokens")
    if config.refiner_mask is not None:
        raise ValueError("`refiner_mask` is set: Wan2.1 is no refiner")
    if config.rope_theta != ROPE_THETA:
        raise ValueError(f"`rope_theta` is {config.rope_theta}; Wan2.1's is {ROPE_THETA}")
    return config.image_width


def _config(  # the fields whose keys differ between the layouts
    given: Mapping[str, Any],
    *,
    patch_size: tuple[int, int, int],
    channels: tuple[str, str],
    width: int,
    num_heads: int,
    text_width: int,
    image_width: int | None,
) -> FSVideoDiTConfig:
    into, out = (_integer(given, name) for name in channels)
    mask_channels = into - 2 * out
    if mask_channels not in (1, 4):
        raise ValueError(
            f"config.json: `{channels[0]}` is {into} and `{channels[1]}` {out}; expected twice {out} and a mask of 4 "
            "channels (or 1): noise, mask and first frame of image-to-video"
        )
    eps = given["eps"]
    if type(eps) not in (int, float):
        raise ValueError(f"config.json: `eps` is {eps!r}; expected a number")
    return FSVideoDiTConfig(
        patch_size=patch_size,
        latent_channels=out,
        mask_channels=1 if mask_channels == 1 else 4,
        width=width,
        num_heads=num_heads,
        num_blocks=_integer(given, "num_layers"),
        ffn_width=_integer(given, "ffn_dim"),
        frequency_width=_integer(given, "freq_dim"),
        text_width=text_width,
        image_width=image_width,
        norm_eps=float(eps),
        rope_theta=ROPE_THETA,
        layer_memory=False,
        memory_norm="post",
    )


def _known(
    values: Mapping[str, Any] | None, class_name: str, keys: Collection[str], optional: Collection[str] = ()
) -> dict[str, Any]:
    if values is None:
        raise ValueError(
            "the weights have no config.json beside them; tensors alone do not say how many heads there are"
        )
    if values.get("_class_name", class_name) != class_name:
        raise ValueError(f"config.json describes {values['_class_name']!r}; expected `_class_name` {class_name!r}")
    given = {name: value for name, value in values.items() if not name.startswith("_")}
    known = {name for name in keys if not name.startswith("_")}
    unknown, missing = sorted(given.keys() - known), sorted(known - given.keys() - set(optional))
    if unknown or missing:
        raise ValueError(f"config.json: unknown keys {unknown[:10]}, missing keys {missing[:10]}")
    return given


def _require(given: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    for name, expected in fixed.items():
        if given[name] != expected:
            raise ValueError(f"config.json: `{name}` is {given[name]!r}; only {expected!r} can become an FSVideoDiT")


def _integer(given: Mapping[str, Any], name: str) -> int:
    value = given[name]
    if type(value) is not int:
        raise ValueError(f"config.json: `{name}` is {repr(value)[:80]}; expected a whole number")
    return value
