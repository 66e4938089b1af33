"""Engines by torch-tensorrt: TensorRT inside a torch program, without ONNX; the second path beside `tensorrt`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from fastvid_export.backend import Cases, Prepared
from fastvid_export.backends.gpu import current_gpu, this_gpu
from fastvid_export.backends.torch_program import prepare_program
from fastvid_export.child_process import run_child
from fastvid_export.errors import BuildError, EngineError
from fastvid_export.exportable import Exportable
from fastvid_export.profile import Profile
from fastvid_export.record import EngineRecord, TensorRecord
from fastvid_export.volume import MAX_ELEMENTS


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchTensorRT:
    """torch-tensorrt as a backend; it needs a GPU, and knows one profile.

    Attributes:
        require_full_compilation: refuse to leave operations to torch.
    """

    require_full_compilation: bool = False

    @property
    def name(self) -> str:
        return "torch_tensorrt"

    @property
    def volume_limit(self) -> int | None:
        return MAX_ELEMENTS

    def version(self) -> str:
        return installed_version()

    def target(self) -> tuple[str, ...]:
        gpu = this_gpu()
        if gpu is None:
            raise BuildError("torch-tensorrt builds on the GPU it builds for, and there is none here")
        return gpu

    def options(self) -> dict[str, str | int | bool]:
        return {"require_full_compilation": self.require_full_compilation}

    def runs_here(self) -> bool:
        return True  # `target` said so

    def prepare(self, exportable: Exportable, folder: Path, cases: Cases | None) -> Prepared:
        device = next(exportable.module.parameters()).device.type
        if device != "cuda":
            raise ValueError(
                f"the {exportable.name} lies on {device!r}; move it to 'cuda', where torch-tensorrt builds"
            )
        return prepare_program(exportable, folder)

    def compile(
        self, prepared: Prepared, inputs: Sequence[TensorRecord], profiles: Sequence[Profile], folder: Path
    ) -> tuple[Path, ...]:
        if len(profiles) > 1:
            raise ValueError(f"`profiles` must be one for torch-tensorrt, got {[profile.name for profile in profiles]}")
        (profile,) = profiles
        path = folder / "engine.pt2"
        ranges = [
            {
                "name": tensor.name,
                "dtype": tensor.dtype,
                "shapes": [tensor.concrete(s) for s in (profile.minimum, profile.example, profile.maximum)],
            }
            for tensor in inputs
        ]
        request = {
            "program": str(prepared.files[0]),
            "engine": str(path),
            "inputs": ranges,
            "options": dict(self.options()),
            "gpu": torch.cuda.current_device(),
        }
        run_child("fastvid_export.backends.torch_tensorrt_child", request, folder)
        return (path,)


def installed_version() -> str:
    """Of torch-tensorrt.

    Raises:
        ImportError: it is not installed; with the extra that installs it.
    """
    try:
        return version("torch-tensorrt")
    except PackageNotFoundError as error:
        raise ImportError('torch-tensorrt is not installed; run: pip install "fastvid-export[tensorrt]"') from error


def import_torch_tensorrt() -> Any:  # it has no types
    """The package, which needs a GPU and TensorRT's libraries to be imported at all.

    Raises:
        ImportError: with what is missing.
    """
    installed_version()
    try:
        package = import_module("torch_tensorrt")
    except Exception as error:  # it raises what its libraries raise
        raise ImportError(f"torch-tensorrt is installed and cannot be imported here: {error}") from error
    return package


@final
class TorchTensorRTEngine:
    """A torch program that calls TensorRT.

    Args:
        path: the program. It is code: load only what you built, or trust as you trust a program.
    """

    def __init__(self, path: Path) -> None:
        import_torch_tensorrt()  # registers what the program calls
        self._run: Callable[..., Tensor | Sequence[Tensor]] = torch.export.load(path).module()
        self._device = current_gpu()

    def __call__(self, inputs: Mapping[str, Tensor], profile: int, /) -> tuple[Tensor, ...]:
        held = {name: tensor.to(self._device).contiguous() for name, tensor in inputs.items()}
        try:
            returned = self._run(**held)
        except RuntimeError as error:
            raise EngineError(f"torch-tensorrt: {error}") from error
        return (returned,) if isinstance(returned, Tensor) else tuple(returned)


def load(record: EngineRecord, folder: Path) -> TorchTensorRTEngine:
    """The engine of a record that was checked.

    Raises:
        EngineError: of another version, or for another GPU.
        ImportError: torch-tensorrt is not installed.
    """
    if record.backend_version != (installed := installed_version()):
        raise EngineError(f"the engine was built by torch-tensorrt {record.backend_version}, installed is {installed}")
    if this_gpu() != record.target:
        raise EngineError(f"the engine was built for {' '.join(record.target)}, which is not here")
    return TorchTensorRTEngine(folder / record.files[0].name)
