"""What can be exported: a module, how its inputs look, and which of their sizes may change.

Also the views of the two kinds of model that `wrappers` knows how to describe. Nobody has to inherit any of it.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.export import Dim

Size = int | str | tuple[int, str]
"""A fixed size, the name of an axis, or a whole multiple of one: `(16, "h")` is 16 h."""

Sampler = Callable[[Sequence[int], torch.Generator], Tensor]
"""Draws a plausible input of the given shape."""


class VideoDecoder(Protocol):
    """An autoencoder, as far as the export of its decoder needs it. Must also be an `nn.Module`."""

    @property
    def stride(self) -> tuple[int, int, int]: ...
    @property
    def latent_channels(self) -> int: ...

    def tiled(self, *, spatial: None, temporal: None) -> AbstractContextManager[object]:
        """Inside it, a video is decoded whole, in space and in time."""
        ...

    def decode(
        self, latents: Float[Tensor, "b c t h w"], *, reference: Float[Tensor, "b 3 H W"] | None = None
    ) -> Float[Tensor, "b 3 T H W"]: ...


class LatentUpsampler(Protocol):
    """Latents to those of a larger video. Must also be an `nn.Module`."""

    @property
    def latent_channels(self) -> int: ...
    def __call__(self, latents: Float[Tensor, "b c t h w"], /) -> Float[Tensor, "b c t h2 w2"]: ...
    def forward(self, latents: Float[Tensor, "b c t h w"], /) -> Float[Tensor, "b c t h2 w2"]:
        """As above; declared too, since every `nn.Module` is callable with anything."""
        ...


class TransformerShape(Protocol):
    """The part of a transformer's configuration that fixes the sizes of its inputs."""

    @property
    def patch_size(self) -> tuple[int, int, int]: ...
    @property
    def latent_channels(self) -> int: ...
    @property
    def condition_channels(self) -> int: ...
    @property
    def text_width(self) -> int: ...
    @property
    def image_width(self) -> int | None: ...
    @property
    def width(self) -> int: ...
    @property
    def num_heads(self) -> int: ...


class AttentionOp(Protocol):
    """Self-attention of one block; nothing is asked of the site where it happens."""

    def __call__(
        self,
        q: Float[Tensor, "b heads n e"],
        k: Float[Tensor, "b heads n e"],
        v: Float[Tensor, "b heads n e"],
        site: object,
        /,
    ) -> Float[Tensor, "b heads n e"]: ...


class VideoTransformer(Protocol):
    """A video diffusion transformer that lets its self-attention be replaced. Must also be an `nn.Module`.

    Its rotary embedding is that of `wrappers.rotate`, and turns nothing where all positions are zero.
    """

    @property
    def config(self) -> TransformerShape: ...

    def __call__(  # noqa: PLR0913  # the inputs of the network
        self,
        latents: Float[Tensor, "b c t h w"],
        timestep: Float[Tensor, " b"],
        text: Float[Tensor, "b l d"],
        text_mask: Bool[Tensor, "b l"] | None = None,
        *,
        condition: Float[Tensor, "b k t h w"],
        image_tokens: Float[Tensor, "b m e"] | None = None,
        positions: Float[Tensor, "3 nt nh nw"] | None = None,
        attention: AttentionOp = ...,
    ) -> Float[Tensor, "b c t h w"]: ...

    def forward(  # noqa: PLR0913  # as above; declared too, since every `nn.Module` is callable with anything
        self,
        latents: Float[Tensor, "b c t h w"],
        timestep: Float[Tensor, " b"],
        text: Float[Tensor, "b l d"],
        text_mask: Bool[Tensor, "b l"] | None = None,
        *,
        condition: Float[Tensor, "b k t h w"],
        image_tokens: Float[Tensor, "b m e"] | None = None,
        positions: Float[Tensor, "3 nt nh nw"] | None = None,
        attention: AttentionOp = ...,
    ) -> Float[Tensor, "b c t h w"]: ...


class ContentFrameShape(Protocol):
    """What a transformer is shown of a content frame."""

    @property
    def semantic_tokens(self) -> int: ...
    @property
    def semantic_width(self) -> int: ...
    @property
    def content_channels(self) -> int: ...
    @property
    def content_step(self) -> int: ...


class ContentTransformerShape(Protocol):
    """The part of its configuration that fixes the sizes of its inputs."""

    @property
    def patch_size(self) -> tuple[int, int, int]: ...
    @property
    def latent_channels(self) -> int: ...
    @property
    def text_width(self) -> int: ...
    @property
    def content_frame(self) -> ContentFrameShape | None: ...
    @property
    def size_embedding(self) -> bool: ...


