"""An engine's folder -> an engine that runs, or the reason why it must not."""

import os
from dataclasses import dataclass
from pathlib import Path

from fastvid_export.backends import aotinductor, onnxruntime, tensorrt, torch_tensorrt
from fastvid_export.digest import file_digest, weights_digest
from fastvid_export.errors import EngineError
from fastvid_export.exportable import Exportable
from fastvid_export.guard import GuardedEngine, RawEngine, shown, type_name
from fastvid_export.record import SIDECAR, EngineRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedEngine:
    """An engine and what it was built for."""

    record: EngineRecord
    engine: GuardedEngine


def load_engine(folder: str | os.PathLike[str], *, expect: Exportable | None = None) -> LoadedEngine:
    """Load the engine of a folder, once everything about it was found to be as its sidecar says.

    An engine is a program: a folder that others can write to can run what they like. The digests find accidents, not
    attackers.

    Args:
        folder: as `build_engine` left it.
        expect: what the engine shall stand for; None: whatever it stands for.
    Raises:
        EngineError: there is no engine, it is damaged, of another model, precision, GPU or version.
        ImportError: the package that runs it is not installed.
    """
    place = Path(folder)
    record = read_record(place)
    if expect is not None:
        check_expected(record, expect)
    return LoadedEngine(record=record, engine=GuardedEngine(record, load_raw(record, place)))


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


def check_expected(record: EngineRecord, expect: Exportable) -> None:
    """The engine is of this model, in its present state, with these inputs.

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
    if record.weights != weights_digest(expect.module):
        raise EngineError(
            "the engine was built from other weights than the model has, or other settings; build it anew"
        )


def load_raw(record: EngineRecord, folder: Path) -> RawEngine:
    """Load by the backend that the record names; its files must have been checked."""
    match record.backend:
        case "onnxruntime":
            return onnxruntime.load(record, folder)
        case "aotinductor":
            return aotinductor.load(record, folder)
        case "tensorrt" | "tensorrt_rtx":
            return tensorrt.load(record, folder)
        case "torch_tensorrt":
            return torch_tensorrt.load(record, folder)
        case other:
            raise EngineError(f"{SIDECAR} names the backend {other!r}, which this version does not have")


def _described(tensor: tuple[str, str] | None) -> str:
    return "absent" if tensor is None else " ".join(tensor)
