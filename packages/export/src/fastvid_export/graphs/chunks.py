"""Causal autoencoders chunk by chunk, as graphs without a state: what is remembered goes in and comes out.

The first chunk of a video has a graph of its own, since its past is a copy of its first frame and not an input. It
gives `cache_0`, `cache_1`, ...; later chunks take these and give `new_cache_0`, ... for the next one.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from fastvid_export.exportable import AxisRange, Exportable, InputSpec, Size, precision_of
from fastvid_export.graphs.decoder import DECODER_AXES
from fastvid_export.graphs.draw import draw_normal, draw_signed
from fastvid_export.graphs.keywords import with_keywords
from fastvid_export.interfaces import ChunkedDecoder, ChunkedEncoder

Outputs = tuple[Tensor, ...]


class EncoderChunkGraph(nn.Module):
    """frames, and unless they are the first caches -> latents, caches."""

    def __init__(self, encoder: ChunkedEncoder, caches: Sequence[str]) -> None:
        super().__init__()
        self.training = False  # of this wrapper alone; the model's own mode is left as it is, and checked
        self.encoder = encoder
        self.caches = tuple(caches)
        self.forward: Callable[..., Outputs] = with_keywords(self.run, caches)

    def run(self, frames: Tensor, **state: Tensor) -> Outputs:
        latents, past = self.encoder.encode_chunk(frames, [state[name] for name in self.caches])
        return (latents, *past)


class DecoderChunkGraph(nn.Module):
    """latents, and unless they are the first caches, and where there is a reference its features -> frames, caches."""

    def __init__(self, decoder: ChunkedDecoder, caches: Sequence[str], features: Sequence[str]) -> None:
        super().__init__()
        self.training = False  # as above
        self.decoder = decoder
        self.caches, self.features = tuple(caches), tuple(features)
        self.forward: Callable[..., Outputs] = with_keywords(self.run, (*caches, *features))

    def run(self, latents: Tensor, **state: Tensor) -> Outputs:
        past, features = ([state[name] for name in names] for names in (self.caches, self.features))
        frames, later = self.decoder.decode_chunk(latents, past, features)
        return (frames, *later)


class ReferenceGraph(nn.Module):
    """reference -> features."""

    def __init__(self, decoder: ChunkedDecoder) -> None:
        super().__init__()
        self.training = False  # as above
        self.decoder = decoder

    def forward(self, reference: Tensor) -> Outputs:
        return tuple(self.decoder.injected_features(reference))


def encoder_chunk_exportable(
    model: ChunkedEncoder, *, first: bool, axes: Mapping[str, AxisRange] = DECODER_AXES
) -> Exportable:
    """A chunk of a causal encoder: `frames` (and `cache_i`) -> `latents` and the caches.

    Args:
        model: an `nn.Module` in evaluation mode.
        first: the chunk that begins a video, of 1 + 4a frames for a stride of 4, or one that goes on, of 4a frames.
        axes: ranges of b, t, h and w, the sizes of the latents.
    """
    time, height, width = model.stride
    dtype = precision_of(model)
    with torch.no_grad():
        _, past = model.encode_chunk(_zeros(model, 1, 3, 1, height, width))
    caches = {} if first else {f"cache_{index}": _spec(tensor) for index, tensor in enumerate(past)}
    shape = ("b", 3, (time, "t", 1 - time) if first else (time, "t"), (height, "h"), (width, "w"))
    return Exportable(
        name="encoder of first chunks" if first else "encoder of later chunks",
        module=EncoderChunkGraph(model, tuple(caches)),
        inputs={"frames": InputSpec(shape=shape, draw=draw_signed, dtype=dtype), **caches},
        outputs=("latents", *_outputs(len(past), first)),
        axes=axes,
    )


def decoder_chunk_exportable(
    model: ChunkedDecoder, *, first: bool, reference: bool, axes: Mapping[str, AxisRange] = DECODER_AXES
) -> Exportable:
    """A chunk of a causal decoder: `latents` (and `cache_i`) -> `frames` and the caches.

    Args:
        model: an `nn.Module` in evaluation mode.
        first: the chunk that begins a video, or one that goes on.
        reference: whether the graph takes `feature_i`, the outputs of `reference_exportable`.
        axes: ranges of b, t, h and w, the sizes of the latents.
    """
    _, height, width = model.stride
    with torch.no_grad():
        found = model.injected_features(_zeros(model, 1, 3, height, width)) if reference else ()
        _, past = model.decode_chunk(_zeros(model, 1, model.latent_channels, 1, 1, 1), (), found)
    caches = {} if first else {f"cache_{index}": _spec(tensor) for index, tensor in enumerate(past)}
    features = {f"feature_{index}": _spec(tensor) for index, tensor in enumerate(found)}
    shape = ("b", model.latent_channels, "t", "h", "w")
    latents = InputSpec(shape=shape, draw=draw_normal, dtype=precision_of(model))
    return Exportable(
        name="decoder of first chunks" if first else "decoder of later chunks",
        module=DecoderChunkGraph(model, tuple(caches), tuple(features)),
        inputs={"latents": latents, **caches, **features},
        outputs=("frames", *_outputs(len(past), first)),
        axes=axes,
    )


def reference_exportable(model: ChunkedDecoder, *, axes: Mapping[str, AxisRange] | None = None) -> Exportable:
    """What the chunks of a decoder know of the first frame: `reference` -> `feature_0`, `feature_1`, ...

    Args:
        model: an `nn.Module` in evaluation mode.
        axes: ranges of b, h and w, the sizes of the latents; None: those of `DECODER_AXES`.
    """
    _, height, width = model.stride
    with torch.no_grad():
        found = model.injected_features(_zeros(model, 1, 3, height, width))
    shape = ("b", 3, (height, "h"), (width, "w"))
    return Exportable(
        name="features of the reference",
        module=ReferenceGraph(model),
        inputs={"reference": InputSpec(shape=shape, draw=draw_signed, dtype=precision_of(model))},
        outputs=tuple(f"feature_{index}" for index in range(len(found))),
        axes={axis: DECODER_AXES[axis] for axis in "bhw"} if axes is None else axes,
    )


def _outputs(num_caches: int, first: bool) -> tuple[str, ...]:
    return tuple(f"{'' if first else 'new_'}cache_{index}" for index in range(num_caches))


def _spec(tensor: Tensor) -> InputSpec:
    """Of a tensor b c t h w that was found at one latent cell of one video: rows and columns are so many a cell."""
    _, channels, frames, rows, columns = tensor.shape
    sides: list[Size] = [axis if side == 1 else (side, axis) for side, axis in ((rows, "h"), (columns, "w"))]
    return InputSpec(shape=("b", channels, frames, *sides), draw=draw_normal, dtype=tensor.dtype)


def _zeros(model: object, *shape: int) -> Tensor:
    assert isinstance(model, nn.Module)
    return torch.zeros(shape, dtype=precision_of(model), device=next(model.parameters()).device)
