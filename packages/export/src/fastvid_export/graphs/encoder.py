"""The encoder of an autoencoder as a graph, whole."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

from fastvid_export.exportable import AxisRange, Exportable, InputSpec, Size, precision_of
from fastvid_export.graphs.decoder import DECODER_AXES
from fastvid_export.graphs.draw import draw_signed
from fastvid_export.interfaces import VideoEncoder


class EncoderGraph(nn.Module):
    """Frames -> latents; the mean, where there is a posterior."""

    def __init__(self, encoder: VideoEncoder) -> None:
        super().__init__()
        self.training = False  # of this wrapper alone; the model's own mode is left as it is, and checked
        self.encoder = encoder

    def forward(self, frames: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b c t h w"]:
        with self.encoder.tiled(spatial=None, temporal=None):  # whole, as in `DecoderGraph`
            return self.encoder.encode(frames)


def encoder_exportable(model: VideoEncoder, *, axes: Mapping[str, AxisRange] = DECODER_AXES) -> Exportable:
    """The encoder of an autoencoder: `frames` -> `latents`.

    Whole cells only: what fills them up is the caller's, since a graph has no branches. For the first frame of a
    video, as pipelines encode it, let t be 1.

    Args:
        model: an `nn.Module` in evaluation mode.
        axes: ranges of b, t, h and w, the sizes of the latents.
    """
    time, height, width = model.stride
    first_alone = model.num_latent_frames(2) > model.num_latent_frames(1)  # then the others hold a stride each
    frames: Size = (time, "t", 1 - time) if first_alone else (time, "t")
    shape = ("b", 3, frames, (height, "h"), (width, "w"))
    return Exportable(
        name="encoder",
        module=EncoderGraph(model),
        inputs={"frames": InputSpec(shape=shape, draw=draw_signed, dtype=precision_of(model))},
        outputs=("latents",),
        axes=axes,
    )
