"""DC-AE (an image autoencoder, in the key names of diffusers' `AutoencoderDC`) as the image path of an FSAE.

Every 3 x 3 kernel becomes the tap of the current frame of a 3 x 3 x 3 one (tail initialisation), the other taps are
zero. Then an image, and each frame of a still video, passes exactly as it does through DC-AE.

Source: mit-han-lab/dc-ae-f32c32-sana-1.0-diffusers (residual blocks and EfficientViT blocks with 5 x 5 multi-scale
branches, strided-convolution down, interpolating up). Its published weights have not been run through this map yet.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fastvid_vae.fsae.config import FSAEConfig

StateDict = dict[str, Tensor]
Form = Literal["same", "linear", "pointwise", "causal tap", "centred tap"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of ours and the tensors it is made of; several are stacked along their rows."""

    ours: str
    theirs: tuple[str, ...]
    form: Form


def convert(state_dict: Mapping[str, Tensor], config: FSAEConfig) -> StateDict:
    """DC-AE's state dict as that of `FSAE(config)`.

    Raises:
        ValueError: keys are missing or left over, or `config` has parts that DC-AE has not.
    """
    entries = _checked(config, list(state_dict), "theirs")
    return {entry.ours: _inflate([state_dict[name] for name in entry.theirs], entry.form) for entry in entries}


def invert(state_dict: Mapping[str, Tensor], config: FSAEConfig) -> StateDict:
    """The exact inverse of `convert`.

    Raises:
        ValueError: keys are missing or left over, or a kernel has learned along time, which DC-AE cannot hold.
    """
    result: StateDict = {}
    for entry in _checked(config, list(state_dict), "ours"):
        flat = _flatten(state_dict[entry.ours], entry)
        result.update(zip(entry.theirs, flat.chunk(len(entry.theirs)), strict=True))
    return result


def _checked(config: FSAEConfig, names: list[str], side: Literal["ours", "theirs"]) -> list[Entry]:
    if any(config.injection):
        raise ValueError("`config.injection` names stages; DC-AE has no first-frame injection, so convert without it")
    if not config.affine_norm:
        raise ValueError("`config.affine_norm` is False; DC-AE's norms carry weights and biases")
    entries = list(_entries(config))
    known = {name for entry in entries for name in (entry.theirs if side == "theirs" else (entry.ours,))}
    missing, left = sorted(known - set(names)), sorted(set(names) - known)
    if missing or left:
        raise ValueError(f"`state_dict` does not fit `config`: missing {missing[:10]}, left over {left[:10]}")
    return entries


def _entries(config: FSAEConfig) -> Iterator[Entry]:
    last = len(config.stage_kinds) - 1
    current: Form = "causal tap" if config.decoder_mode == "causal" else "centred tap"
    yield from _conv("encoder.conv_in", "encoder.conv_in", "causal tap")
    yield from _conv("encoder.conv_out", "encoder.conv_out", "causal tap")
    yield from _conv("decoder.conv_in", "decoder.conv_in", current)
    yield from _norm("decoder.norm_out", "decoder.norm_out")
    yield from _conv("decoder.conv_out", "decoder.conv_out", current)
    for stage, kind in enumerate(config.stage_kinds):
        block = _res_block if kind == "conv" else _vit_block
        depth = config.encoder_depths[stage]
        for j in range(depth):
            yield from block(f"encoder.stages.{stage}.{j}", f"encoder.down_blocks.{stage}.{j}", "causal tap")
        upsamplings = int(stage < last)
        for j in range(config.decoder_depths[stage]):
            yield from block(f"decoder.stages.{stage}.{j}", f"decoder.up_blocks.{stage}.{j + upsamplings}", current)
        if stage < last:
            yield from _conv(f"encoder.downs.{stage}.conv", f"encoder.down_blocks.{stage}.{depth}.conv", "causal tap")
            yield from _conv(f"decoder.ups.{stage}.conv", f"decoder.up_blocks.{stage}.0.conv", current)


def _res_block(ours: str, theirs: str, tap: Form) -> Iterator[Entry]:
    yield from _conv(f"{ours}.conv1", f"{theirs}.conv1", tap)
    yield Entry(f"{ours}.conv2.weight", (f"{theirs}.conv2.weight",), tap)
    yield from _norm(f"{ours}.norm", f"{theirs}.norm")


def _vit_block(ours: str, theirs: str, tap: Form) -> Iterator[Entry]:
    attention, glu = f"{theirs}.attn", f"{theirs}.conv_out"
    # Thirds of the rows of one projection, not queries, keys and values: those alternate per head.
    thirds = tuple(f"{attention}.to_{third}.weight" for third in "qkv")
    yield Entry(f"{ours}.attention.qkv.weight", thirds, "linear")
    scale = f"{attention}.to_qkv_multiscale.0"
    yield Entry(f"{ours}.attention.scale_depthwise.weight", (f"{scale}.proj_in.weight",), "pointwise")
    yield Entry(f"{ours}.attention.scale_pointwise.weight", (f"{scale}.proj_out.weight",), "pointwise")
    yield Entry(f"{ours}.attention.out.weight", (f"{attention}.to_out.weight",), "linear")
    yield from _norm(f"{ours}.attention.norm", f"{attention}.norm_out")
    yield from _conv(f"{ours}.glu.inverted", f"{glu}.conv_inverted", "pointwise")
    yield from _conv(f"{ours}.glu.depthwise", f"{glu}.conv_depth", tap)
    yield Entry(f"{ours}.glu.pointwise.weight", (f"{glu}.conv_point.weight",), "pointwise")
    yield from _norm(f"{ours}.glu.norm", f"{glu}.norm")


def _conv(ours: str, theirs: str, form: Form) -> Iterator[Entry]:
    yield Entry(f"{ours}.weight", (f"{theirs}.weight",), form)
    yield Entry(f"{ours}.bias", (f"{theirs}.bias",), "same")


def _norm(ours: str, theirs: str) -> Iterator[Entry]:
    yield Entry(f"{ours}.weight", (f"{theirs}.weight",), "same")
    yield Entry(f"{ours}.bias", (f"{theirs}.bias",), "same")


def _inflate(tensors: list[Tensor], form: Form) -> Tensor:
    tensor = torch.cat(tensors)
    match form:
        case "same":
            return tensor
        case "linear":
            return tensor[:, :, None, None, None]
        case "pointwise":
            return tensor.unsqueeze(2)
        case _:
            zero = torch.zeros_like(tensor)
            taps = [zero, zero, tensor] if form == "causal tap" else [zero, tensor, zero]
            return torch.stack(taps, dim=2)


def _flatten(tensor: Tensor, entry: Entry) -> Tensor:
    match entry.form:
        case "same":
            return tensor
        case "linear":
            return tensor[:, :, 0, 0, 0]
        case "pointwise":
            return tensor[:, :, 0]
        case _:
            taps = list(tensor.unbind(dim=2))
            current = taps.pop(2 if entry.form == "causal tap" else 1)
            if not tensor.is_meta and any(bool(tap.any()) for tap in taps):  # meta: only shapes are asked for
                raise ValueError(
                    f"`state_dict` holds {entry.ours}, which has learned along time; an image model cannot"
                )
            return current
