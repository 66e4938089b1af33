"""PixArt-alpha's own layout to diffusers' and back; `pixart_diffusers` does the rest.

Queries, keys and values lie in one matrix there, in this order. Two tensors have no place in diffusers' layout: the
empty caption, a random buffer that was never trained, and the table of positions, from which alone one can tell how
positions were scaled in training. Source: github.com/PixArt-alpha/PixArt-alpha, diffusion/model/nets/PixArt.py and
tools/convert_pixart_alpha_to_diffusers.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fastvid_dit.conversion.strict import require_same_keys
from fastvid_dit.reducio_dit.positions import frame_code

_CAPTION, _POSITIONS = "y_embedder.y_embedding", "pos_embed"
_TOP = {
    "x_embedder.proj": "pos_embed.proj",
    "t_embedder.mlp.0": "adaln_single.emb.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "adaln_single.emb.timestep_embedder.linear_2",
    "csize_embedder.mlp.0": "adaln_single.emb.resolution_embedder.linear_1",
    "csize_embedder.mlp.2": "adaln_single.emb.resolution_embedder.linear_2",
    "ar_embedder.mlp.0": "adaln_single.emb.aspect_ratio_embedder.linear_1",
    "ar_embedder.mlp.2": "adaln_single.emb.aspect_ratio_embedder.linear_2",
    "t_block.1": "adaln_single.linear",
    "y_embedder.y_proj.fc1": "caption_projection.linear_1",
    "y_embedder.y_proj.fc2": "caption_projection.linear_2",
    "final_layer.linear": "proj_out",
}
_BLOCK = {
    "attn.proj": "attn1.to_out.0",
    "cross_attn.q_linear": "attn2.to_q",
    "cross_attn.proj": "attn2.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
}
_FUSED = {
    "attn.qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "cross_attn.kv_linear": ("attn2.to_k", "attn2.to_v"),
}
POSITION_TOLERANCE = 4e-3
"""What half precision may change in a table of sines."""

_TABLES = {"final_layer.scale_shift_table": "scale_shift_table"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PixArtCheckpoint:
    """What an official file holds.

    Attributes:
        weights: in diffusers' naming.
        null_caption: text-encoder tokens that stand for no prompt.
        positions: the table that was added to the tokens of the training's square grid.
    """

    weights: Mapping[str, Tensor]
    null_caption: Float[Tensor, "l e"]
    positions: Float[Tensor, "1 n d"]

    @property
    def position_span(self) -> float:
        """What a model that takes these weights over has to scale its positions to."""
        return position_span(self.positions)


def to_diffusers(state_dict: Mapping[str, Tensor]) -> PixArtCheckpoint:
    """The weights under diffusers' names, and the two tensors that have none there.

    Args:
        state_dict: the entry `state_dict` of an official .pth file.
    Raises:
        ValueError: a tensor that PixArt-alpha does not have, or one of the two buffers is missing.
    """
    buffers = (_CAPTION, _POSITIONS)
    require_same_keys([name for name in state_dict if name in buffers], buffers)
    weights: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        if name in buffers:
            continue
        names = _theirs_of(name)
        if len(names) > 1 and tensor.shape[0] % len(names):
            raise ValueError(f"`state_dict`: {name} {tuple(tensor.shape)} cannot be cut into {len(names)} equal parts")
        weights |= dict(zip(names, tensor.unflatten(0, (len(names), -1)).unbind(0), strict=True))
    return PixArtCheckpoint(weights=weights, null_caption=state_dict[_CAPTION], positions=state_dict[_POSITIONS])


def from_diffusers(checkpoint: PixArtCheckpoint) -> dict[str, Tensor]:
    """The exact inverse of `to_diffusers`.

    Raises:
        ValueError: a name that diffusers' PixArt-alpha does not have, or a matrix without the others of its group.
    """
    blocks = {name.split(".")[1] for name in checkpoint.weights if name.startswith("transformer_blocks.")}
    prefixes = [f"blocks.{index}." for index in blocks]
    ours = [f"{name}.{suffix}" for name in _TOP for suffix in ("weight", "bias")] + list(_TABLES)
    for prefix in prefixes:
        ours += [f"{prefix}{name}.{suffix}" for name in (*_BLOCK, *_FUSED) for suffix in ("weight", "bias")]
        ours.append(f"{prefix}scale_shift_table")
    given, state_dict = dict(checkpoint.weights), {}
    for name in ours:
        parts = _theirs_of(name)
        if all(part in given for part in parts):
            state_dict[name] = torch.cat([given.pop(part) for part in parts])
    if given:
        raise ValueError(f"`weights`: tensors that no PixArt-alpha has, or has only in a group: {sorted(given)[:10]}")
    return state_dict | {_CAPTION: checkpoint.null_caption, _POSITIONS: checkpoint.positions}


def position_span(table: Float[Tensor, "1 n d"]) -> float:
    """The span of a table of positions: rows times the step from one to the next, which is 1 / scale in PixArt.

    It is read from the fastest wave of the second column and then holds for the whole table, or is refused: a wrong
    span (16 or 32 at 256 pixels, where the official code and diffusers differ) would spoil every picture.

    Raises:
        ValueError: the table is not one of a square grid, or of no constant step below pi.
    """
    num_tokens, width = table.shape[1], table.shape[2]
    rows = math.isqrt(num_tokens)
    if table.dim() != 3 or rows < 2 or rows * rows != num_tokens or width % 4:
        raise ValueError(f"`pos_embed` has shape {tuple(table.shape)}; need (1, rows x rows, a multiple of 4)")
    sine, cosine = table[0, 1, 0].double(), table[0, 1, width // 4].double()
    measured = rows * math.atan2(sine, cosine)
    candidates = round(measured, 1), round(measured, 4)  # half precision blurs what is a round number
    errors = {span: _distance(table, rows, span) for span in candidates}
    span = min(errors, key=errors.__getitem__)
    if not errors[span] < POSITION_TOLERANCE:
        raise ValueError(
            f"`pos_embed` is no table of sines and cosines at equal steps: off by {errors[span]:.3g} at span {span}"
        )
    return span


def _distance(table: Tensor, rows: int, span: float) -> float:
    """The largest difference from the table of this span."""
    coordinates = torch.arange(rows) * (span / rows)
    down, across = torch.meshgrid(coordinates, coordinates, indexing="ij")
    expected = frame_code(down.flatten(), across.flatten(), table.shape[2])
    return (table[0].float() - expected).abs().max().item()


def _theirs_of(name: str) -> tuple[str, ...]:
    """diffusers' names of an official tensor: three or two for a fused matrix, one for others."""
    prefix, rest, names = "", name, _TOP
    if name in _TABLES:
        return (_TABLES[name],)
    if name.startswith("blocks.") and name.count(".") > 1:
        _, index, rest = name.split(".", 2)
        prefix, names = f"transformer_blocks.{index}.", _BLOCK
        if rest == "scale_shift_table":
            return (prefix + rest,)
    module, _, suffix = rest.rpartition(".")
    if prefix and module in _FUSED:
        return tuple(f"{prefix}{part}.{suffix}" for part in _FUSED[module])
    if module in names:
        return (f"{prefix}{names[module]}.{suffix}",)
    raise ValueError(f"`state_dict` has {name!r}, which no PixArt-alpha has")
