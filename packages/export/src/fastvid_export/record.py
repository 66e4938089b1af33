"""What stands in `engine.json` beside an engine: all that must be true for the engine to be used."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from fastvid_export.errors import EngineError
from fastvid_export.exportable import AxisRange, Size, concrete_shape
from fastvid_export.profile import Profile

FORMAT = 1
SIDECAR = "engine.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRecord:
    """One input: `shape` as in `InputSpec`, `dtype` as torch calls it, such as `float16`."""

    name: str
    dtype: str
    shape: tuple[Size, ...]

    def concrete(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape at these sizes of the axes."""
        return concrete_shape(self.shape, sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRecord:
    """One output: `dtype` as torch calls it; None in `dims` where the size follows from those of the inputs."""

    name: str
    dtype: str
    dims: tuple[int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """One file in the folder of the engine: its plain name, its SHA-256, and its size in bytes."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRecord:
    """An engine on disk.

    Attributes:
        name: of the exportable.
        graph: SHA-256 of the graph without its weights.
        weights: SHA-256 of the weights, and of the configuration.
        backend: such as `tensorrt_rtx`.
        backend_version: of the package that built it, and has to run it.
        target: where it runs: `sm80`, `sm89`, ..., or the CPU's instruction set.
        precision: float32, float16 or bfloat16.
        flavour: of the graph, `portable` or `fused`; `torch` for an engine made without ONNX.
        options: of the export and of the builder, all that changes what is built.
        versions: of the packages that made the graph.
        inputs: in the engine's order.
        results: the outputs, in the engine's order.
        profiles: in the engine's order.
        files: in the same folder, the engine first; beside it weights that do not fit into it.
        parity: a `ParityReport` as its JSON; see `parity_of`.
        parity_of: `engine`: it ran here and was compared with eager; `graph`: only what it was built from was.
        seconds: that the build took.
        created: date and time, ISO 8601, UTC.
    """

    name: str
    graph: str
    weights: str
    backend: str
    backend_version: str
    target: tuple[str, ...]
    precision: str
    flavour: str
    options: Mapping[str, str | int | bool]
    versions: Mapping[str, str]
    inputs: tuple[TensorRecord, ...]
    results: tuple[OutputRecord, ...]
    profiles: tuple[Profile, ...]
    files: tuple[FileRecord, ...]
    parity: Mapping[str, Any]
    parity_of: str
    seconds: float
    created: str

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in the engine's order."""
        return tuple(result.name for result in self.results)

    @property
    def key(self) -> str:
        """SHA-256 of all that decides what is built; two records of one key are of engines that can be exchanged."""
        content = _content(self)
        for outcome in ("files", "parity", "parity_of", "seconds", "created"):
            del content[outcome]
        content["profiles"] = sorted(content["profiles"], key=lambda profile: profile["name"])
        return _digest(content)

    def to_json(self) -> str:
        """As text, with its key and a digest of all of it."""
        content = {"format": FORMAT, "key": self.key, **_content(self)}
        return json.dumps({**content, "digest": _digest(content)}, indent=2, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str) -> "EngineRecord":
        """Read it back.

        The digest tells an accident or a careless edit, not an attacker, who can write a digest too.

        Raises:
            EngineError: not such a text, of another format, or changed since it was written.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise EngineError(f"{SIDECAR} is damaged: {error}") from error
        if not isinstance(content, dict) or "format" not in content:
            raise EngineError(f"{SIDECAR} is damaged: it names no format")
        if content["format"] != FORMAT:
            raise EngineError(f"{SIDECAR} has format {content['format']!r}, this version reads {FORMAT}; build it anew")
        digest = content.pop("digest", None)
        try:
            whole = digest == _digest(content)
        except (ValueError, RecursionError) as error:  # not a number, say, which json reads and never wrote
            raise EngineError(f"{SIDECAR} is damaged: {error}") from error
        if not whole:
            raise EngineError(f"{SIDECAR} was changed after it was written: its digest does not fit; build it anew")
        key = content.pop("key", None)
        del content["format"]
        try:
            record = _record(content)
        except (LookupError, AttributeError, TypeError, ValueError) as error:
            raise EngineError(f"{SIDECAR} is damaged: {type(error).__name__}: {error}") from error
        if record.key != key:
            raise EngineError(f"{SIDECAR} is damaged: its key does not fit what it says; build it anew")
        return record


def _content(record: EngineRecord) -> dict[str, Any]:
    plain = {name: getattr(record, name) for name in EngineRecord.__slots__}
    inputs = [{"name": t.name, "dtype": t.dtype, "shape": [_listed(size) for size in t.shape]} for t in record.inputs]
    profiles = [
        {"name": p.name, "axes": {axis: [b.minimum, b.example, b.maximum] for axis, b in p.axes.items()}}
        for p in record.profiles
    ]
    return plain | {
        "target": list(record.target),
        "options": dict(record.options),
        "versions": dict(record.versions),
        "inputs": inputs,
        "results": [{"name": r.name, "dtype": r.dtype, "dims": list(r.dims)} for r in record.results],
        "profiles": profiles,
        "files": [{"name": f.name, "sha256": f.sha256, "size": f.size} for f in record.files],
        "parity": dict(record.parity),
    }


def _record(content: dict[str, Any]) -> EngineRecord:
    inputs = tuple(
        TensorRecord(name=t["name"], dtype=t["dtype"], shape=tuple(_size(size) for size in t["shape"]))
        for t in content.pop("inputs")
    )
    profiles = tuple(
        Profile(
            name=p["name"],
            axes={axis: AxisRange(minimum=b[0], example=b[1], maximum=b[2]) for axis, b in p["axes"].items()},
        )
        for p in content.pop("profiles")
    )
    files = tuple(FileRecord(**file) for file in content.pop("files"))
    frozen: dict[str, Any] = {name: MappingProxyType(content.pop(name)) for name in ("options", "versions", "parity")}
    results = tuple(
        OutputRecord(name=r["name"], dtype=r["dtype"], dims=tuple(r["dims"])) for r in content.pop("results")
    )
    target = tuple(content.pop("target"))
    return EngineRecord(
        inputs=inputs, results=results, profiles=profiles, target=target, files=files, **frozen, **content
    )


def _listed(size: Size) -> Any:
    return list(size) if isinstance(size, tuple) else size


def _size(size: Any) -> Size:
    if not isinstance(size, list):
        fixed: int | str = size
        return fixed
    factor, axis, *remainder = size
    return (int(factor), str(axis), int(*remainder)) if remainder else (int(factor), str(axis))


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
