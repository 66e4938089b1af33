"""One evaluation of a transformer that is shown a content frame, as a graph."""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fastvid_export.exportable import AxisRange, Exportable, InputSpec, precision_of
from fastvid_export.graphs.draw import draw_mask, draw_normal, draw_pixels, draw_signed, draw_timestep
from fastvid_export.graphs.transformer import TRANSFORMER_AXES
from fastvid_export.interfaces import ContentTransformer

CONTENT_AXES: Mapping[str, AxisRange] = MappingProxyType(
    {"y": AxisRange(minimum=1, example=3, maximum=256), "x": AxisRange(minimum=1, example=4, maximum=256)}
)
"""Rows and columns of a content frame's latents, over what the model takes at a time."""


class ContentTransformerGraph(nn.Module):
    """One evaluation of a transformer that is shown a content frame; the places of the tokens are an input."""

    def __init__(self, transformer: ContentTransformer) -> None:
        super().__init__()
        self.training = False  # of this wrapper alone; the model's own mode is left as it is, and checked
        self.transformer = transformer

    def forward(  # noqa: PLR0913, PLR0917  # one parameter for each input of the graph
        self,
        latents: Float[Tensor, "b c t h w"],
        timestep: Float[Tensor, " b"],
        text: Float[Tensor, "b l d"],
        positions: Float[Tensor, "3 nt nh nw"],
        text_mask: Bool[Tensor, "b l"] | None = None,
        semantic: Float[Tensor, "b m e"] | None = None,
        content: Float[Tensor, "b k H W"] | None = None,
        size: Float[Tensor, "b 2"] | None = None,
    ) -> Float[Tensor, "b o t h w"]:
        return self.transformer(
            latents, timestep, text, text_mask, semantic=semantic, content=content, size=size, positions=positions
        )


def content_transformer_exportable(
    model: ContentTransformer, *, text_mask: bool, axes: Mapping[str, AxisRange] | None = None
) -> Exportable:
    """One evaluation of a transformer that is shown a content frame -> `prediction`, the noise.

    Positions come from outside, as coordinates of the grid of tokens, so that frames can be merged or spread without
    another graph. Prompt and content frame are projected at every evaluation.

    Args:
        model: an `nn.Module` in evaluation mode.
        text_mask: whether the graph takes a mask of the text tokens; a graph does one or the other.
        axes: ranges of b, t, h, w (in tokens), l (text tokens) and, for a model with a content frame, y and x; None:
            those of `TRANSFORMER_AXES` and `CONTENT_AXES`.
    """
    config, frame, dtype = model.config, model.config.content_frame, precision_of(model)
    grid = tuple(axis if patch == 1 else (patch, axis) for axis, patch in zip("thw", config.patch_size, strict=True))
    inputs = {
        "latents": InputSpec(shape=("b", config.latent_channels, *grid), draw=draw_normal, dtype=dtype),
        "timestep": InputSpec(shape=("b",), draw=draw_timestep),
        "text": InputSpec(shape=("b", "l", config.text_width), draw=draw_normal, dtype=dtype),
        "positions": InputSpec(shape=(3, "t", "h", "w"), draw=draw_signed),
    }
    default_axes = dict(TRANSFORMER_AXES)
    if text_mask:
        inputs["text_mask"] = InputSpec(shape=("b", "l"), draw=draw_mask, dtype=torch.bool)
    if frame is not None:
        rows, columns = (frame.content_step, "y"), (frame.content_step, "x")
        inputs["semantic"] = InputSpec(
            shape=("b", frame.semantic_tokens, frame.semantic_width), draw=draw_normal, dtype=dtype
        )
        inputs["content"] = InputSpec(shape=("b", frame.content_channels, rows, columns), draw=draw_normal, dtype=dtype)
        default_axes |= CONTENT_AXES
    if config.size_embedding:
        inputs["size"] = InputSpec(shape=("b", 2), draw=draw_pixels)
    return Exportable(
        name="transformer with content frame" if frame is not None else "transformer",
        module=ContentTransformerGraph(model),
        inputs=inputs,
        outputs=("prediction",),
        axes=default_axes if axes is None else axes,
    )
