"""One evaluation of a transformer as a graph: dense, of fewer tokens in some blocks, or with what tokens match by."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from fastvid_export.exportable import AxisRange, Exportable, IndexSpec, InputSpec, precision_of
from fastvid_export.graphs.attention import ReducedAttention, RotaryAttention, WatchedAttention
from fastvid_export.graphs.decoder import DECODER_AXES
from fastvid_export.graphs.draw import draw_mask, draw_normal, draw_signed, draw_timestep
from fastvid_export.graphs.keywords import with_keywords
from fastvid_export.interfaces import VideoTransformer

TRANSFORMER_AXES: Mapping[str, AxisRange] = MappingProxyType(
    {**DECODER_AXES, "l": AxisRange(minimum=1, example=7, maximum=2048)}
)
"""Batch, the grid of tokens (latents over patch size), and text tokens."""

IMAGE_TOKEN_AXIS = AxisRange(minimum=1, example=6, maximum=2048)
Graphed = Tensor | tuple[Tensor, ...]
KEPT_AXIS = AxisRange(minimum=1, example=11, maximum=2**20)
"""Tokens that stay in one block."""


class TransformerGraph(nn.Module):
    """One evaluation of the transformer; the rotary tables are inputs, on the grid of tokens.

    Args:
        transformer: the model.
        indices: names of the inputs of `ReducedAttention`.
        matched: which of the tensors of `WatchedAttention` follow behind the velocity.
    """

    def __init__(self, transformer: VideoTransformer, *, indices: Sequence[str], matched: Sequence[str]) -> None:
        super().__init__()
        self.training = False  # of this wrapper alone; the model's own mode is left as it is, and checked
        self.transformer = transformer
        self.matched = tuple(matched)
        self.forward: Callable[..., Graphed] = with_keywords(self.evaluate, indices)

    def evaluate(  # noqa: PLR0913, PLR0917  # one parameter for each input of the graph
        self,
        latents: Float[Tensor, "b c t h w"],
        timestep: Float[Tensor, " b"],
        text: Float[Tensor, "b l d"],
        condition: Float[Tensor, "b k t h w"],
        cos: Float[Tensor, "*blocks nt nh nw pairs"],
        sin: Float[Tensor, "*blocks nt nh nw pairs"],
        text_mask: Bool[Tensor, "b l"] | None = None,
        image_tokens: Float[Tensor, "b m e"] | None = None,
        **indices: Int[Tensor, "b heads *kept"],
    ) -> Graphed:
        watched = WatchedAttention(self.matched)
        velocity = self.transformer(
            latents,
            timestep,
            text,
            text_mask,
            condition=condition,
            image_tokens=image_tokens,
            positions=cos.new_zeros(3, *cos.shape[-4:-1]),  # so the model itself turns nothing
            attention=RotaryAttention(
                cos.flatten(-4, -2), sin.flatten(-4, -2), watched if self.matched else ReducedAttention(indices)
            ),
        )
        return (velocity, *(watched.seen[name] for name in self.matched)) if self.matched else velocity


def transformer_exportable(
    model: VideoTransformer,
    *,
    text_mask: bool,
    axes: Mapping[str, AxisRange] | None = None,
    block_tables: bool = False,
    q_blocks: Sequence[int] = (),
    kv_blocks: Sequence[int] = (),
) -> Exportable:
    """One evaluation of a transformer -> `velocity`.

    Rotary tables come from outside, so that frames can be merged or spread without another graph: `cos` and `sin` of
    each token's angles, on the grid of tokens (t, h, w, pairs).

    Where tokens are reduced, so do the places of those that stay, found by whom it pleases: `keep_kv_i` for block i of
    `kv_blocks`; `keep_q_i` and `restore_i` for block i of `q_blocks`. See `ReducedAttention`. Keeping all tokens, in
    any order, is the dense graph again.

    Args:
        model: an `nn.Module` in evaluation mode.
        text_mask: whether the graph takes a mask of the text tokens; a graph does one or the other.
        axes: ranges of b, t, h, w (in tokens), l (text tokens), for a model with image tokens m, and for each reduced
            block i the tokens that stay, q{i} and k{i}; None: those of `TRANSFORMER_AXES` and `KEPT_AXIS`.
        block_tables: whether each block has tables of its own, cos and sin (blocks, t, h, w, pairs), for positions
            that differ from block to block.
        q_blocks, kv_blocks: in which fewer queries, and fewer keys and values, take part.
    Raises:
        ValueError: a block that the model does not have, or twice.
    """
    inputs, default_axes = _dense_inputs(model, text_mask=text_mask, block_tables=block_tables)
    _check_blocks("q_blocks", q_blocks, model.config.num_blocks)
    _check_blocks("kv_blocks", kv_blocks, model.config.num_blocks)
    heads, tokens = model.config.num_heads, ("t", "h", "w")
    indices: dict[str, IndexSpec] = {}
    for block in kv_blocks:
        indices[f"keep_kv_{block}"] = IndexSpec(shape=("b", heads, f"k{block}"), below=tokens)
    for block in q_blocks:
        indices[f"keep_q_{block}"] = IndexSpec(shape=("b", heads, f"q{block}"), below=tokens)
        indices[f"restore_{block}"] = IndexSpec(shape=("b", heads, *tokens), below=(f"q{block}",))
    kept = {f"k{block}": KEPT_AXIS for block in kv_blocks} | {f"q{block}": KEPT_AXIS for block in q_blocks}
    return Exportable(
        name="transformer of fewer tokens" if indices else "transformer",
        module=TransformerGraph(model, indices=tuple(indices), matched=()),
        inputs={**inputs, **indices},
        outputs=("velocity",),
        axes=default_axes | kept if axes is None else axes,
    )


def matching_exportable(
    model: VideoTransformer,
    *,
    text_mask: bool,
    q_blocks: Sequence[int],
    kv_blocks: Sequence[int],
    axes: Mapping[str, AxisRange] | None = None,
    block_tables: bool = False,
) -> Exportable:
    """The dense graph that also returns what tokens are matched by, for the indices of the graph of fewer tokens.

    -> `velocity`, then `query_i` for block i of `q_blocks` and `value_i` for block i of `kv_blocks`, both
    (b, heads, t h w, e) and the queries after their norm and turn.

    Args:
        model, text_mask, axes, block_tables: as in `transformer_exportable`.
        q_blocks, kv_blocks: those of the graph that the indices are for.
    Raises:
        ValueError: no block, one that the model does not have, or one twice.
    """
    inputs, default_axes = _dense_inputs(model, text_mask=text_mask, block_tables=block_tables)
    _check_blocks("q_blocks", q_blocks, model.config.num_blocks)
    _check_blocks("kv_blocks", kv_blocks, model.config.num_blocks)
    matched = (*(f"query_{block}" for block in q_blocks), *(f"value_{block}" for block in kv_blocks))
    if not matched:
        raise ValueError(
            "`q_blocks` and `kv_blocks` are empty; a graph that matches nothing is `transformer_exportable`"
        )
    return Exportable(
        name="transformer that matches",
        module=TransformerGraph(model, indices=(), matched=matched),
        inputs=inputs,
        outputs=("velocity", *matched),
        axes=default_axes if axes is None else axes,
    )


def _dense_inputs(
    model: VideoTransformer, *, text_mask: bool, block_tables: bool
) -> tuple[dict[str, InputSpec | IndexSpec], dict[str, AxisRange]]:
    config, dtype = model.config, precision_of(model)
    grid = tuple(axis if patch == 1 else (patch, axis) for axis, patch in zip("thw", config.patch_size, strict=True))
    blocks = (config.num_blocks,) if block_tables else ()
    table = InputSpec(shape=(*blocks, "t", "h", "w", config.width // config.num_heads // 2), draw=draw_signed)
    inputs: dict[str, InputSpec | IndexSpec] = {
        "latents": InputSpec(shape=("b", config.latent_channels, *grid), draw=draw_normal, dtype=dtype),
        "timestep": InputSpec(shape=("b",), draw=draw_timestep),
        "text": InputSpec(shape=("b", "l", config.text_width), draw=draw_normal, dtype=dtype),
        "condition": InputSpec(shape=("b", config.condition_channels, *grid), draw=draw_normal, dtype=dtype),
        "cos": table,
        "sin": table,
    }
    axes = dict(TRANSFORMER_AXES)
    if text_mask:
        inputs["text_mask"] = InputSpec(shape=("b", "l"), draw=draw_mask, dtype=torch.bool)
    if config.image_width is not None:
        inputs["image_tokens"] = InputSpec(shape=("b", "m", config.image_width), draw=draw_normal, dtype=dtype)
        axes["m"] = IMAGE_TOKEN_AXIS
    return inputs, axes


def _check_blocks(name: str, blocks: Sequence[int], num_blocks: int) -> None:
    for block in blocks:
        if not 0 <= block < num_blocks:
            nearest = min(max(block, 0), num_blocks - 1)
            raise ValueError(
                f"`{name}` names block {block}; the model has 0 to {num_blocks - 1};"
                f" the nearest legal value is {nearest}"
            )
    if len(set(blocks)) < len(blocks):
        raise ValueError(f"`{name}` names a block twice: {list(blocks)}")