class ContentTransformer(Protocol):
    """A video diffusion transformer with absolute positions that is shown a content frame; an `nn.Module` as well."""

    @property
    def config(self) -> ContentTransformerShape: ...

    def __call__(  # noqa: PLR0913  # the inputs of the network
        self,
        latents: Float[Tensor, "b c t h w"],
        timestep: Float[Tensor, " b"],
        text: Float[Tensor, "b l d"],
        text_mask: Bool[Tensor, "b l"] | None = None,
        *,
        semantic: Float[Tensor, "b m e"] | None = None,
        content: Float[Tensor, "b k H W"] | None = None,
        size: Float[Tensor, "b 2"] | None = None,
        positions: Float[Tensor, "3 nt nh nw"] | None = None,
    ) -> Float[Tensor, "b o t h w"]: ...

    def forward(  # noqa: PLR0913  # as above; declared too, since every `nn.Module` is callable with anything
        self,
        latents: Float[Tensor, "b c t h w"],
        timestep: Float[Tensor, " b"],
        text: Float[Tensor, "b l d"],
        text_mask: Bool[Tensor, "b l"] | None = None,
        *,
        semantic: Float[Tensor, "b m e"] | None = None,
        content: Float[Tensor, "b k H W"] | None = None,
        size: Float[Tensor, "b 2"] | None = None,
        positions: Float[Tensor, "3 nt nh nw"] | None = None,
    ) -> Float[Tensor, "b o t h w"]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisRange:
    """The sizes an axis may have, and the one the graph is traced at."""

    minimum: int
    example: int
    maximum: int

    def __post_init__(self) -> None:
        if self.minimum < 1:
            raise ValueError(f"`minimum` must be at least 1, got {self.minimum}; the nearest legal values are 1 and 2")
        if not self.minimum <= self.example <= self.maximum:
            raise ValueError(
                f"`example` must lie between `minimum` {self.minimum} and `maximum` {self.maximum}, got {self.example}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """Shape of one input, and how to draw one for a trace or a comparison."""

    shape: tuple[Size, ...]
    draw: Sampler

    def concrete(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape at these sizes of the axes."""
        return tuple(_concrete(size, sizes) for size in self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exportable:
    """A module with named tensors in and out.

    Attributes:
        name: what messages call it.
        module: in evaluation mode, float32.
        inputs: by the names of the parameters of the module's `forward`, in the order the engine shall list them;
            parameters with a default may be left out.
        outputs: one name per tensor the module returns.
        axes: every axis that a shape names, with its range.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, InputSpec]
    outputs: tuple[str, ...]
    axes: Mapping[str, AxisRange]

    def __post_init__(self) -> None:
        used = {axis for spec in self.inputs.values() for axis in map(_axis_of, spec.shape) if axis is not None}
        if used != set(self.axes):
            raise ValueError(
                f"`axes` must range exactly the axes that `inputs` name, {sorted(used)}; got {sorted(self.axes)}"
            )
        self._check_names()
        self._check_module()

    def _check_names(self) -> None:
        parameters = inspect.signature(self.module.forward).parameters
        unknown = sorted(set(self.inputs) - set(parameters))
        missing = sorted(
            name for name, p in parameters.items() if p.default is inspect.Parameter.empty and name not in self.inputs
        )
        if unknown or missing:
            raise ValueError(
                f"`inputs` must name the parameters of `forward`, {list(parameters)};"
                f" unknown: {unknown}, missing: {missing}"
            )
        if not self.outputs or len({*self.outputs, *self.inputs}) < len(self.outputs) + len(self.inputs):
            raise ValueError(f"`outputs` needs at least one name, none twice and none of an input; got {self.outputs}")

    def _check_module(self) -> None:
        training = [name or "itself" for name, module in self.module.named_modules() if module.training]
        if training:
            raise ValueError(f"`module` is in training mode ({training[0]}); call `.eval()` on the model first")
        for name, tensor in (*self.module.named_parameters(), *self.module.named_buffers()):
            if tensor.is_floating_point() and tensor.dtype != torch.float32:
                raise ValueError(
                    f"`module` holds {name} in {tensor.dtype}; only float32 can be exported and compared so far"
                    " (load the model with `dtype=torch.float32`)"
                )

    @property
    def example_sizes(self) -> dict[str, int]:
        """The sizes the graph is traced at."""
        return {axis: bounds.example for axis, bounds in self.axes.items()}

    def draw_inputs(self, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Tensor]:
        """Inputs at these sizes; a different tensor object for each, the same values for the same seed.

        Raises:
            ValueError: an axis is missing, unknown, or out of its range.
        """
        if set(sizes) != set(self.axes):
            raise ValueError(f"`sizes` must give every axis, {sorted(self.axes)}; got {sorted(sizes)}")
        for axis, size in sizes.items():
            bounds = self.axes[axis]
            if not bounds.minimum <= size <= bounds.maximum:
                raise ValueError(
                    f"`sizes` has {axis} = {size}, legal are {bounds.minimum} to {bounds.maximum};"
                    f" the nearest legal value is {min(max(size, bounds.minimum), bounds.maximum)}"
                )
        generator = torch.Generator().manual_seed(seed)
        return {name: spec.draw(spec.concrete(sizes), generator) for name, spec in self.inputs.items()}

    def dynamic_shapes(self) -> dict[str, dict[int, Dim]]:
        """What `torch.export` wants to know; equal names are one `Dim`, so the graph ties the axes of all inputs."""
        dims = {axis: Dim(axis, min=bounds.minimum, max=bounds.maximum) for axis, bounds in self.axes.items()}
        return {
            name: {
                index: dims[size] if isinstance(size, str) else size[0] * dims[size[1]]
                for index, size in enumerate(spec.shape)
                if not isinstance(size, int)
            }
            for name, spec in self.inputs.items()
        }

    def corner_sizes(self) -> tuple[dict[str, int], ...]:
        """Sizes that show what a trace may have baked in.

        The example; everything at its minimum; each axis alone at its minimum; and two where every axis differs from
        the example (one more, and odd: twice plus one), as far as the maxima allow.
        """
        cases = [self.example_sizes, {axis: bounds.minimum for axis, bounds in self.axes.items()}]
        cases += [self.example_sizes | {axis: bounds.minimum} for axis, bounds in self.axes.items()]
        for factor in (1, 2):
            cases.append({axis: min(factor * bounds.example + 1, bounds.maximum) for axis, bounds in self.axes.items()})
        return tuple(case for index, case in enumerate(cases) if case not in cases[:index])


def _axis_of(size: Size) -> str | None:
    if isinstance(size, int):
        return None
    return size if isinstance(size, str) else size[1]


def _concrete(size: Size, sizes: Mapping[str, int]) -> int:
    if isinstance(size, int):
        return size
    return sizes[size] if isinstance(size, str) else size[0] * sizes[size[1]]
