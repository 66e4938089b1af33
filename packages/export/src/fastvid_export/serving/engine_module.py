"""One engine in the place of one call of an eager module, and what happens where the engine cannot take it."""

import logging
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar, final, get_args

import torch
from torch import Tensor

from fastvid_export.errors import EngineError
from fastvid_export.guard import sizes_of
from fastvid_export.load import LoadedEngine
from fastvid_export.profile import smallest_that_holds

logger = logging.getLogger(__name__)

Fallback = Literal["error", "eager"]
"""What becomes of a call that no engine can take, and of an engine that cannot be loaded: an `EngineError`, or one
warning and the eager module."""

T = TypeVar("T")


def check_fallback(fallback: str) -> None:
    """Refuse any other word.

    Raises:
        ValueError: not a `Fallback`.
    """
    if fallback not in get_args(Fallback):
        raise ValueError(f"`fallback` is {fallback!r}; expected one of {', '.join(get_args(Fallback))}")


@final
class EngineModule:
    """An engine, called with the names of its inputs; tensors are cast to the types that it was built for.

    Args:
        loaded: from `load_engine`.
    """

    def __init__(self, loaded: LoadedEngine) -> None:
        self.record = loaded.record
        self._engine = loaded.engine
        self._dtypes = {tensor.name: getattr(torch, tensor.dtype) for tensor in loaded.record.inputs}

    @property
    def index_inputs(self) -> tuple[str, ...]:
        """Names of the inputs that are indices."""
        return tuple(name for name, dtype in self._dtypes.items() if dtype == torch.int32)

    def takes(self, name: str) -> bool:
        """Whether the engine has an input of this name."""
        return name in self._dtypes

    def num_axes(self, name: str) -> int:
        """Of an input that it has."""
        return next(len(tensor.shape) for tensor in self.record.inputs if tensor.name == name)

    def __call__(self, inputs: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
        """Outputs by name.

        A batch, axis b, that no profile holds is run in parts of as equal size as can be, if one holds these.

        Args:
            inputs: by name; None: there is none, and the engine must not ask for it.
        Raises:
            EngineError: the engine was not built for these inputs.
        """
        given = {name: tensor for name, tensor in inputs.items() if tensor is not None}
        for name, tensor in given.items():  # a mask to be added, say, is no mask of what counts
            if name in self._dtypes and tensor.is_floating_point() != self._dtypes[name].is_floating_point:
                raise EngineError(f"`{name}` is {tensor.dtype}, the engine takes {self._dtypes[name]}")
        cast = {name: tensor.to(self._dtypes.get(name, tensor.dtype)) for name, tensor in given.items()}
        parts = [self._engine(part) for part in self._parts(cast)]
        outputs = parts[0] if len(parts) == 1 else [torch.cat(pieces) for pieces in zip(*parts, strict=True)]
        return dict(zip(self.record.outputs, outputs, strict=True))

    def _parts(self, inputs: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """The inputs of each call; what has no axis b, such as rotary tables, goes into every one of them."""
        cut = {tensor.name: tensor.shape.index("b") for tensor in self.record.inputs if "b" in tensor.shape}
        if not cut or inputs.keys() != self._dtypes.keys():
            return [inputs]  # for the engine, which says what is wrong
        sizes = sizes_of(self.record.inputs, inputs)

        def held(batch: int) -> bool:
            return smallest_that_holds(self.record.profiles, {**sizes, "b": batch}) is not None

        whole = sizes["b"]
        for count in range(1, whole + 1):
            if held(whole // count) and held(-(-whole // count)):
                pieces = {name: inputs[name].tensor_split(count, dim) for name, dim in cut.items()}
                return [{**inputs, **{name: pieces[name][part] for name in cut}} for part in range(count)]
        return [inputs]


@final
class Policy:
    """Calls an engine, and the eager module where that may and must take its place.

    Args:
        fallback: see `Fallback`.
        part: of the model, for messages.
    """

    def __init__(self, fallback: Fallback, part: str) -> None:
        check_fallback(fallback)
        self._fallback = fallback
        self._part = part
        self._said: set[str] = set()

    def call(self, by_engine: Callable[[], T], by_eager: Callable[[], T]) -> T:
        """What the engine gives; where it refuses, what the policy says.

        Raises:
            EngineError: the engine refused, and the policy is 'error'.
        """
        try:
            return by_engine()
        except EngineError as error:
            if self._fallback == "error":
                raise
            reason = str(error)
        if reason not in self._said:
            self._said.add(reason)
            logger.warning("the %s runs eagerly, without its engine: %s", self._part, reason)
        return by_eager()
