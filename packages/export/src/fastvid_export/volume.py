"""How large tensors get inside a module, found without allocating them: some engines stop at 2^31 - 1 elements."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from fastvid_export.exportable import Exportable
from fastvid_export.profile import Profile

MAX_ELEMENTS = 2**31 - 1
"""Of an input or output of a convolution, a matrix product or a top-k.

Source: TensorRT's documentation for the first and the last, reports of its users for the second.
"""

LIMITED = frozenset(
    {
        torch.ops.aten.convolution,
        torch.ops.aten.mm,
        torch.ops.aten.addmm,
        torch.ops.aten.bmm,
        torch.ops.aten.baddbmm,
        torch.ops.aten.topk,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeTensor:
    """One tensor over the limit: of which operator, its shape, and its number of elements."""

    operator: str
    shape: tuple[int, ...]
    elements: int

    def describe(self) -> str:
        """One line for people."""
        return f"{self.operator} {self.shape}: {self.elements:.2e} elements"


def large_tensors(
    exportable: Exportable, sizes: Mapping[str, int], *, limit: int = MAX_ELEMENTS
) -> tuple[LargeTensor, ...]:
    """Tensors of convolutions, matrix products and top-k over the limit, the largest first; nothing is allocated.

    The inside of attention does not count: engines compute it in one kernel, or refuse to.

    Args:
        exportable: its module may lie on the meta device.
        sizes: of each axis; may lie outside the exportable's ranges, where a plan asks how far they can go.
    """
    recorder = _Recorder(limit)
    _run_fake(exportable, sizes, recorder)
    return tuple(sorted(recorder.found, key=lambda tensor: -tensor.elements))


def check_volume(exportable: Exportable, profiles: Sequence[Profile], *, limit: int = MAX_ELEMENTS) -> None:
    """No profile reaches sizes at which a tensor exceeds the limit.

    Raises:
        ValueError: one does; with the tensor, and how far each axis alone would have to shrink.
    """
    for profile in profiles:
        found = large_tensors(exportable, profile.maximum, limit=limit)
        if not found:
            continue
        fitting = {
            axis: largest_that_fits(exportable, profile.maximum, axis, limit=limit)
            for axis, bounds in profile.axes.items()
            if bounds.maximum > 1
        }
        ways = ", ".join(f"{axis} = {size}" for axis, size in fitting.items() if size)
        raise ValueError(
            f"`profiles` reaches {profile.maximum} in {profile.name!r}, where {len(found)} tensors of the"
            f" {exportable.name} exceed {limit} elements ({found[0].describe()}); what fits, one axis alone:"
            f" {ways or 'none, so change several'}"
        )


def largest_that_fits(
    exportable: Exportable, sizes: Mapping[str, int], axis: str, *, limit: int = MAX_ELEMENTS
) -> int | None:
    """The largest size of one axis, the others as given, up to its own there, with no tensor over the limit.

    None: not even size 1. Takes for granted that a smaller size never makes a tensor larger.
    """

    def fits(size: int) -> bool:
        return not large_tensors(exportable, {**sizes, axis: size}, limit=limit)

    if fits(sizes[axis]):
        return sizes[axis]
    low, high = 0, sizes[axis]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low or None


def output_shapes(exportable: Exportable, sizes: Mapping[str, int]) -> tuple[Tensor, ...]:
    """What the module returns at these sizes: tensors with a shape and a type, and no values."""
    return _run_fake(exportable, sizes, _Recorder(MAX_ELEMENTS))


def _run_fake(exportable: Exportable, sizes: Mapping[str, int], recorder: "_Recorder") -> tuple[Tensor, ...]:
    device = next(exportable.module.parameters()).device
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), _AttentionByShape(), recorder:
        inputs = {
            name: torch.empty(spec.concrete(sizes), dtype=spec.dtype, device=device)
            for name, spec in exportable.inputs.items()
        }
        returned = exportable.module(**inputs)
    return (returned,) if isinstance(returned, Tensor) else tuple(returned)


class _Recorder(TorchDispatchMode):
    """Notes what limited operators take and give.

    A check of a value, which models make of what they are given, finds zero: there are no values.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.limit = limit
        self.found: list[LargeTensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 0
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in LIMITED:
            results = result if isinstance(result, tuple | list) else (result,)
            for tensor in (*args, *results):
                if isinstance(tensor, Tensor) and tensor.numel() > self.limit:
                    name = func.overloadpacket.__name__
                    self.found.append(LargeTensor(operator=name, shape=tuple(tensor.shape), elements=tensor.numel()))
        return result


class _AttentionByShape(TorchFunctionMode):
    """Attention gives what has the right shape, so that its scores are never made."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            given = dict(zip(("query", "key", "value"), args, strict=False)) | (kwargs or {})
            query, value = given["query"], given["value"]
            return query.new_empty((*query.shape[:-1], value.shape[-1]))
        return func(*args, **(kwargs or {}))
