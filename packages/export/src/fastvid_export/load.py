"""An engine's folder -> an engine that runs, or the reason why it must not."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from fastvid_export.activation_memory import ActivationMemory
from fastvid_export.backends import aotinductor, onnxruntime, tensorrt, torch_tensorrt
from fastvid_export.child_process import run_child
from fastvid_export.digest import TensorDigests, file_digest, weights_digest
from fastvid_export.errors import BuildError, EngineError
from fastvid_export.exportable import Exportable
from fastvid_export.guard import GuardedEngine, RawEngine, shown, type_name
from fastvid_export.record import SIDECAR, EngineRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedEngine:
    """An engine and what it was built for."""

    record: EngineRecord
    engine: GuardedEngine


LAUNCHED_BY_US = ("tensorrt", "tensorrt_rtx")
"""Backends that leave launches and scratch memory to this package."""

CHILD = "fastvid_export.load_child"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How an engine runs; none of it changes what it computes.

    Attributes:
        cuda_graphs: record each new choice of profile and shapes, and replay it. Engines of TensorRT only, not of RTX.
        memory: for the scratch of this engine and of others that run on the same stream; None: of its own. Engines of
            TensorRT only.
    """

    cuda_graphs: bool = False
    memory: ActivationMemory | None = None

    def check(self, record: EngineRecord) -> None:
        """Refuse what has no effect on this engine.

        Raises:
            ValueError: its backend launches its kernels itself, or cannot be recorded.
        """
        if self.cuda_graphs and record.backend == "tensorrt_rtx":
            raise ValueError(
                "`cuda_graphs` is for engines of TensorRT: the runtime of TensorRT-RTX compiles kernels for new shapes"
                " while it runs, which cannot be recorded. Leave it out"
            )
        for name in ("cuda_graphs", "memory"):
            if getattr(self, name) not in (False, None) and record.backend not in LAUNCHED_BY_US:
                raise ValueError(
                    f"`{name}` has no effect on an engine of {record.backend}, which launches its work and takes its"
                    " memory itself; those of TensorRT leave both to the caller. Leave it out"
                )


def load_engine(
    folder: str | os.PathLike[str],
    *,
    expect: Exportable | None = None,
    cuda_graphs: bool = False,
    memory: ActivationMemory | None = None,
    probe: bool = False,
) -> LoadedEngine:
    """Load the engine of a folder, once everything about it was found to be as its sidecar says.

    An engine is a program: a folder that others can write to can run what they like. The digests find accidents, not
    attackers.

    Args:
        folder: as `build_engine` left it.
        expect: what the engine shall stand for; None: whatever it stands for.
        cuda_graphs: record each new choice of profile and shapes as a CUDA graph, and replay it; pays where launches
            take long beside the work, and keeps memory for each choice. Engines of TensorRT only, not of RTX.
        memory: for the scratch of this engine and of others that run on the same stream, one after another; None: of
            its own. Engines of TensorRT only.
        probe: load it first in a process of its own, which a runtime that crashes on it takes down instead of this one.
            Takes twice as long, and the memory of two while it lasts.
    Raises:
        EngineError: there is no engine, it is damaged, of another model, precision, GPU or version.
        ImportError: the package that runs it is not installed.
        ValueError: `cuda_graphs` or `memory` for a backend that has no use for them.
    """
    place = Path(folder)
    record = read_record(place)
    if expect is not None:
        check_expected(record, expect)
    return load_record(record, place, running=Running(cuda_graphs=cuda_graphs, memory=memory), probe=probe)


def load_record(record: EngineRecord, folder: Path, *, running: Running, probe: bool = False) -> LoadedEngine:
    """The same for a record that was read and checked."""
    running.check(record)
    if probe:
        _probe(folder)
    return LoadedEngine(record=record, engine=GuardedEngine(record, load_raw(record, folder, running)))


def _probe(folder: Path) -> None:
    gpu = torch.cuda.current_device() if torch.cuda.is_available() else None
    try:
        with tempfile.TemporaryDirectory() as letters:
            run_child(CHILD, {"folder": str(folder.absolute()), "gpu": gpu}, Path(letters))
    except BuildError as error:
        raise EngineError(f"the engine in {folder} cannot be loaded, tried in a process of its own: {error}") from error


def read_record(folder: Path) -> EngineRecord:
    """The sidecar, and every file that it names, found to be whole.

    Raises:
        EngineError: with the first thing that is wrong.
    """
    sidecar = folder / SIDECAR
    if not sidecar.is_file():
        raise EngineError(f"there is no engine in {folder}: it has no {SIDECAR}")
    record = EngineRecord.from_json(sidecar.read_text(encoding="utf-8", errors="replace"))
    if not record.files:
        raise EngineError(f"{SIDECAR} is damaged: it names no file")
    for described in record.files:
        path = folder / described.name
        if Path(described.name).name != described.name or described.name in ("", "..") or path.is_symlink():
            raise EngineError(f"{SIDECAR} names {described.name!r}, which does not lie in its folder")
        if not path.is_file():
            raise EngineError(f"{path} is missing; build the engine anew")
        if (size := path.stat().st_size) != described.size:
            raise EngineError(f"{path} has {size} bytes, {described.size} were written; build the engine anew")
        if file_digest(path) != described.sha256:
            raise EngineError(f"{path} was changed after it was written: its digest does not fit; build it anew")
    return record


def check_expected(record: EngineRecord, expect: Exportable, known: TensorDigests | None = None) -> None:
    """The engine is of this model, in its present state, with these inputs.

    Args:
        known: shared where several engines of one model are checked, whose weights are then read once.
    Raises:
        EngineError: it is not.
    """
    if record.name != expect.name:
        raise EngineError(f"the engine is of a {record.name}, not of a {expect.name}")
    theirs = {t.name: (t.dtype, shown(t.shape)) for t in record.inputs}
    ours = {name: (type_name(spec.dtype), shown(spec.shape)) for name, spec in expect.inputs.items()}
    for name in sorted({*theirs, *ours}):
        if theirs.get(name) != ours.get(name):
            raise EngineError(
                f"the engine's input `{name}` is {_described(theirs.get(name))}, the model's is"
                f" {_described(ours.get(name))}"
            )
    if record.outputs != expect.outputs:
        raise EngineError(f"the engine gives {', '.join(record.outputs)}, the model {', '.join(expect.outputs)}")
    precision = type_name(expect.precision)
    if record.precision != precision:
        raise EngineError(f"the engine computes in {record.precision}, the model in {precision}")
    if record.weights != weights_digest(expect.module, known):
        raise EngineError(
            "the engine was built from other weights than the model has, or other settings; build it anew"
        )


def load_raw(record: EngineRecord, folder: Path, running: Running) -> RawEngine:
    """Load by the backend that the record names; its files must have been checked."""
    match record.backend:
        case "onnxruntime":
            return onnxruntime.load(record, folder)
        case "aotinductor":
            return aotinductor.load(record, folder)
        case "tensorrt" | "tensorrt_rtx":
            return tensorrt.load(record, folder, memory=running.memory, cuda_graphs=running.cuda_graphs)
        case "torch_tensorrt":
            return torch_tensorrt.load(record, folder)
        case other:
            raise EngineError(f"{SIDECAR} names the backend {other!r}, which this version does not have")


def _described(tensor: tuple[str, str] | None) -> str:
    return "absent" if tensor is None else " ".join(tensor)
