"""Flat modules, named tensors in and one tensor out, around the models' own methods; and how their inputs look."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fastvid_export.exportable import AxisRange, Exportable, InputSpec
from fastvid_export.interfaces import ContentTransformer, LatentUpsampler, VideoDecoder, VideoTransformer

DECODER_AXES: Mapping[str, AxisRange] = MappingProxyType(
    {
        "b": AxisRange(minimum=1, example=2, maximum=16),
        "t": AxisRange(minimum=1, example=3, maximum=128),
        "h": AxisRange(minimum=1, example=4, maximum=256),
        "w": AxisRange(minimum=1, example=5, maximum=256),
    }
)
"""Batch, and the size of the latents."""

TRANSFORMER_AXES: Mapping[str, AxisRange] = MappingProxyType(
    {**DECODER_AXES, "l": AxisRange(minimum=1, example=7, maximum=2048)}
)
"""Batch, the grid of tokens (latents over patch size), and text tokens."""

IMAGE_TOKEN_AXIS = AxisRange(minimum=1, example=6, maximum=2048)
CONTENT_AXES: Mapping[str, AxisRange] = MappingProxyType(
    {"y": AxisRange(minimum=1, example=3, maximum=256), "x": AxisRange(minimum=1, example=4, maximum=256)}
)
"""Rows and columns of a content frame's latents, over what the model takes at a time."""


class DecoderGraph(nn.Module):
    """Latents -> frames; with a reference if one is given."""

    def __init__(self, decoder: VideoDecoder) -> None:
        super().__init__()
        self.training = False  # of this wrapper alone; the model's own mode is left as it is, and checked
        self.decoder = decoder

    def forward(
        self, latents: Float[Tensor, "b c t h w"], reference: Float[Tensor, "b 3 H W"] | None = None
    ) -> Float[Tensor, "b 3 T H W"]:
        # Whole: what a model cuts, by a memory budget or into clips, would be baked in as a cut.
        with self.decoder.tiled(spatial=None, temporal=None):
            return self.decoder.decode(latents, reference=reference)


class UpsamplerGraph(nn.Module):
    """Latents -> latents of a larger video."""

    def __init__(self, upsampler: LatentUpsampler) -> None:
        super().__init__()
        self.training = False  # as above
        self.upsampler = upsampler

    def forward(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h2 w2"]:
        return self.upsampler(latents)


class TransformerGraph(nn.Module):
    """One evaluation of the transformer; the rotary tables are inputs, on the grid of tokens."""

    def __init__(self, transformer: VideoTransformer) -> None:
        super().__init__()
        self.training = False  # as above
        self.transformer = transformer

    def forward(  # noqa: PLR0913, PLR0917  # one parameter for each input of the graph
        self,
        latents: Float[Tensor, "b c t h w"],
        timestep: Float[Tensor, " b"],
        text: Float[Tensor, "b l d"],
        condition: Float[Tensor, "b k t h w"],
        cos: Float[Tensor, "nt nh nw pairs"],
        sin: Float[Tensor, "nt nh nw pairs"],
        text_mask: Bool[Tensor, "b l"] | None = None,
        image_tokens: Float[Tensor, "b m e"] | None = None,
    ) -> Float[Tensor, "b c t h w"]:
        return self.transformer(
            latents,
            timestep,
            text,
            text_mask,
            condition=condition,
            image_tokens=image_tokens,
            positions=cos.new_zeros(3, *cos.shape[:3]),  # so the model itself turns nothing
            attention=RotaryAttention(cos.flatten(0, 2), sin.flatten(0, 2)),
        )


class ContentTransformerGraph(nn.Module):
    """One evaluation of a transformer that is shown a content frame; the places of the tokens are an input."""

    def __init__(self, transformer: ContentTransformer) -> None:
        super().__init__()
        self.training = False  # as above
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


@final
class RotaryAttention:
    """Exact self-attention that turns queries and keys by tables of its own."""

    def __init__(self, cos: Float[Tensor, "n pairs"], sin: Float[Tensor, "n pairs"]) -> None:
        self._cos, self._sin = cos, sin

    def __call__(
        self,
        q: Float[Tensor, "b heads n e"],
        k: Float[Tensor, "b heads n e"],
        v: Float[Tensor, "b heads n e"],
        site: object,
        /,
    ) -> Float[Tensor, "b heads n e"]:
        q, k = rotate(q, self._cos, self._sin), rotate(k, self._cos, self._sin)
        return F.scaled_dot_product_attention(q, k, v)


def rotate(
    x: Float[Tensor, "b heads n e"], cos: Float[Tensor, "n pairs"], sin: Float[Tensor, "n pairs"]
) -> Float[Tensor, "b heads n e"]:
    """Turn the adjacent channel pair (2i, 2i + 1) of each token by the angle in column i, in float32."""
    pairs = x.float().unflatten(-1, (-1, 2))
    even, odd = pairs[..., 0], pairs[..., 1]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x.dtype)


