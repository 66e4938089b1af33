"""Engines that are ONNX graphs, run by onnxruntime: on the CPU, by CUDA, or by TensorRT inside onnxruntime."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from fastvid_export.backend import Cases, Prepared
from fastvid_export.backends.gpu import current_gpu, this_gpu
from fastvid_export.backends.onnx_graph import prepare_onnx
from fastvid_export.errors import EngineError
from fastvid_export.exportable import Exportable
from fastvid_export.onnx import Flavour
from fastvid_export.profile import Profile
from fastvid_export.record import EngineRecord, TensorRecord
from fastvid_export.runtime import import_onnxruntime
from fastvid_export.volume import MAX_ELEMENTS

Provider = Literal["cpu", "cuda", "tensorrt"]

PROVIDERS: dict[Provider, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxRuntime:
    """onnxruntime as a backend.

    Attributes:
        provider: what computes. `tensorrt` builds an engine on its first run at each profile, and keeps it beside the
            graph.
        flavour: of the graph; TensorRT inside onnxruntime cuts the fused one into pieces, so portable is the default.
    """

    provider: Provider = "cpu"
    flavour: Flavour = "portable"

    def __post_init__(self) -> None:
        if self.provider not in PROVIDERS:
            raise ValueError(f"`provider` must be one of {', '.join(PROVIDERS)}; got {self.provider!r}")

    @property
    def name(self) -> str:
        return "onnxruntime"

    @property
    def volume_limit(self) -> int | None:
        return MAX_ELEMENTS if self.provider == "tensorrt" else None

    def version(self) -> str:
        return str(import_onnxruntime().__version__)

    def target(self) -> tuple[str, ...]:
        return target_of(self.provider)

    def options(self) -> dict[str, str | int | bool]:
        return {"provider": self.provider}

    def runs_here(self) -> bool:
        return PROVIDERS[self.provider] in import_onnxruntime().get_available_providers()

    def prepare(self, exportable: Exportable, folder: Path, cases: Cases | None) -> Prepared:
        return prepare_onnx(exportable, folder, self.flavour, cases)

    def compile(
        self, prepared: Prepared, inputs: Sequence[TensorRecord], profiles: Sequence[Profile], folder: Path
    ) -> tuple[Path, ...]:
        return prepared.files


def target_of(provider: Provider) -> tuple[str, ...]:
    """Where a graph runs: any machine of this kind, or the GPU that is here."""
    if provider == "cpu":
        return "cpu", platform.machine()
    gpu = this_gpu()
    if gpu is None:
        raise EngineError(f"`provider` is {provider!r}, and there is no GPU here; 'cpu' would run")
    return gpu


def provider_options(provider: Provider, record: EngineRecord, cache: Path, gpu: int | None) -> dict[str, str]:
    """What onnxruntime is told; for TensorRT the shapes of every profile, in the form `x:1x4x8x8,y:1`."""
    if provider == "cpu":
        return {}
    options = {"device_id": str(gpu)}
    if provider == "tensorrt":
        options |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": "1",
            "trt_bf16_enable": str(int(record.precision == "bfloat16")),
            "trt_fp16_enable": str(int(record.precision == "float16")),
        }
        for end in ("min", "opt", "max"):
            options[f"trt_profile_{end}_shapes"] = ",".join(
                f"{tensor.name}:{'x'.join(str(size) for size in tensor.concrete(_sizes(profile, end)))}"
                for profile in record.profiles
                for tensor in record.inputs
            )
    return options


def _sizes(profile: Profile, end: str) -> dict[str, int]:
    return {"min": profile.minimum, "opt": profile.example, "max": profile.maximum}[end]


@final
class OnnxRuntimeEngine:
    """A graph in onnxruntime, on torch's memory.

    Args:
        record: of an `onnxruntime` engine.
        path: the graph.
    Raises:
        EngineError: onnxruntime cannot load it.
    """

    def __init__(self, record: EngineRecord, path: Path) -> None:
        onnxruntime = import_onnxruntime()
        provider = _provider(record)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # failures are raised, with the same text
        options.intra_op_num_threads = torch.get_num_threads()
        self.device = torch.device("cpu") if provider == "cpu" else current_gpu()
        chosen = (PROVIDERS[provider], provider_options(provider, record, path.parent, self.device.index))
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=[chosen])
        except Exception as error:  # onnxruntime's exceptions have no base class of their own
            raise EngineError(f"onnxruntime cannot load {path.name}: {error}") from error
        if PROVIDERS[provider] not in self._session.get_providers():  # it falls back to the CPU without a word
            raise EngineError(f"onnxruntime cannot compute by {PROVIDERS[provider]} here")
        self._outputs = record.outputs

    def __call__(self, inputs: Mapping[str, Tensor], profile: int, /) -> tuple[Tensor, ...]:
        binding = self._session.io_binding()
        index = self.device.index or 0
        held = {name: tensor.detach().to(self.device).contiguous() for name, tensor in inputs.items()}
        for name, tensor in held.items():
            binding.bind_input(
                name, self.device.type, index, _element_type(tensor), tuple(tensor.shape), tensor.data_ptr()
            )
        for name in self._outputs:
            binding.bind_output(name, self.device.type, index)
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()  # onnxruntime computes on a stream of its own
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # as above
            raise EngineError(f"onnxruntime: {error}") from error
        return tuple(from_dlpack(value._ortvalue) for value in binding.get_outputs())


def load(record: EngineRecord, folder: Path) -> OnnxRuntimeEngine:
    """The engine of a record that was checked."""
    provider, installed = _provider(record), str(import_onnxruntime().__version__)
    if record.backend_version != installed:
        raise EngineError(f"the engine was built for onnxruntime {record.backend_version}, installed is {installed}")
    wanted = target_of(provider)
    if wanted != record.target:
        raise EngineError(f"the engine was built for {' '.join(record.target)}, this is {' '.join(wanted)}")
    return OnnxRuntimeEngine(record, folder / record.files[0].name)


def _provider(record: EngineRecord) -> Provider:
    provider = record.options.get("provider")
    for known in PROVIDERS:
        if known == provider:
            return known
    raise EngineError(f"the engine wants the provider {provider!r} of onnxruntime; known are {', '.join(PROVIDERS)}")


def _element_type(tensor: Tensor) -> Any:
    import onnx

    names = {
        torch.float32: "FLOAT",
        torch.float16: "FLOAT16",
        torch.bfloat16: "BFLOAT16",
        torch.int32: "INT32",
        torch.int64: "INT64",
        torch.bool: "BOOL",
    }
    return onnx.TensorProto.DataType.Value(names[tensor.dtype])
