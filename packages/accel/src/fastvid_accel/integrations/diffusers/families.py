"""What is known of each model of diffusers: its blocks, its processor, and its token grid."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel
from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoTransformer3DModel
from diffusers.models.transformers.transformer_ltx import LTXVideoTransformer3DModel
from diffusers.models.transformers.transformer_mochi import MochiTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from fastvid_accel.asymrnr.partition import Grid
from fastvid_accel.integrations.diffusers.processors import (
    CogVideoXProcessor,
    HunyuanVideoProcessor,
    LTXVideoProcessor,
    MochiProcessor,
    ReducingProcessor,
    WanProcessor,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of transformer.

    Attributes:
        model: its class.
        processor: ours.
        attentions: the self-attention modules, in the order of blocks.
        grid: tokens along t, h, w, from the arguments of a forward pass.
    """

    model: type[Any]
    processor: type[ReducingProcessor]
    attentions: Callable[[Any], list[Any]]
    grid: Callable[[Any, Mapping[str, Any]], Grid]


def family_of(transformer: Any) -> Family:
    """The family of a transformer, without its wrapper of `torch.compile`.

    Raises:
        ValueError: another model.
    """
    for family in FAMILIES:
        if isinstance(transformer, family.model):
            return family
    known = ", ".join(family.model.__name__ for family in FAMILIES)
    raise ValueError(f"`pipe` has a transformer of class {type(transformer).__name__}; AsymRnR knows {known}")


def _cogvideox_grid(model: Any, call: Mapping[str, Any]) -> Grid:
    _, t, _, h, w = call["hidden_states"].shape
    size = model.config.patch_size
    return t // (model.config.patch_size_t or 1), h // size, w // size


def _hunyuan_grid(model: Any, call: Mapping[str, Any]) -> Grid:
    t, h, w = call["hidden_states"].shape[2:]
    size = model.config.patch_size
    return t // model.config.patch_size_t, h // size, w // size


def _wan_grid(model: Any, call: Mapping[str, Any]) -> Grid:
    t, h, w = call["hidden_states"].shape[2:]
    size = model.config.patch_size
    return t // size[0], h // size[1], w // size[2]


def _ltx_grid(model: Any, call: Mapping[str, Any]) -> Grid:
    grid = tuple(call.get(name) for name in ("num_frames", "height", "width"))
    if None in grid:
        raise ValueError(f"`num_frames`, `height` and `width` of the transformer are {grid}; AsymRnR needs all three")
    return int(grid[0] or 0), int(grid[1] or 0), int(grid[2] or 0)


def _mochi_grid(model: Any, call: Mapping[str, Any]) -> Grid:
    t, h, w = call["hidden_states"].shape[2:]
    return t, h // model.config.patch_size, w // model.config.patch_size


FAMILIES = (
    Family(
        model=CogVideoXTransformer3DModel,
        processor=CogVideoXProcessor,
        attentions=lambda model: [block.attn1 for block in model.transformer_blocks],
        grid=_cogvideox_grid,
    ),
    Family(
        model=HunyuanVideoTransformer3DModel,
        processor=HunyuanVideoProcessor,
        attentions=lambda model: [
            block.attn for block in (*model.transformer_blocks, *model.single_transformer_blocks)
        ],
        grid=_hunyuan_grid,
    ),
    Family(
        model=WanTransformer3DModel,
        processor=WanProcessor,
        attentions=lambda model: [block.attn1 for block in model.blocks],
        grid=_wan_grid,
    ),
    Family(
        model=LTXVideoTransformer3DModel,
        processor=LTXVideoProcessor,
        attentions=lambda model: [block.attn1 for block in model.transformer_blocks],
        grid=_ltx_grid,
    ),
    Family(
        model=MochiTransformer3DModel,
        processor=MochiProcessor,
        attentions=lambda model: [block.attn1 for block in model.transformer_blocks],
        grid=_mochi_grid,
    ),
)
