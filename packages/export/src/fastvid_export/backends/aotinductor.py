"""Engines by torch's own compiler: native code in one file, for the kind of processor or GPU that it was built on."""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

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

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AOTInductor:
    """AOTInductor as a backend. One piece of code serves every profile.

    Attributes:
        device: where the engine runs; the module to be built must lie there.
        max_autotune: time several kernels for each operation while building, which takes long.
    """

    device: Device = "cpu"
    max_autotune: bool = False

    def __post_init__(self) -> None:
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"`device` must be 'cpu' or 'cuda', got {self.device!r}")

    @property
    def name(self) -> str:
        return "aotinductor"

    @property
    def volume_limit(self) -> int | None:
        return None

    def version(self) -> str:
        return torch.__version__

    def target(self) -> tuple[str, ...]:
        return this_machine(self.device)

    def options(self) -> dict[str, str | int | bool]:
        return {"device": self.device, "max_autotune": self.max_autotune}

    def runs_here(self) -> bool:
        return True  # `target` said so

    def prepare(self, exportable: Exportable, folder: Path, cases: Cases | None) -> Prepared:
        device = next(exportable.module.parameters()).device.type
        if device != self.device:
            raise ValueError(f"`device` is {self.device!r}, the {exportable.name} lies on {device!r}; move it there")
        return prepare_program(exportable, folder)

    def compile(
        self, prepared: Prepared, inputs: Sequence[TensorRecord], profiles: Sequence[Profile], folder: Path
    ) -> tuple[Path, ...]:
        package = folder / "engine.pt2"
        request = {
            "program": str(prepared.files[0]),
            "package": str(package),
            "options": {"max_autotune": self.max_autotune},
            "gpu": torch.cuda.current_device() if self.device == "cuda" else None,
        }
        run_child("fastvid_export.backends.aotinductor_child", request, folder)
        return (package,)


def this_machine(device: Device) -> tuple[str, ...]:
    """What native code depends on: the processor's instruction set, or the GPU."""
    if device == "cpu":
        return "cpu", platform.machine(), torch.backends.cpu.get_cpu_capability()
    gpu = this_gpu()
    if gpu is None:
        raise BuildError("`device` is 'cuda', and there is no GPU here; 'cpu' would run")
    return gpu


@final
class AOTInductorEngine:
    """A compiled package.

    Args:
        record: of an `aotinductor` engine.
        path: the package. It is native code: load only what you built, or trust as you trust a program.
    Raises:
        EngineError: torch cannot load it.
    """

    def __init__(self, record: EngineRecord, path: Path) -> None:
        self._device = torch.device("cpu") if record.target[0] == "cpu" else current_gpu()
        try:
            self._run: Callable[..., Tensor | Sequence[Tensor]] = torch._inductor.aoti_load_package(
                str(path), device_index=-1 if self._device.index is None else self._device.index
            )
        except Exception as error:  # what torch raises for it is no documented class
            raise EngineError(f"torch cannot load {path.name}: {error}") from error

    def __call__(self, inputs: Mapping[str, Tensor], profile: int, /) -> tuple[Tensor, ...]:
        held = {name: tensor.detach().to(self._device).contiguous() for name, tensor in inputs.items()}
        try:
            returned = self._run(**held)
        except torch.OutOfMemoryError:  # eager would need more
            raise
        except RuntimeError as error:
            raise EngineError(f"aotinductor: {error}") from error
        return (returned,) if isinstance(returned, Tensor) else tuple(returned)


def load(record: EngineRecord, folder: Path) -> AOTInductorEngine:
    """The engine of a record that was checked.

    Raises:
        EngineError: of another version of torch, or for another machine.
    """
    if record.backend_version != torch.__version__:
        raise EngineError(f"the engine was built by torch {record.backend_version}, installed is {torch.__version__}")
    try:
        here = this_machine("cpu" if record.target[0] == "cpu" else "cuda")
    except BuildError:
        here = ("no GPU",)
    if here != record.target:
        raise EngineError(f"the engine was built for {' '.join(record.target)}, this is {' '.join(here)}")
    return AOTInductorEngine(record, folder / record.files[0].name)
