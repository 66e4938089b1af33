"""Engines by TensorRT, for data centres, and by TensorRT-RTX; built in a process of their own."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from fastvid_export.activation_memory import ActivationMemory
from fastvid_export.backend import Cases, Prepared
from fastvid_export.backends.gpu import current_gpu, this_gpu
from fastvid_export.backends.onnx_graph import prepare_onnx
from fastvid_export.backends.trt_api import BuilderOptions, Kind, load_api
from fastvid_export.backends.trt_engine import TrtEngine
from fastvid_export.child_process import run_child
from fastvid_export.errors import BuildError, EngineError
from fastvid_export.exportable import Exportable
from fastvid_export.onnx import Flavour
from fastvid_export.profile import Profile
from fastvid_export.record import EngineRecord, TensorRecord
from fastvid_export.volume import MAX_ELEMENTS

RTX_CAPABILITIES = (80, 89, 120)
"""Ampere, Ada and Blackwell; there is no 90: an H100 needs the TensorRT for data centres."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRT:
    """TensorRT as a backend.

    Attributes:
        kind: `tensorrt` builds for the GPU that is here; `tensorrt_rtx` for GPUs that need not be here.
        flavour: of the graph. Attention in the fused one has kernels for 16-bit types only.
        compute_capabilities: of TensorRT-RTX; 89 is 8.9.
        workspace: bytes of scratch memory that a layer may take; None: all there is.
        optimization_level: 0 to 5; None: TensorRT's default.
        tf32: whether float32 may lose mantissa bits in matrix products.
        timing_cache: file that keeps measured times from one build to the next, for data centres only.
    """

    kind: Kind
    flavour: Flavour = "fused"
    compute_capabilities: tuple[int, ...] = ()
    workspace: int | None = None
    optimization_level: int | None = None
    tf32: bool = False
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        if self.kind == "tensorrt" and self.compute_capabilities:
            raise ValueError("`compute_capabilities` has no effect with 'tensorrt', which builds for the GPU here")
        if self.kind == "tensorrt_rtx":
            if not self.compute_capabilities:
                raise ValueError(
                    f"`compute_capabilities` must name the GPUs to build for; all common ones: {RTX_CAPABILITIES}"
                )
            if self.timing_cache is not None:
                raise ValueError("`timing_cache` has no effect with 'tensorrt_rtx', which measures nothing")
        if self.optimization_level is not None and not 0 <= self.optimization_level <= 5:
            raise ValueError(
                f"`optimization_level` must be 0 to 5, got {self.optimization_level};"
                f" the nearest legal value is {min(max(self.optimization_level, 0), 5)}"
            )
        if self.workspace is not None and self.workspace < 1:
            raise ValueError(f"`workspace` must be a number of bytes above 0, got {self.workspace}")

    @property
    def name(self) -> str:
        return self.kind

    @property
    def volume_limit(self) -> int | None:
        return MAX_ELEMENTS

    def version(self) -> str:
        return load_api(self.kind).version

    def target(self) -> tuple[str, ...]:
        if self.kind == "tensorrt_rtx":
            return tuple(f"sm{capability}" for capability in sorted(self.compute_capabilities))
        gpu = this_gpu()
        if gpu is None:
            raise BuildError("TensorRT for data centres builds on the GPU it builds for, and there is none here")
        return gpu

    def options(self) -> dict[str, str | int | bool]:
        given = {
            "workspace": self.workspace,
            "optimization_level": self.optimization_level,
            "tf32": self.tf32,
        }
        return {name: value for name, value in given.items() if value is not None}

    def runs_here(self) -> bool:
        gpu = this_gpu()
        return gpu is not None and (self.kind == "tensorrt" or gpu[0] in self.target())

    def prepare(self, exportable: Exportable, folder: Path, cases: Cases | None) -> Prepared:
        return prepare_onnx(exportable, folder, self.flavour, cases)

    def compile(
        self, prepared: Prepared, inputs: Sequence[TensorRecord], profiles: Sequence[Profile], folder: Path
    ) -> tuple[Path, ...]:
        options = BuilderOptions(
            compute_capabilities=self.compute_capabilities,
            workspace=self.workspace,
            optimization_level=self.optimization_level,
            tf32=self.tf32,
        )
        check_room(prepared.files, folder)
        plan = folder / "engine.plan"
        ranges = [
            {tensor.name: [tensor.concrete(sizes) for sizes in (p.minimum, p.example, p.maximum)] for tensor in inputs}
            for p in profiles
        ]
        request = {
            "kind": self.kind,
            "graph": str(prepared.files[0]),
            "plan": str(plan),
            "options": asdict(options),
            "profiles": ranges,
            "timing_cache": None if self.timing_cache is None else str(self.timing_cache),
            "gpu": torch.cuda.current_device() if self.kind == "tensorrt" else None,
        }
        run_child("fastvid_export.backends.tensorrt_child", request, folder)
        return (plan,)


def check_room(graph: Sequence[Path], folder: Path) -> None:
    """Enough disk and memory for a build, before it begins.

    Measured on a 2.1 GiB graph: the plan takes 1.1 times the bytes of the graph, the builder 3 to 4 times in memory.

    Raises:
        BuildError: the disk is too full.
        MemoryError: memory is too small.
    """
    size = sum(file.stat().st_size for file in graph)
    free = shutil.disk_usage(folder).free
    if free < (needed := 3 * size // 2):
        raise BuildError(
            f"the disk of {folder.parent} has {_gigabytes(free)} free, the engine needs {_gigabytes(needed)}"
        )
    memory = available_memory()
    if memory is not None and memory < (needed := 4 * size):
        raise MemoryError(f"the build needs {_gigabytes(needed)} of memory, {_gigabytes(memory)} are available")


def available_memory() -> int | None:
    """Bytes that can be taken without swapping; None where the system does not say."""
    info = Path("/proc/meminfo")
    if not info.is_file():
        return None
    for line in info.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.2f} GB"


def load(
    record: EngineRecord, folder: Path, *, memory: ActivationMemory | None = None, cuda_graphs: bool = False
) -> TrtEngine:
    """The engine of a record that was checked, on torch's current GPU and, at each call, its current stream.

    Args:
        memory: shared with other engines of the same stream; None: of its own.
        cuda_graphs: as of `TrtEngine`.
    Raises:
        EngineError: of another version, or for another GPU.
        ImportError: this TensorRT is not installed.
    """
    kind: Kind = "tensorrt" if record.backend == "tensorrt" else "tensorrt_rtx"
    api = load_api(kind)
    if record.backend_version != api.version:
        raise EngineError(f"the engine was built by {kind} {record.backend_version}, installed is {api.version}")
    gpu = this_gpu()
    if gpu is None:
        raise EngineError(f"the engine was built for {' '.join(record.target)}, and there is no GPU here")
    fits = record.target == gpu if kind == "tensorrt" else gpu[0] in record.target
    if not fits:
        raise EngineError(f"the engine was built for {' '.join(record.target)}, the GPU here is {' '.join(gpu)}")
    device = current_gpu()
    return TrtEngine(
        api,
        record,
        (folder / record.files[0].name).read_bytes(),
        device=device,
        memory=memory or ActivationMemory(),
        stream=lambda: torch.cuda.current_stream(device).cuda_stream,
        cuda_graphs=cuda_graphs,
    )
