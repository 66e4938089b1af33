"""Exportable -> verified engine in a folder."""

import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from math import prod
from pathlib import Path

from fastvid_export.backend import Backend, Cases, Prepared
from fastvid_export.digest import weights_digest
from fastvid_export.errors import BuildError, EngineError
from fastvid_export.exportable import Exportable
from fastvid_export.guard import GuardedEngine, type_name
from fastvid_export.install import describe, install
from fastvid_export.load import Running, load_raw, read_record
from fastvid_export.profile import Profile, check_profiles, smallest_that_holds
from fastvid_export.record import EngineRecord, OutputRecord, TensorRecord
from fastvid_export.verify import ParityError, ParityReport, verify
from fastvid_export.volume import check_volume, output_shapes
from fastvid_export.workshop import locked, workshop

logger = logging.getLogger(__name__)

SMALL = 2**20
"""Elements of all inputs together up to which a size is compared on a CPU."""


def build_engine(  # noqa: PLR0913
    exportable: Exportable,
    folder: str | os.PathLike[str],
    *,
    backend: Backend,
    profiles: Sequence[Profile],
    cases: Cases | None = None,
    tolerance: float | None = None,
    wait: float = 0,
    rebuild: bool = False,
) -> EngineRecord:
    """Build an engine that was seen to compute what the module computes, and put it into a folder.

    A folder holds one engine: `engine.json`, and the files it names. All are written elsewhere first; an engine that
    was there stays whole until the new one is complete. An engine of the same key is taken as it is.

    Args:
        exportable: its axes must enclose the profiles; the graph is traced at its examples.
        folder: made if it is not there.
        backend: `OnnxRuntime`, `AOTInductor`, `TensorRT` or `TorchTensorRT`.
        profiles: see `profiles_of`; the engine runs at no other sizes.
        cases: sizes at which the engine, or its graph where it cannot run here, is compared with eager; None: corners
            of the profiles.
        tolerance: largest relative error that passes; None: that of the module's precision.
        wait: seconds to wait for another process that builds into this folder.
        rebuild: build even where an engine of the same key is there.
    Returns:
        The record, as it stands in `engine.json`.
    Raises:
        ValueError: profiles do not fit the exportable, or hold tensors that the backend cannot take.
        ImportError: the backend is not installed.
        ExportError: there is no graph for all the sizes of `exportable.axes`.
        ParityError: the graph, or the engine, computes something else.
        BuildError: the builder refused or died, the disk is full, or another process is building here.
    """
    target = Path(folder).absolute()
    check_profiles(exportable.axes, profiles)
    for ask in (backend.version, backend.target):  # what is not installed, or not here, is said before anything slow
        ask()
    if backend.volume_limit is not None:
        check_volume(exportable, profiles, limit=backend.volume_limit)
    runs_here = backend.runs_here()
    engine_cases = profile_cases(exportable, profiles) if cases is None and runs_here else list(cases or ())
    if runs_here:  # the engine is what counts then, and a graph is slow at large sizes
        graph_cases: Cases | None = [profiles[0].minimum]
    else:  # what it computes at sizes that no profile has counts for nothing, unless all others are too large
        graph_cases = _small_cases(exportable, profiles) or None if cases is None else cases
    with locked(target, wait=wait), workshop(target) as shop:
        started = time.monotonic()
        prepared = backend.prepare(exportable, shop, graph_cases)
        plan = _planned(exportable, backend, prepared, profiles)
        if not rebuild and (there := _there(target, plan.key)) is not None:
            logger.info("%s: an engine of the same key is there", target)
            return there
        files = backend.compile(prepared, plan.inputs, plan.profiles, shop)
        built = replace(plan, files=describe(files))
        parity_of, report = "graph", prepared.parity
        if runs_here:
            parity_of, report = "engine", _compare(exportable, built, shop, engine_cases, tolerance)
        if report is None:
            raise BuildError(f"the {backend.name} engine cannot run here, so nothing was compared with eager")
        record = replace(
            built,
            parity=json.loads(report.to_json()),
            parity_of=parity_of,
            seconds=round(time.monotonic() - started, 2),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        install(record, shop, target)
    logger.info("%s: %s engine of the %s, %.1f s", target, record.backend, record.name, record.seconds)
    return record


def describe_inputs(exportable: Exportable) -> tuple[TensorRecord, ...]:
    """The inputs as a record has them."""
    return tuple(
        TensorRecord(name=name, dtype=type_name(spec.dtype), shape=spec.shape)
        for name, spec in exportable.inputs.items()
    )


def describe_outputs(exportable: Exportable) -> tuple[OutputRecord, ...]:
    """The outputs as a record has them: what the module returns at two choices of sizes, without computing it."""
    first, second = (output_shapes(exportable, sizes) for sizes in (exportable.example_sizes, _others(exportable)))
    return tuple(
        OutputRecord(
            name=name,
            dtype=type_name(one.dtype),
            dims=tuple(a if a == b else None for a, b in zip(one.shape, other.shape, strict=True)),
        )
        for name, one, other in zip(exportable.outputs, first, second, strict=True)
    )


def _others(exportable: Exportable) -> dict[str, int]:
    """Sizes that differ from the example wherever an axis allows it."""
    return {
        axis: bounds.example + 1 if bounds.example < bounds.maximum else bounds.minimum
        for axis, bounds in exportable.axes.items()
    }


def profile_cases(exportable: Exportable, profiles: Sequence[Profile]) -> list[dict[str, int]]:
    """Corners of every profile, and the exportable's own where a profile has it; on a CPU those that are small enough.

    Raises:
        ValueError: none is small enough.
    """
    if exportable.device.type != "cpu":
        return _corners(exportable, profiles)
    small = _small_cases(exportable, profiles)
    if not small:
        raise ValueError(
            "`profiles` hold no size small enough to be compared on a CPU;"
            " give `cases`, or a profile that reaches lower"
        )
    return small


def _corners(exportable: Exportable, profiles: Sequence[Profile]) -> list[dict[str, int]]:
    corners = [sizes for profile in profiles for sizes in (profile.minimum, profile.example, profile.maximum)]
    corners += [sizes for sizes in exportable.corner_sizes() if smallest_that_holds(profiles, sizes) is not None]
    return [sizes for index, sizes in enumerate(corners) if sizes not in corners[:index]]


def _small_cases(exportable: Exportable, profiles: Sequence[Profile]) -> list[dict[str, int]]:
    return [
        sizes
        for sizes in _corners(exportable, profiles)
        if sum(prod(spec.concrete(sizes)) for spec in exportable.inputs.values()) <= SMALL
    ]


def _planned(exportable: Exportable, backend: Backend, prepared: Prepared, profiles: Sequence[Profile]) -> EngineRecord:
    """The record of the engine to be, which has a key already."""
    return EngineRecord(
        name=exportable.name,
        graph=prepared.graph,
        weights=weights_digest(exportable.module),
        backend=backend.name,
        backend_version=backend.version(),
        target=backend.target(),
        precision=type_name(exportable.precision),
        flavour=prepared.flavour,
        options=backend.options(),
        versions=prepared.versions,
        inputs=describe_inputs(exportable),
        results=describe_outputs(exportable),
        profiles=tuple(profiles),
        files=(),
        parity={},
        parity_of="graph",
        seconds=0.0,
        created="",
    )


def _there(folder: Path, key: str) -> EngineRecord | None:
    """The record of an engine of this key that is there and whole."""
    try:
        record = read_record(folder)
    except EngineError:
        return None
    return record if record.key == key else None


def _compare(
    exportable: Exportable,
    record: EngineRecord,
    folder: Path,
    cases: Cases,
    tolerance: float | None,
) -> ParityReport:
    engine = GuardedEngine(record, load_raw(record, folder, Running()))
    report = verify(exportable, engine, cases=cases, tolerance=tolerance)
    if not report.passed:
        raise ParityError(report)
    return report
