"""Between the caller and an engine: only inputs that the engine was built for get through."""

from collections.abc import Mapping, Sequence
from typing import Protocol, final

import torch
from torch import Tensor

from fastvid_export.errors import EngineError
from fastvid_export.exportable import Size, parts_of
from fastvid_export.profile import Profile, smallest_that_holds
from fastvid_export.record import EngineRecord, TensorRecord


class RawEngine(Protocol):
    """What a backend loads: it runs the inputs in the profile of this index, and checks nothing."""

    def __call__(self, inputs: Mapping[str, Tensor], profile: int, /) -> tuple[Tensor, ...]: ...


@final
class GuardedEngine:
    """An engine that refuses what it was not built for, with the reason.

    Args:
        record: what it was built for.
        raw: runs inputs that passed.
    """

    def __init__(self, record: EngineRecord, raw: RawEngine) -> None:
        self._record, self._raw = record, raw
        self.inputs = tuple(tensor.name for tensor in record.inputs)
        self.outputs = record.outputs

    def __call__(self, inputs: Mapping[str, Tensor], /) -> tuple[Tensor, ...]:
        """Run the engine, in the smallest profile that holds the inputs.

        Args:
            inputs: by name, all of them and no others.
        Raises:
            EngineError: names, types or shapes are not the engine's, or no profile holds the sizes.
        """
        profile = self.profile_of(inputs)
        return self._raw({name: inputs[name] for name in self.inputs}, profile)

    def profile_of(self, inputs: Mapping[str, Tensor]) -> int:
        """Index of the profile that the inputs run in; raises as a call does."""
        record = self._record
        if set(inputs) != set(self.inputs):
            raise EngineError(
                f"the {record.name} engine takes {', '.join(self.inputs)};"
                f" unknown: {sorted(set(inputs) - set(self.inputs))}, missing: {sorted(set(self.inputs) - set(inputs))}"
            )
        for tensor in record.inputs:
            dtype = type_name(inputs[tensor.name].dtype)
            if dtype != tensor.dtype:
                raise EngineError(f"`{tensor.name}` is {dtype}, the {record.name} engine was built for {tensor.dtype}")
        sizes = sizes_of(record.inputs, inputs)
        chosen = smallest_that_holds(record.profiles, sizes)
        if chosen is None:
            raise EngineError(f"the {record.name} engine was not built for {_outside(record.profiles, sizes)}")
        return chosen


def sizes_of(specs: Sequence[TensorRecord], inputs: Mapping[str, Tensor]) -> dict[str, int]:
    """The size of each axis, from shapes that agree on it.

    Raises:
        EngineError: a shape is not as recorded, or two shapes want an axis in two sizes.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for spec in specs:
        shape = tuple(inputs[spec.name].shape)
        if len(shape) != len(spec.shape):
            raise EngineError(f"`{spec.name}` has shape {shape}, expected {shown(spec.shape)}")
        for length, size in zip(shape, spec.shape, strict=True):
            factor, axis, remainder = parts_of(size)
            if axis is None:
                if length != remainder:
                    raise EngineError(f"`{spec.name}` has shape {shape}, expected {shown(spec.shape)}")
                continue
            whole = (length - remainder) // factor
            if factor * whole != length - remainder:
                low = max(whole, 1) * factor + remainder
                raise EngineError(
                    f"`{spec.name}` has shape {shape}, expected {shown(spec.shape)}: {length} is not"
                    f" {shown([size])[1:-1]} for any {axis}; the nearest legal values are {low} and {low + factor}"
                )
            found, where = sizes.setdefault(axis, (whole, spec.name))
            if found != whole:
                raise EngineError(
                    f"`{spec.name}` has shape {shape}, so {axis} = {whole}; `{where}` has {axis} = {found}"
                )
    return {axis: size for axis, (size, _) in sizes.items()}


def type_name(dtype: torch.dtype) -> str:
    """Such as `float16`."""
    return str(dtype).removeprefix("torch.")


def shown(shape: Sequence[Size]) -> str:
    """A shape with axes, for messages: (b, 4, 2 h, 4 t - 3)."""
    return f"({', '.join(map(_shown, shape))})"


def _shown(size: Size) -> str:
    factor, axis, remainder = parts_of(size)
    if axis is None:
        return str(remainder)
    multiple = axis if factor == 1 else f"{factor} {axis}"
    return multiple if remainder == 0 else f"{multiple} {'+' if remainder > 0 else '-'} {abs(remainder)}"


def _outside(profiles: Sequence[Profile], sizes: Mapping[str, int]) -> str:
    lines = []
    for profile in profiles:
        wrong = [
            f"{axis} = {size} ({bounds.minimum} to {bounds.maximum})"
            for axis, size in sizes.items()
            if not (bounds := profile.axes[axis]).minimum <= size <= bounds.maximum
        ]
        lines.append(f"{', '.join(wrong)} of its profile {profile.name!r}")
    return "; ".join(lines)
