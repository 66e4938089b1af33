"""A TensorRT engine that runs on torch's memory and torch's stream."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from fastvid_export.activation_memory import ActivationMemory
from fastvid_export.backends.trt_api import TrtApi
from fastvid_export.errors import EngineError
from fastvid_export.record import EngineRecord

Key = tuple[int, tuple[tuple[int, ...], ...]]
"""Profile, and shape of every input: what a recorded CUDA graph is good for."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A CUDA graph, and the memory that each of its replays reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: Mapping[str, Tensor]
    outputs: tuple[Tensor, ...]
    scratch: Tensor


@final
class TrtEngine:
    """A deserialised plan.

    Args:
        api: the TensorRT that loaded it.
        record: what it was built for.
        plan: its bytes.
        device: where it runs.
        memory: shared with other engines of the same stream.
        stream: handle of the stream to run on, asked at each call.
        cuda_graphs: record the launch at each new choice of profile and shapes, and replay it when they come again, on
            copies of the inputs; pays where launches take long beside the work, and keeps memory for each choice.
    Raises:
        EngineError: the plan cannot be loaded, or has other tensors than its record says.
    """

    def __init__(
        self,
        api: TrtApi,
        record: EngineRecord,
        plan: bytes,
        *,
        device: torch.device,
        memory: ActivationMemory,
        stream: Callable[[], int],
        cuda_graphs: bool = False,
    ) -> None:
        self._api, self._record, self._device, self._memory, self._stream = api, record, device, memory, stream
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
        self._graphs: dict[Key, Recorded] | None = {} if cuda_graphs else None

    def __call__(self, inputs: Mapping[str, Tensor], profile: int, /) -> tuple[Tensor, ...]:
        held = {name: tensor.to(self._device).contiguous() for name, tensor in inputs.items()}
        if self._graphs is not None:
            return self._replay(self._graphs, held, profile)
        outputs, scratch = self._launch(held, profile)
        for tensor in (*held.values(), scratch):
            if tensor.is_cuda:  # may be freed by the caller before the stream gets here
                tensor.record_stream(torch.cuda.current_stream(tensor.device))
        return outputs

    def _launch(self, inputs: Mapping[str, Tensor], profile: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """The outputs, once the stream gets here, and the scratch memory that they are computed in."""
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
        scratch = self._memory.of(size, self._device)
        context.set_device_memory(scratch.data_ptr(), size)
        outputs = []
        for name in self._record.outputs:
            shape = tuple(context.get_tensor_shape(name))
            outputs.append(torch.empty(shape, dtype=self._types[name], device=self._device))
            context.set_tensor_address(name, outputs[-1].data_ptr())
        if not context.execute_async_v3(stream):
            raise EngineError(f"{self._api.kind} could not run the {self._record.name} engine")
        return tuple(outputs), scratch

    def _replay(self, graphs: dict[Key, Recorded], inputs: Mapping[str, Tensor], profile: int) -> tuple[Tensor, ...]:
        key = profile, tuple(tuple(tensor.shape) for tensor in inputs.values())
        if key not in graphs:
            graphs[key] = self._recorded({name: tensor.clone() for name, tensor in inputs.items()}, profile)
        recorded = graphs[key]
        for name, tensor in inputs.items():
            recorded.inputs[name].copy_(tensor)
        recorded.graph.replay()
        return tuple(output.clone() for output in recorded.outputs)  # the next replay writes to the same memory

    def _recorded(self, inputs: Mapping[str, Tensor], profile: int) -> Recorded:
        self._launch(inputs, profile)  # all that is set up on a first run must not be recorded
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs, scratch = self._launch(inputs, profile)
        return Recorded(graph=graph, inputs=inputs, outputs=outputs, scratch=scratch)
