"""DC-AE's own key names to those of diffusers' `AutoencoderDC` and back; `dc_ae` does the rest.

Source: github.com/mit-han-lab/efficientvit (Apache-2.0), dc-ae-f32c32-sana-1.0 and 1.1. Its queries, keys and
values are one projection, which diffusers cuts into thirds of its rows.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

StateDict = dict[str, Tensor]

_ENDS = {
    "encoder.project_in.conv": "encoder.conv_in",
    "encoder.project_out.main.op_list.0.conv": "encoder.conv_out",
    "decoder.project_in.main.conv": "decoder.conv_in",
    "decoder.project_out.op_list.0": "decoder.norm_out",
    "decoder.project_out.op_list.2.conv": "decoder.conv_out",
}
_SIDES = {"encoder": ("encoder.stages", "encoder.down_blocks"), "decoder": ("decoder.stages", "decoder.up_blocks")}
_BLOCK = {
    "main.conv1.conv": "conv1",
    "main.conv2.conv": "conv2",
    "main.conv2.norm": "norm",
    "context_module.main.aggreg.0.0": "attn.to_qkv_multiscale.0.proj_in",
    "context_module.main.aggreg.0.1": "attn.to_qkv_multiscale.0.proj_out",
    "context_module.main.proj.conv": "attn.to_out",
    "context_module.main.proj.norm": "attn.norm_out",
    "local_module.main.inverted_conv.conv": "conv_out.conv_inverted",
    "local_module.main.depth_conv.conv": "conv_out.conv_depth",
    "local_module.main.point_conv.conv": "conv_out.conv_point",
    "local_module.main.point_conv.norm": "conv_out.norm",
}
_RESAMPLE = {"encoder": "main.conv", "decoder": "main.conv.conv"}
_QKV = "context_module.main.qkv.conv"
_THIRDS = tuple(f"attn.to_{third}" for third in "qkv")
_LINEAR = ("attn.to_out", *_THIRDS)
"""1 x 1 convolutions there, linear layers in diffusers."""


def to_diffusers(state_dict: Mapping[str, Tensor]) -> StateDict:
    """The tensors under diffusers' names.

    Raises:
        ValueError: a name that DC-AE does not have, or a projection that is no 1 x 1 convolution.
    """
    result: StateDict = {}
    for name, tensor in state_dict.items():
        module, _, suffix = name.rpartition(".")
        if module in _ENDS:
            result[f"{_ENDS[module]}.{suffix}"] = tensor
            continue
        side, block, part = _split(name, module, theirs=True)
        prefix = f"{_SIDES[side][1]}.{block}"
        if part == _QKV:
            thirds = _rows(name, tensor, multiple_of=3).chunk(3)
            result |= {f"{prefix}.{third}.{suffix}": rows for third, rows in zip(_THIRDS, thirds, strict=True)}
            continue
        known = _BLOCK | {_RESAMPLE[side]: "conv"}
        if part not in known:
            raise _unknown(name)
        linear = known[part] in _LINEAR
        result[f"{prefix}.{known[part]}.{suffix}"] = _rows(name, tensor) if linear else tensor
    return result


def from_diffusers(state_dict: Mapping[str, Tensor]) -> StateDict:
    """The exact inverse of `to_diffusers`.

    Raises:
        ValueError: a name that diffusers does not have.
    """
    result: StateDict = {}
    ends = {value: key for key, value in _ENDS.items()}
    for name, tensor in state_dict.items():
        module, _, suffix = name.rpartition(".")
        if module in ends:
            result[f"{ends[module]}.{suffix}"] = tensor
            continue
        side, block, part = _split(name, module, theirs=False)
        prefix = f"{_SIDES[side][0]}.{block.replace('.', '.op_list.')}"
        if part in _THIRDS:
            if part == _THIRDS[0]:
                start = name.removesuffix(f"{part}.{suffix}")
                rows = [state_dict[f"{start}{third}.{suffix}"] for third in _THIRDS]
                result[f"{prefix}.{_QKV}.{suffix}"] = torch.cat(rows)[:, :, None, None]
            continue
        known = {value: key for key, value in _BLOCK.items()} | {"conv": _RESAMPLE[side]}
        if part not in known:
            raise _unknown(name)
        result[f"{prefix}.{known[part]}.{suffix}"] = tensor[:, :, None, None] if part in _LINEAR else tensor
    return result


def _split(name: str, module: str, *, theirs: bool) -> tuple[str, str, str]:
    """Side, `stage.block` and the module inside the block."""
    for side, (official, diffusers) in _SIDES.items():
        start = rf"{official}\.(\d+)\.op_list\.(\d+)\." if theirs else rf"{diffusers}\.(\d+)\.(\d+)\."
        if found := re.match(start, module):
            return side, f"{found[1]}.{found[2]}", module[found.end() :]
    raise _unknown(name)


def _rows(name: str, tensor: Tensor, *, multiple_of: int = 1) -> Tensor:
    """The matrix of a 1 x 1 convolution."""
    if tensor.dim() != 4 or tensor.shape[2:] != (1, 1) or len(tensor) % multiple_of:
        multiple = f", its rows a multiple of {multiple_of}" if multiple_of > 1 else ""
        raise ValueError(f"`state_dict`: {name} has shape {tuple(tensor.shape)}; expected a 1 x 1 kernel{multiple}")
    return tensor[:, :, 0, 0]


def _unknown(name: str) -> ValueError:
    return ValueError(f"`state_dict` has {name!r}, which no DC-AE has")
