import json
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from fastvid_export import EngineError, ParityError, verify
from torch import Tensor

from .fakes import exportable_of

EXPORTABLE = exportable_of(lambda x: x.sin() * x)
Engine = Callable[[Mapping[str, Tensor]], Sequence[Tensor]]


def eager(inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return (EXPORTABLE.module(**inputs),)


def at_one_frame(change: Callable[[Tensor], Tensor]) -> Engine:
    """Wrong only where t is 1, as a graph is that kept the branch of its example."""

    def engine(inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        (y,) = eager(inputs)
        return (change(y) if y.shape[1] == 1 else y,)

    return engine


def refuses(inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    raise EngineError("out of range")


def test_the_module_itself_passes_exactly() -> None:
    report = verify(EXPORTABLE, eager)
    assert report.passed
    assert report.worst == 0
    assert [dict(case.sizes) for case in report.cases] == list(EXPORTABLE.corner_sizes())
    assert all(case.cosine == pytest.approx(1) for case in report.cases)


@pytest.mark.parametrize(
    ("engine", "problem"),
    [
        (at_one_frame(lambda y: y[:, :0]), "shape"),
        (at_one_frame(lambda y: y.repeat(1, 2, 1)), "shape"),
        (at_one_frame(lambda y: y * float("nan")), "not finite"),
        (at_one_frame(lambda y: y / 0), "not finite"),
        (at_one_frame(lambda y: y * 1.0001), "differs"),
        (at_one_frame(lambda y: -y), "differs"),
        (at_one_frame(torch.zeros_like), "differs"),
        (refuses, "out of range"),
        (lambda inputs: (), "returns 0 tensors"),
    ],
)
def test_mutants_are_caught(engine: Engine, problem: str) -> None:
    report = verify(EXPORTABLE, engine)
    assert not report.passed
    failed = [case for case in report.cases if not case.passed]
    assert all(problem in str(case.problem) for case in failed)
    assert all(problem in case.describe() for case in failed)
    assert {"b": 1, "t": 1} in [case.sizes for case in failed]
    json.loads(report.to_json())


def test_a_difference_at_one_size_only_is_missed_by_the_example_alone() -> None:
    assert verify(EXPORTABLE, at_one_frame(lambda y: -y), cases=[EXPORTABLE.example_sizes]).passed


def test_tolerance_is_relative_to_the_largest_value() -> None:
    def engine(inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        (y,) = eager(inputs)
        off = y.clone()
        off.flatten()[0] += 1e-4 * y.abs().max()
        return (off,)

    report = verify(EXPORTABLE, engine, tolerance=2e-4)
    assert report.passed
    assert report.worst == pytest.approx(1e-4, rel=0.01)
    assert not verify(EXPORTABLE, engine, tolerance=5e-5).passed


def test_zeros_and_broken_modules_prove_nothing() -> None:
    for function, problem in ((torch.zeros_like, "zero everywhere"), (lambda x: x / 0, "eager is not finite")):
        exportable = exportable_of(function)
        report = verify(exportable, lambda inputs, m=exportable.module: (m(**inputs),))
        assert not any(case.passed for case in report.cases)
        assert all(problem in str(case.problem) for case in report.cases)


def test_error_says_where() -> None:
    error = ParityError(verify(EXPORTABLE, at_one_frame(lambda y: -y)))
    assert "2 of 6 comparisons with eager failed for fake" in str(error)
    assert "b=1 t=1: y (1, 1, 4): relative error 2.0e+00" in str(error)
    assert error.report.cases


def test_json_holds_the_verdict_and_the_versions() -> None:
    content = json.loads(verify(EXPORTABLE, eager).to_json())
    assert content["passed"] is True
    assert content["worst_relative_error"] == 0
    assert set(content["versions"]) >= {"torch", "onnx", "onnxscript"}
    assert content["cases"][0]["sizes"] == {"b": 2, "t": 6}
    assert content["cases"][0]["passed"] is True


def test_comparing_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="`cases` is empty"):
        verify(EXPORTABLE, eager, cases=[])


def test_names_must_match_the_number_of_outputs() -> None:
    exportable = exportable_of(lambda x: (x, x))  # type: ignore[arg-type,return-value]
    with pytest.raises(ValueError, match="`outputs` names 1 tensors, the module returns 2"):
        verify(exportable, eager)
