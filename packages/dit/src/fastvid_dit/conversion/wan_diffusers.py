"""Wan2.1 in the naming of diffusers' `WanTransformer3DModel`, to and from a `FSVideoDiT` without layer memory.

Two traps: diffusers calls the affine norm before cross-attention norm2 (Wan: norm3); and its patch embedding is a
convolution whose kernel lists channels before voxels, while our tokens list the channels of each voxel together.
"""

from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor, nn

from fastvid_dit.config import FSVideoDiTConfig
from fastvid_dit.conversion.strict import require_same_keys, require_same_shapes
from fastvid_dit.fsvideo_dit import FSVideoDiT
from fastvid_dit.layer_memory import init_router_for_pretrained

UNUSED_SUFFIX = ".attn2.norm_added_q.weight"
"""Present in some published files, read by no version of the model."""

_TOP = {
    "patch_embedding": "patch_embedding",
    "time_embedding.linear_in": "condition_embedder.time_embedder.linear_1",
    "time_embedding.linear_out": "condition_embedder.time_embedder.linear_2",
    "time_projection": "condition_embedder.time_proj",
    "text_embedding.linear_in": "condition_embedder.text_embedder.linear_1",
    "text_embedding.linear_out": "condition_embedder.text_embedder.linear_2",
    "image_embedding.norm_in": "condition_embedder.image_embedder.norm1",
    "image_embedding.linear_in": "condition_embedder.image_embedder.ff.net.0.proj",
    "image_embedding.linear_out": "condition_embedder.image_embedder.ff.net.2",
    "image_embedding.norm_out": "condition_embedder.image_embedder.norm2",
    "head.linear": "proj_out",
}
_BLOCK = {
    **{f"self_attention.{name}": f"attn1.{name}" for name in ("to_q", "to_k", "to_v", "norm_q", "norm_k")},
    **{f"cross_attention.{name}": f"attn2.{name}" for name in ("to_q", "to_k", "to_v", "norm_q", "norm_k")},
    "self_attention.to_out": "attn1.to_out.0",
    "cross_attention.to_out": "attn2.to_out.0",
    "cross_attention.image_to_k": "attn2.add_k_proj",
    "cross_attention.image_to_v": "attn2.add_v_proj",
    "cross_attention.image_norm_k": "attn2.norm_added_k",
    "norm_cross": "norm2",
    "ffn.linear_in": "ffn.net.0.proj",
    "ffn.linear_out": "ffn.net.2",
}


def convert(state_dict: Mapping[str, Tensor], config: FSVideoDiTConfig) -> dict[str, Tensor]:
    """The state dict of `FSVideoDiT(config)` from one of diffusers.

    Raises:
        ValueError: `config` has layer memory, or a tensor is missing, unexpected or misshapen.
    """
    ours = _expected(config)
    theirs = {_foreign(name): _to_theirs(name, tensor, config) for name, tensor in ours.items()}
    given = {name: tensor for name, tensor in state_dict.items() if not name.endswith(UNUSED_SUFFIX)}
    require_same_keys(given, theirs)
    require_same_shapes(given, theirs)
    return {name: _to_ours(name, given[_foreign(name)]) for name in ours}


def invert(state_dict: Mapping[str, Tensor], config: FSVideoDiTConfig) -> dict[str, Tensor]:
    """The state dict in diffusers' naming from that of `FSVideoDiT(config)`; the exact inverse of `convert`.

    Raises:
        ValueError: `config` has layer memory, or a tensor is missing, unexpected or misshapen.
    """
    ours = _expected(config)
    require_same_keys(state_dict, ours)
    require_same_shapes(state_dict, ours)
    return {_foreign(name): _to_theirs(name, tensor, config) for name, tensor in state_dict.items()}


def start_from_wan(model: FSVideoDiT, state_dict: Mapping[str, Tensor], wan: FSVideoDiTConfig, *, leak: float) -> None:
    """Initialise a model (layer memory, other patches, other latents) with the body of a Wan checkpoint, in place.

    Patch embedding and head keep their own initialisation when patches, latents or mask differ, for then even an equal
    shape means something else; routers give their block's predecessor all but `leak` of the weight.

    Args:
        model: with the body of `wan`; on a real device.
        state_dict: in diffusers' naming.
        wan: configuration of that checkpoint, for example `WAN21_I2V_14B`.
        leak: see `init_router_for_pretrained`; 0.01 is the usual value.
    Raises:
        ValueError: a part of the body is missing or has another shape.
    """
    source, own = convert(state_dict, wan), model.state_dict()
    if _voxels(model.config) != _voxels(wan):
        for name in ("patch_embedding.weight", "patch_embedding.bias", "head.linear.weight", "head.linear.bias"):
            source[name] = own[name]
    routers = {name: tensor for name, tensor in own.items() if ".memory_router." in name}
    require_same_keys(source | routers, own)
    require_same_shapes(source, own)
    model.load_state_dict(source | routers)
    for name, module in model.named_modules():
        if name.endswith(".memory_router") and isinstance(module, nn.Linear):
            init_router_for_pretrained(module, leak=leak)


def _voxels(config: FSVideoDiTConfig) -> tuple[object, ...]:
    return config.patch_size, config.latent_channels, config.mask_channels


def _expected(config: FSVideoDiTConfig) -> dict[str, Tensor]:
    if config.layer_memory:
        raise ValueError("`config.layer_memory` must be False: Wan has no routers; see `start_from_wan`")
    with torch.device("meta"):
        return FSVideoDiT(config).state_dict()


def _foreign(name: str) -> str:
    """diffusers' name of our tensor."""
    if name.endswith("modulation.table"):
        return name.removesuffix("modulation.table").removeprefix("head.") + "scale_shift_table"
    module, _, suffix = name.rpartition(".")
    if not module.startswith("blocks."):
        return f"{_TOP[module]}.{suffix}"
    _, index, part = module.split(".", 2)
    return f"blocks.{index}.{_BLOCK[part]}.{suffix}"


def _to_ours(name: str, tensor: Tensor) -> Tensor:
    if name == "patch_embedding.weight":
        return rearrange(tensor, "d c pt ph pw -> d (pt ph pw c)")
    return tensor.squeeze(0) if name.endswith("modulation.table") else tensor


def _to_theirs(name: str, tensor: Tensor, config: FSVideoDiTConfig) -> Tensor:
    if name == "patch_embedding.weight":
        pt, ph, pw = config.patch_size
        return rearrange(tensor, "d (pt ph pw c) -> d c pt ph pw", pt=pt, ph=ph, pw=pw)
    return tensor.unsqueeze(0) if name.endswith("modulation.table") else tensor
