"""A graph compared with eager at many sizes, and built by TensorRT-RTX with all its profiles."""

from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from fastvid_export import BuildError, EngineError, Flavour, TensorRT, build_engine, load_engine
from fastvid_export.backends import tensorrt
from fastvid_export.backends.tensorrt import RTX_CAPABILITIES
from fastvid_export.backends.tensorrt_child import build
from fastvid_export.verify import TOLERANCES

from ..warm import CONTEXT
from .graphs import Graph

KINDS: Mapping[str, tuple[Flavour, torch.dtype]] = {
    "portable": ("portable", torch.float32),
    "fused": ("fused", torch.float16),
    "fused bfloat16": ("fused", torch.bfloat16),
}
"""The two flavours, each in a type that TensorRT has kernels for."""


def build_and_compare(graph: Graph, kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its smallest, odd and other sizes than the trace's, one frame alone, two videos, and the corners of profiles.

    Onnx's evaluator, which has bfloat16, is slow: two sizes there.
    """
    monkeypatch.setattr(tensorrt, "run_child", run_warm_child)
    flavour, dtype = KINDS[kind]
    exportable = graph.make(dtype)
    profiles = graph.profiles(exportable)
    assert tuple(profile.name for profile in profiles) == graph.names
    corners = [sizes for profile in profiles for sizes in (profile.minimum, profile.example, profile.maximum)]
    cases = [*exportable.corner_sizes(), *corners]
    if dtype == torch.bfloat16:
        cases = [exportable.example_sizes, profiles[0].minimum]
    backend = TensorRT(kind="tensorrt_rtx", flavour=flavour, compute_capabilities=RTX_CAPABILITIES)
    record = build_engine(exportable, folder / "engine", backend=backend, profiles=profiles, cases=cases)
    assert record.profiles == profiles
    assert (record.parity["passed"], record.parity_of, record.flavour) == (True, "graph", flavour)
    assert record.parity["tolerance"] == TOLERANCES[dtype]
    assert [dict(case) for case in cases] == [
        case["sizes"] for case in record.parity["cases"] if case["output"] == exportable.outputs[0]
    ][: len(cases)]
    assert record.precision == str(exportable.precision).removeprefix("torch.")
    assert exportable.precision == dtype
    assert record.files[0].size > 10_000
    if not torch.cuda.is_available():
        with pytest.raises(EngineError, match="there is no GPU here"):
            load_engine(folder / "engine", expect=exportable)


def run_warm_child(module: str, request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """As `run_child`, a process for each build; forked from one that has imported torch, which takes longer than it."""
    assert module == "fastvid_export.backends.tensorrt_child"
    answers, theirs = CONTEXT.Pipe(duplex=False)
    child = CONTEXT.Process(target=_answer, args=(theirs, dict(request)))
    child.start()
    theirs.close()
    try:
        answer: dict[str, Any] | BuildError = answers.recv()
    except EOFError:
        child.join()
        raise BuildError(f"the builder died, exit code {child.exitcode}") from None
    child.join()
    if isinstance(answer, BuildError):
        raise answer
    return answer


def _answer(answers: Connection, request: dict[str, Any]) -> None:
    try:
        answers.send(build(request))
    except BuildError as error:
        answers.send(error)
