"""Does a graph compute what the module computes? Both run on the same inputs, at sizes the graph was not traced at."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from fastvid_export.errors import EngineError
from fastvid_export.exportable import Exportable

TOLERANCES: Mapping[torch.dtype, float] = MappingProxyType(
    {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 2e-2}
)
"""Largest difference over largest value, against eager of the same precision on a CPU; summing in another order, and in
16 bits rounding at other places, stays below it."""

MIN_COSINES: Mapping[torch.dtype, float] = MappingProxyType(
    {torch.float32: 0.99999, torch.float16: 0.9999, torch.bfloat16: 0.9999}
)

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu")
"""What a report names the versions of, if it is installed."""


class Engine(Protocol):
    """Something that was built from the module: named tensors in, the outputs in order out."""

    def __call__(self, inputs: Mapping[str, Tensor], /) -> Sequence[Tensor]: ...


class ParityError(RuntimeError):
    """The graph does not compute what the module computes; `report` says where."""

    def __init__(self, report: "ParityReport") -> None:
        failed = [case for case in report.cases if not case.passed]
        lines = "\n".join(f"  {case.describe()}" for case in failed)
        super().__init__(
            f"{len(failed)} of {len(report.cases)} comparisons with eager failed for {report.name}"
            f" (tolerance {report.tolerance:g}):\n{lines}"
        )
        self.report = report


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityCase:
    """One output at one choice of sizes. The numbers are None where there was nothing to compare; see `problem`."""

    sizes: Mapping[str, int]
    output: str
    shape: tuple[int, ...]
    max_error: float | None
    max_value: float | None
    cosine: float | None
    problem: str | None

    @property
    def relative_error(self) -> float | None:
        """Largest difference over largest value of eager."""
        return self.max_error / self.max_value if self.max_error is not None and self.max_value else None

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong here."""
        return self.problem is None

    def describe(self) -> str:
        """One line for people."""
        sizes = " ".join(f"{axis}={size}" for axis, size in self.sizes.items())
        if self.relative_error is None:
            return f"{sizes}: {self.output}: {self.problem}"
        numbers = f"relative error {self.relative_error:.1e}, cosine {self.cosine:.7f}"
        return f"{sizes}: {self.output} {self.shape}: {numbers}" + ("" if self.passed else f": {self.problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """All comparisons of one graph with its module."""

    name: str
    tolerance: float
    versions: Mapping[str, str]
    cases: tuple[ParityCase, ...]

    @property
    def passed(self) -> bool:
        """Whether every comparison passed, and there was at least one."""
        return bool(self.cases) and all(case.passed for case in self.cases)

    @property
    def worst(self) -> float | None:
        """Largest relative error; None where nothing could be compared."""
        errors = [case.relative_error for case in self.cases if case.relative_error is not None]
        return max(errors, default=None)

    def to_json(self) -> str:
        """As text, with the verdicts written out; numbers that JSON cannot hold are refused."""
        cases = [asdict(case) | {"relative_error": case.relative_error, "passed": case.passed} for case in self.cases]
        content = {
            "name": self.name,
            "passed": self.passed,
            "worst_relative_error": self.worst,
            "tolerance": self.tolerance,
            "versions": dict(self.versions),
            "cases": cases,
        }
        return json.dumps(content, indent=2, allow_nan=False) + "\n"


def verify(
    exportable: Exportable,
    engine: Engine,
    *,
    cases: Sequence[Mapping[str, int]] | None = None,
    tolerance: float | None = None,
) -> ParityReport:
    """Compare an engine with its module.

    Args:
        exportable: what the engine was built from.
        engine: an `OnnxEngine`, or anything else that is called the same way.
        cases: sizes of the axes to compare at; None: `exportable.corner_sizes()`.
        tolerance: largest relative error that passes; None: that of the module's precision in `TOLERANCES`.
    Returns:
        A report; it is never raised for a difference, see `ParityReport.passed`.
    Raises:
        ValueError: `cases` is empty, or holds sizes outside their range.
    """
    chosen = exportable.corner_sizes() if cases is None else cases
    if not chosen:
        raise ValueError("`cases` is empty; comparing nothing shows nothing (None compares at the corners)")
    precision = exportable.precision
    tolerance = TOLERANCES[precision] if tolerance is None else tolerance
    gate = _Gate(tolerance=tolerance, min_cosine=MIN_COSINES[precision])
    results: list[ParityCase] = []
    for index, sizes in enumerate(chosen):
        results += _compare(exportable, engine, sizes, seed=index, gate=gate)
    return ParityReport(
        name=exportable.name,
        tolerance=tolerance,
        versions={name: found for name in PACKAGES if (found := _version(name)) is not None},
        cases=tuple(results),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gate:
    tolerance: float
    min_cosine: float


def _compare(
    exportable: Exportable, engine: Engine, sizes: Mapping[str, int], *, seed: int, gate: _Gate
) -> list[ParityCase]:
    inputs = exportable.draw_inputs(sizes, seed)
    with torch.no_grad():
        returned = exportable.module(**inputs)
    expected = (returned,) if isinstance(returned, Tensor) else tuple(returned)
    if len(expected) != len(exportable.outputs):
        raise ValueError(f"`outputs` names {len(exportable.outputs)} tensors, the module returns {len(expected)}")
    try:
        got: Sequence[Tensor | str] = engine(inputs)
    except EngineError as error:
        got = [str(error)] * len(expected)
    if len(got) != len(expected):
        got = [f"the engine returns {len(got)} tensors, eager {len(expected)}"] * len(expected)
    return [
        _case(sizes, name, reference, actual, gate)
        for name, reference, actual in zip(exportable.outputs, expected, got, strict=True)
    ]


def _case(sizes: Mapping[str, int], output: str, expected: Tensor, got: Tensor | str, gate: _Gate) -> ParityCase:
    def case(problem: str | None, *numbers: float) -> ParityCase:
        max_error, max_value, cosine = numbers or (None, None, None)
        return ParityCase(
            sizes=dict(sizes),
            output=output,
            shape=tuple(expected.shape),
            max_error=max_error,
            max_value=max_value,
            cosine=cosine,
            problem=problem,
        )

    if isinstance(got, str):
        return case(got)
    if (got.shape, got.dtype) != (expected.shape, expected.dtype):
        return case(f"shape {tuple(got.shape)} {got.dtype}, eager has {tuple(expected.shape)} {expected.dtype}")
    reference, actual = expected.cpu().double().flatten(), got.cpu().double().flatten()
    if not reference.isfinite().all():
        return case("eager is not finite, so nothing can be compared")
    if not actual.isfinite().all():
        return case(f"{int((~actual.isfinite()).sum())} of {actual.numel()} values are not finite; eager's all are")
    max_error, max_value = float((actual - reference).abs().max()), float(reference.abs().max())
    if max_value == 0:
        return case("eager is zero everywhere (fresh weights?), so nothing can be compared")
    cosine = float(torch.cosine_similarity(actual, reference, dim=0))
    good = max_error <= gate.tolerance * max_value and cosine >= gate.min_cosine
    return case(None if good else "differs from eager", max_error, max_value, cosine)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