def decoder_exportable(
    model: VideoDecoder, *, reference: bool, axes: Mapping[str, AxisRange] = DECODER_AXES
) -> Exportable:
    """The decoder of an autoencoder: `latents` (and `reference`, the first frame in pixels) -> `frames`.

    Args:
        model: an `nn.Module` in evaluation mode.
        reference: whether the graph takes a reference; a graph does one or the other.
        axes: ranges of b, t, h and w, the sizes of the latents.
    """
    _, height, width = model.stride
    inputs = {"latents": InputSpec(shape=("b", model.latent_channels, "t", "h", "w"), draw=draw_normal)}
    if reference:
        inputs["reference"] = InputSpec(shape=("b", 3, (height, "h"), (width, "w")), draw=draw_signed)
    return Exportable(
        name="decoder with reference" if reference else "decoder",
        module=DecoderGraph(model),
        inputs=inputs,
        outputs=("frames",),
        axes=axes,
    )


def upsampler_exportable(model: LatentUpsampler, *, axes: Mapping[str, AxisRange] = DECODER_AXES) -> Exportable:
    """A latent upsampler: `latents` -> `upsampled`.

    Args:
        model: an `nn.Module` in evaluation mode.
        axes: ranges of b, t, h and w, the sizes of the small latents.
    """
    return Exportable(
        name="upsampler",
        module=UpsamplerGraph(model),
        inputs={"latents": InputSpec(shape=("b", model.latent_channels, "t", "h", "w"), draw=draw_normal)},
        outputs=("upsampled",),
        axes=axes,
    )


def transformer_exportable(
    model: VideoTransformer, *, text_mask: bool, axes: Mapping[str, AxisRange] | None = None
) -> Exportable:
    """One evaluation of a transformer -> `velocity`.

    Rotary tables come from outside, so that frames can be merged or spread without another graph: `cos` and `sin` of
    each token's angles, on the grid of tokens (t, h, w, pairs).

    Args:
        model: an `nn.Module` in evaluation mode.
        text_mask: whether the graph takes a mask of the text tokens; a graph does one or the other.
        axes: ranges of b, t, h, w (in tokens), l (text tokens) and, for a model with image tokens, m; None: those of
            `TRANSFORMER_AXES`.
    """
    config = model.config
    grid = tuple(axis if patch == 1 else (patch, axis) for axis, patch in zip("thw", config.patch_size, strict=True))
    table = InputSpec(shape=("t", "h", "w", config.width // config.num_heads // 2), draw=draw_signed)
    inputs = {
        "latents": InputSpec(shape=("b", config.latent_channels, *grid), draw=draw_normal),
        "timestep": InputSpec(shape=("b",), draw=draw_timestep),
        "text": InputSpec(shape=("b", "l", config.text_width), draw=draw_normal),
        "condition": InputSpec(shape=("b", config.condition_channels, *grid), draw=draw_normal),
        "cos": table,
        "sin": table,
    }
    if text_mask:
        inputs["text_mask"] = InputSpec(shape=("b", "l"), draw=draw_mask)
    default_axes = dict(TRANSFORMER_AXES)
    if config.image_width is not None:
        inputs["image_tokens"] = InputSpec(shape=("b", "m", config.image_width), draw=draw_normal)
        default_axes["m"] = IMAGE_TOKEN_AXIS
    return Exportable(
        name="transformer",
        module=TransformerGraph(model),
        inputs=inputs,
        outputs=("velocity",),
        axes=default_axes if axes is None else axes,
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
    config, frame = model.config, model.config.content_frame
    grid = tuple(axis if patch == 1 else (patch, axis) for axis, patch in zip("thw", config.patch_size, strict=True))
    inputs = {
        "latents": InputSpec(shape=("b", config.latent_channels, *grid), draw=draw_normal),
        "timestep": InputSpec(shape=("b",), draw=draw_timestep),
        "text": InputSpec(shape=("b", "l", config.text_width), draw=draw_normal),
        "positions": InputSpec(shape=(3, "t", "h", "w"), draw=draw_signed),
    }
    default_axes = dict(TRANSFORMER_AXES)
    if text_mask:
        inputs["text_mask"] = InputSpec(shape=("b", "l"), draw=draw_mask)
    if frame is not None:
        rows, columns = (frame.content_step, "y"), (frame.content_step, "x")
        inputs["semantic"] = InputSpec(shape=("b", frame.semantic_tokens, frame.semantic_width), draw=draw_normal)
        inputs["content"] = InputSpec(shape=("b", frame.content_channels, rows, columns), draw=draw_normal)
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


def draw_normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Standard normal: latents and features."""
    return torch.randn(*shape, generator=generator)


def draw_signed(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform in [-1, 1]: pixels, sines and cosines."""
    return 2 * torch.rand(*shape, generator=generator) - 1


def draw_timestep(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform in [0, 1000]."""
    return 1000 * torch.rand(*shape, generator=generator)


def draw_mask(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """About two thirds true."""
    return torch.rand(*shape, generator=generator) < 2 / 3


def draw_pixels(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform in [64, 1024]: heights and widths."""
    return 64 + 960 * torch.rand(*shape, generator=generator)
