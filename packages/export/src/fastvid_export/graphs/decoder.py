"""The decoder of an autoencoder as a graph, whole."""

from collections.abc import Mapping
from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor, nn

from fastvid_export.exportable import AxisRange, Exportable, InputSpec, precision_of
from fastvid_export.graphs.draw import draw_normal, draw_signed
from fastvid_export.interfaces import VideoDecoder

DECODER_AXES: Mapping[str, AxisRange] = MappingProxyType(
    {
        "b": AxisRange(minimum=1, example=2, maximum=16),
        "t": AxisRange(minimum=1, example=3, maximum=128),
        "h": AxisRange(minimum=1, example=4, maximum=256),
        "w": AxisRange(minimum=1, example=5, maximum=256),
    }
)
"""Batch, and the size of the latents."""


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


def decoder_exportable(
    model: VideoDecoder, *, reference: bool, axes: Mapping[str, AxisRange] = DECODER_AXES
) -> Exportable:
    """The decoder of an autoencoder: `latents` (and `reference`, the first frame in pixels) -> `frames`.

    Args:
        model: an `nn.Module` in evaluation mode.
        reference: whether the graph takes a reference; a graph does one or the other.
        axes: ranges of b, t, h and w, the sizes of the latents.
    """
    dtype = precision_of(model)
    _, height, width = model.stride
    inputs = {"latents": InputSpec(shape=("b", model.latent_channels, "t", "h", "w"), draw=draw_normal, dtype=dtype)}
    if reference:
        inputs["reference"] = InputSpec(shape=("b", 3, (height, "h"), (width, "w")), draw=draw_signed, dtype=dtype)
    return Exportable(
        name="decoder with reference" if reference else "decoder",
        module=DecoderGraph(model),
        inputs=inputs,
        outputs=("frames",),
        axes=axes,
    )
