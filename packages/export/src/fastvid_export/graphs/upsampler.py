"""A latent upsampler as a graph."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

from fastvid_export.exportable import AxisRange, Exportable, InputSpec, precision_of
from fastvid_export.graphs.decoder import DECODER_AXES
from fastvid_export.graphs.draw import draw_normal
from fastvid_export.interfaces import LatentUpsampler


class UpsamplerGraph(nn.Module):
    """Latents -> latents of a larger video."""

    def __init__(self, upsampler: LatentUpsampler) -> None:
        super().__init__()
        self.training = False  # of this wrapper alone; the model's own mode is left as it is, and checked
        self.upsampler = upsampler

    def forward(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h2 w2"]:
        return self.upsampler(latents)


def upsampler_exportable(model: LatentUpsampler, *, axes: Mapping[str, AxisRange] = DECODER_AXES) -> Exportable:
    """A latent upsampler: `latents` -> `upsampled`.

    Args:
        model: an `nn.Module` in evaluation mode.
        axes: ranges of b, t, h and w, the sizes of the small latents.
    """
    shape = ("b", model.latent_channels, "t", "h", "w")
    latents = InputSpec(shape=shape, draw=draw_normal, dtype=precision_of(model))
    return Exportable(
        name="upsampler",
        module=UpsamplerGraph(model),
        inputs={"latents": latents},
        outputs=("upsampled",),
        axes=axes,
    )
