"""PixArt-alpha as diffusers' `PixArtTransformer2DModel` names it, to and from a `ReducioDiT` without content frame.

Two traps: the patch embedding is a convolution whose kernel lists channels before pixels, while our tokens list the
channels of each voxel together; and 4 channels in patches of 2 x 2 have as many inputs as 16 channels in patches of 1.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from einops import rearrange
from torch import Tensor

from fastvid_dit.conversion.strict import require_same_keys, require_same_shapes
from fastvid_dit.reducio_dit.config import REDUCIO_DIT_XL, ReducioDiTConfig
from fastvid_dit.reducio_dit.model import ReducioDiT

PIXART_ALPHA_256 = replace(
    REDUCIO_DIT_XL,
    patch_size=(1, 2, 2),
    latent_channels=4,
    learn_sigma=True,
    content_frame=None,
    size_embedding=False,
)
"""PixArt-XL-2-256x256: 610,856,096 parameters. The span of its positions is a claim: see `position_span`."""

PIXART_ALPHA_1024 = replace(PIXART_ALPHA_256, size_embedding=True, position_span=32.0)
"""PixArt-XL-2-1024-MS: 611,349,152 parameters."""

UNUSED = "caption_projection.y_embedding"
"""The empty caption, present in some published files and read by no version of the model."""

_TOP = {
    "patch_embedding": "pos_embed.proj",
    "time_embedding.linear_in": "adaln_single.emb.timestep_embedder.linear_1",
    "time_embedding.linear_out": "adaln_single.emb.timestep_embedder.linear_2",
    "size_embedding.side.linear_in": "adaln_single.emb.resolution_embedder.linear_1",
    "size_embedding.side.linear_out": "adaln_single.emb.resolution_embedder.linear_2",
    "size_embedding.aspect.linear_in": "adaln_single.emb.aspect_ratio_embedder.linear_1",
    "size_embedding.aspect.linear_out": "adaln_single.emb.aspect_ratio_embedder.linear_2",
    "time_projection": "adaln_single.linear",
    "text_embedding.linear_in": "caption_projection.linear_1",
    "text_embedding.linear_out": "caption_projection.linear_2",
    "head.linear": "proj_out",
}
_BLOCK = {
    **{f"self_attention.{name}": f"attn1.{name}" for name in ("to_q", "to_k", "to_v")},
    **{f"cross_attention.{name}": f"attn2.{name}" for name in ("to_q", "to_k", "to_v")},
    "self_attention.to_out": "attn1.to_out.0",
    "cross_attention.to_out": "attn2.to_out.0",
    "ffn.linear_in": "ff.net.0.proj",
    "ffn.linear_out": "ff.net.2",
}


def convert(state_dict: Mapping[str, Tensor], config: ReducioDiTConfig) -> dict[str, Tensor]:
    """The state dict of `ReducioDiT(config)` from one of diffusers.

    Raises:
        ValueError: `config` has parts that PixArt has not, or a tensor is missing, unexpected or misshapen.
    """
    ours = _expected(config)
    theirs = {_foreign(name): _to_theirs(name, tensor, config) for name, tensor in ours.items()}
    given = {name: tensor for name, tensor in state_dict.items() if name != UNUSED}
    require_same_keys(given, theirs)
    require_same_shapes(given, theirs)
    return {name: _to_ours(name, given[_foreign(name)]) for name in ours}


def invert(state_dict: Mapping[str, Tensor], config: ReducioDiTConfig) -> dict[str, Tensor]:
    """The state dict in diffusers' naming from that of `ReducioDiT(config)`; the exact inverse of `convert`.

    Raises:
        ValueError: `config` has parts that PixArt has not, or a tensor is missing, unexpected or misshapen.
    """
    ours = _expected(config)
    require_same_keys(state_dict, ours)
    require_same_shapes(state_dict, ours)
    return {_foreign(name): _to_theirs(name, tensor, config) for name, tensor in state_dict.items()}


def position_span(sample_size: int, patch_size: int, interpolation_scale: float | None) -> float:
    """What the three values in the config.json of a diffusers model make of `ReducioDiTConfig.position_span`.

    Args:
        sample_size: rows of the latents.
        patch_size: rows of a patch.
        interpolation_scale: None: diffusers' default for that size.
    """
    scale = max(sample_size // 64, 1) if interpolation_scale is None else interpolation_scale
    return sample_size // patch_size / scale


def start_from_pixart(model: ReducioDiT, state_dict: Mapping[str, Tensor], pixart: ReducioDiTConfig) -> None:
    """Initialise a model for video with the body of a PixArt checkpoint, in place. Source: Reducio, section 4.1.

    Patch embedding and head keep their own initialisation unless patches and channels are the same, for even an equal
    shape means something else; so do the parts that PixArt has not: content frame, blocks along time, and the
    embedding of the size where the checkpoint has none.

    Args:
        model: with the body of `pixart`; on a real device.
        state_dict: in diffusers' naming.
        pixart: configuration of that checkpoint, for example `PIXART_ALPHA_256`.
    Raises:
        ValueError: a part of the body is missing or has another shape, or the positions have another span.
    """
    if model.config.position_span != pixart.position_span:
        raise ValueError(
            f"`model` scales positions to {model.config.position_span}, the checkpoint's are scaled to "
            f"{pixart.position_span}; build the model with `position_span={pixart.position_span}`"
        )
    source, own = convert(state_dict, pixart), model.state_dict()
    kept = ["content_frame_embedding.", "temporal_blocks.", "time_scale"]
    kept += [] if pixart.size_embedding else ["size_embedding."]
    kept += [] if _voxels(model.config) == _voxels(pixart) else ["patch_embedding.", "head.linear."]
    new = {name: tensor for name, tensor in own.items() if name.startswith(tuple(kept))}
    require_same_keys(source | new, own)
    require_same_shapes(source | new, own)
    model.load_state_dict(source | new)


def _voxels(config: ReducioDiTConfig) -> tuple[object, ...]:
    return config.patch_size, config.latent_channels, config.learn_sigma


def _expected(config: ReducioDiTConfig) -> dict[str, Tensor]:
    extra = config.content_frame is not None or config.temporal_blocks or config.learn_time_scale
    if extra or config.patch_size[0] != 1:
        raise ValueError(
            "`config` must have no `content_frame`, `temporal_blocks` or `learn_time_scale` and patches of one frame, "
            "as PixArt has; see `start_from_pixart`"
        )
    with torch.device("meta"):
        return ReducioDiT(config).state_dict()


def _foreign(name: str) -> str:
    """diffusers' name of our tensor."""
    module, _, suffix = name.rpartition(".")
    prefix, part = "", module
    if module.startswith("blocks."):
        _, index, part = module.split(".", 2)
        prefix = f"transformer_blocks.{index}."
    if part in ("modulation", "head.modulation"):
        return prefix + "scale_shift_table"
    return f"{prefix}{(_BLOCK if prefix else _TOP)[part]}.{suffix}"


def _to_ours(name: str, tensor: Tensor) -> Tensor:
    return rearrange(tensor, "d c ph pw -> d (ph pw c)") if name == "patch_embedding.weight" else tensor


def _to_theirs(name: str, tensor: Tensor, config: ReducioDiTConfig) -> Tensor:
    if name != "patch_embedding.weight":
        return tensor
    _, ph, pw = config.patch_size
    return rearrange(tensor, "d (ph pw c) -> d c ph pw", ph=ph, pw=pw)
