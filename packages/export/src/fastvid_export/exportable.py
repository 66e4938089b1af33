"""What can be exported: a module, how its inputs look, and which of their sizes may change."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim

Size = int | str | tuple[int, str] | tuple[int, str, int]
"""A fixed size, the name of an axis, or a whole multiple of one and a remainder: `(16, "h")` is 16 h, and
`(4, "t", -3)` is 4 t - 3."""

SIXTEEN_BITS = (torch.float16, torch.bfloat16)

Sampler = Callable[[Sequence[int], torch.Generator], Tensor]
"""Draws a plausible input of the given shape."""


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
    """Shape and type of one input, and how to draw one for a trace or a comparison."""

    shape: tuple[Size, ...]
    draw: Sampler
    dtype: torch.dtype = torch.float32

    def concrete(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape at these sizes of the axes."""
        return concrete_shape(self.shape, sizes)

    def sample(self, sizes: Mapping[str, int], generator: torch.Generator) -> Tensor:
        """One such input."""
        return self.draw(self.concrete(sizes), generator).to(self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSpec:
    """Shape of one input of indices, int32.

    Attributes:
        shape: as of any input.
        below: axes; indices run from 0 to the product of their sizes, which is the first illegal one.
    """

    shape: tuple[Size, ...]
    below: tuple[str, ...]

    @property
    def dtype(self) -> torch.dtype:
        return torch.int32

    def concrete(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape at these sizes of the axes."""
        return concrete_shape(self.shape, sizes)

    def sample(self, sizes: Mapping[str, int], generator: torch.Generator) -> Tensor:
        """Any legal indices, some of them more than once."""
        end = math.prod(sizes[axis] for axis in self.below)
        return torch.randint(end, self.concrete(sizes), generator=generator, dtype=self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exportable:
    """A module with named tensors in and out.

    Attributes:
        name: what messages call it.
        module: in evaluation mode; float32, or with one 16-bit type in it, see `precision`.
        inputs: by the names of the parameters of the module's `forward`, in the order the engine shall list them;
            parameters with a default may be left out.
        outputs: one name per tensor the module returns.
        axes: every axis that a shape names, with its range.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, InputSpec | IndexSpec]
    outputs: tuple[str, ...]
    axes: Mapping[str, AxisRange]

    def __post_init__(self) -> None:
        shapes = [spec.shape for spec in self.inputs.values()]
        used = {axis for shape in shapes for _, axis, _ in map(parts_of, shape) if axis is not None}
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
        precision_of(self.module)

    @property
    def precision(self) -> torch.dtype:
        """What the module computes in; islands of float32 in a 16-bit module do not count."""
        return precision_of(self.module)

    @property
    def device(self) -> torch.device:
        """Where the module lies."""
        return next((tensor.device for tensor in self.module.parameters()), torch.device("cpu"))

    @property
    def example_sizes(self) -> dict[str, int]:
        """The sizes the graph is traced at."""
        return {axis: bounds.example for axis, bounds in self.axes.items()}

    def draw_inputs(self, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Tensor]:
        """Inputs at these sizes, where the module lies; a tensor object for each, the same values for the same seed.

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
        return {name: spec.sample(sizes, generator).to(self.device) for name, spec in self.inputs.items()}

    def dynamic_shapes(self) -> dict[str, dict[int, Dim]]:
        """What `torch.export` wants to know; equal names are one `Dim`, so the graph ties the axes of all inputs."""
        dims = {axis: Dim(axis, min=bounds.minimum, max=bounds.maximum) for axis, bounds in self.axes.items()}
        return {
            name: {
                index: _dim(dims[axis], factor, remainder)
                for index, (factor, axis, remainder) in enumerate(map(parts_of, spec.shape))
                if axis is not None
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


def precision_of(module: object) -> torch.dtype:
    """float16 or bfloat16 if any weight of the module has that type, else float32.

    Raises:
        ValueError: another type, or two 16-bit types at once.
    """
    found = torch.float32
    assert isinstance(module, nn.Module)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if not tensor.is_floating_point() or tensor.dtype in (torch.float32, found):
            continue
        if tensor.dtype not in SIXTEEN_BITS or found in SIXTEEN_BITS:
            raise ValueError(
                f"`module` holds {name} in {tensor.dtype}; a graph has float32 and one of float16 and bfloat16"
                " (load the model with `dtype=torch.float32`, for example)"
            )
        found = tensor.dtype
    return found


def concrete_shape(shape: Sequence[Size], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """What a shape with axes is at these sizes of them."""
    return tuple(_concrete(size, sizes) for size in shape)


def parts_of(size: Size) -> tuple[int, str | None, int]:
    """Factor, axis and remainder of a size; a fixed size is a remainder alone."""
    if isinstance(size, int):
        return 0, None, size
    if isinstance(size, str):
        return 1, size, 0
    return size if len(size) == 3 else (*size, 0)


def _dim(dim: Dim, factor: int, remainder: int) -> Dim:
    """Torch wants neither a product with 1 nor a sum with 0."""
    multiple = dim if factor == 1 else factor * dim
    return multiple if remainder == 0 else multiple + remainder


def _concrete(size: Size, sizes: Mapping[str, int]) -> int:
    factor, axis, remainder = parts_of(size)
    return remainder if axis is None else factor * sizes[axis] + remainder
