"""A TensorRT engine that runs on torch's memory and torch's stream."""

from collections.abc import Callable, Mapping
from typing import final

import torch
from torch import Tensor

from fastvid_export.backends.trt_api import TrtApi
from fastvid_export.errors import EngineError
from fastvid_export.record import EngineRecord

Key = tuple[int, tuple[tuple[tuple[int, ...], int], ...]]
"""Profile, and shape and address of every input: what a recorded CUDA graph is good for."""


@final
class ActivationMemory:
    """Scratch memory that the engines of a pipeline share, as they run one after another on one stream."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._buffer = torch.empty(0, dtype=torch.uint8, device=device)

    def of(self, size: int) -> Tensor:
        """At least `size` bytes; grows to the largest that was asked for."""
        if self._buffer.numel() < size:
            self._buffer = torch.empty(0, dtype=torch.uint8, device=self.device)  # frees the old one first
            self._buffer = torch.empty(size, dtype=torch.uint8, device=self.device)
        return self._buffer


@final
class TrtEngine:
    """A deserialised plan.

    Args:
        api: the TensorRT that loaded it.
        record: what it was built for.
        plan: its bytes.
        memory: shared with other engines of the same stream.
        stream: handle of the stream to run on, asked at each call.
        cuda_graphs: record the launch of each new choice of profile, shapes and addresses, and replay it when all of
            them come again; pays where shapes and buffers stay the same, and costs memory for each that does not.
    Raises:
        EngineError: the plan cannot be loaded, or has other tensors than its record says.
    """

    def __init__(
        self,
        api: TrtApi,
        record: EngineRecord,
        plan: bytes,
        *,
        memory: ActivationMemory,
        stream: Callable[[], int],
        cuda_graphs: bool = False,
    ) -> None:
        self._api, self._record, self._memory, self._stream = api, record, memory, stream
        self._engine = api.load(plan)
        taken, given = api.tensors(self._engine)
        recorded = {tensor.name: tensor.dtype for tensor in record.inputs}
        if taken != recorded or set(given) != set(record.outputs):
            raise EngineError(
                f"the plan takes {taken} and gives {sorted(given)}; its record says {recorded} and"
                f" {sorted(record.outputs)}"
            )
        if self._engine.num_optimization_profiles != len(record.profiles):
            raise EngineError(
                f"the plan has {self._engine.num_optimization_profiles} profiles, its record {len(record.profiles)}"
            )
        self._types = {name: getattr(torch, dtype) for name, dtype in given.items()}
        self._context = api.make_context(self._engine)
        self._profile: int | None = None
        self._graphs: dict[Key, tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Tensor]] | None = (
            {} if cuda_graphs else None
        )

    def __call__(self, inputs: Mapping[str, Tensor], profile: int, /) -> tuple[Tensor, ...]:
        held = {name: tensor.to(self._memory.device).contiguous() for name, tensor in inputs.items()}
        if self._graphs is not None:
            return self._replay(held, profile)
        return self._launch(held, profile)

    def _launch(self, inputs: Mapping[str, Tensor], profile: int) -> tuple[Tensor, ...]:
        context, stream = self._context, self._stream()
        if profile != self._profile:
            if not context.set_optimization_profile_async(profile, stream):
                raise EngineError(f"{self._api.kind} refuses profile {profile} of the {self._record.name} engine")
            self._profile = profile
        for name, tensor in inputs.items():
            if not context.set_input_shape(name, tuple(tensor.shape)):
                raise EngineError(f"{self._api.kind} refuses shape {tuple(tensor.shape)} for `{name}`")
            context.set_tensor_address(name, tensor.data_ptr())
        if unknown := context.infer_shapes():
            raise EngineError(f"{self._api.kind} cannot tell the shapes of {list(unknown)}")
        size = context.update_device_memory_size_for_shapes()
        scratch = self._memory.of(size)
        context.set_device_memory(scratch.data_ptr(), size)
        outputs = []
        for name in self._record.outputs:
            shape = tuple(context.get_tensor_shape(name))
            outputs.append(torch.empty(shape, dtype=self._types[name], device=self._memory.device))
            context.set_tensor_address(name, outputs[-1].data_ptr())
        if not context.execute_async_v3(stream):
            raise EngineError(f"{self._api.kind} could not run the {self._record.name} engine")
        for tensor in (*inputs.values(), scratch):
            if tensor.is_cuda:  # may be freed by the caller before the stream gets here
                tensor.record_stream(torch.cuda.current_stream(tensor.device))
        return tuple(outputs)

    def _replay(self, inputs: Mapping[str, Tensor], profile: int) -> tuple[Tensor, ...]:
        assert self._graphs is not None
        key = profile, tuple((tuple(tensor.shape), tensor.data_ptr()) for tensor in inputs.values())
        if key not in self._graphs:
            self._launch(inputs, profile)  # all that is set up on a first run must not be recorded
            torch.cuda.synchronize(self._memory.device)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                outputs = self._launch(inputs, profile)
            self._graphs[key] = graph, outputs, self._memory.of(0)  # which a replay writes to, and others may outgrow
        graph, outputs, _ = self._graphs[key]
        graph.replay()
        return tuple(output.clone() for output in outputs)  # the next replay writes to the same memory
