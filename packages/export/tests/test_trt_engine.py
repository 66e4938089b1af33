"""How an engine of TensorRT is run, on a stand-in for TensorRT; that its names are real is checked apart."""

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fastvid_export import ActivationMemory, EngineError
from fastvid_export.backends import tensorrt
from fastvid_export.backends.trt_api import TrtApi
from fastvid_export.backends.trt_engine import TrtEngine
from fastvid_export.guard import GuardedEngine
from fastvid_export.record import EngineRecord, OutputRecord
from torch import Tensor

from .engines import PROFILES
from .test_record import RECORD

CPU = torch.device("cpu")
FP32 = replace(
    RECORD,
    inputs=(replace(RECORD.inputs[0], dtype="float32", shape=("b", "t", 4)),),
    results=(OutputRecord(name="y", dtype="float32", dims=(None, None, 4)),),
    profiles=PROFILES,
    precision="float32",
)


class Context:
    """Doubles x, by address, as an engine does; refuses what TensorRT would."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self.calls = calls
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.memory: tuple[int, int] | None = None
        self.unknown: list[str] = []
        self.works = True

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.calls.append(("profile", profile, stream))
        return profile < 3

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return shape[0] < 5

    def infer_shapes(self) -> list[str]:
        self.shapes["y"] = self.shapes["x"]
        return self.unknown

    def update_device_memory_size_for_shapes(self) -> int:
        return 100 * self.shapes["x"][1]

    def set_device_memory(self, address: int, size: int) -> None:
        self.memory = address, size

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        assert self.memory is not None
        self.calls.append(("run", stream, self.memory[1]))
        return self.works


class Engine:
    num_io_tensors, num_optimization_profiles = 2, 3

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.context = Context(self.calls)

    def create_execution_context(self, strategy: str) -> Context | None:
        assert strategy == "user managed"
        return self.context

    def get_tensor_name(self, index: int) -> str:
        return "xy"[index]

    def get_tensor_dtype(self, name: str) -> str:
        return "float"

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "x" else "out"


class FakeLogger:
    def __init__(self) -> None:
        pass


def fake_tensorrt(engine: Engine | None) -> Any:
    FakeLogger.Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2)  # type: ignore[attr-defined]
    types = {name: name.lower() for name in ("FLOAT", "HALF", "BF16", "INT32", "INT64", "BOOL")}
    return SimpleNamespace(
        __version__="11.0.0",
        ILogger=FakeLogger,
        Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda plan: engine),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="user managed"),
        TensorIOMode=SimpleNamespace(INPUT="in"),
        DataType=SimpleNamespace(**types),
    )


def loaded(
    engine: Engine | None, record: EngineRecord = FP32, memory: ActivationMemory | None = None, **options: bool
) -> TrtEngine:
    api = TrtApi(fake_tensorrt(engine), "tensorrt")
    memory = memory or ActivationMemory()
    return TrtEngine(api, record, b"plan", device=CPU, memory=memory, stream=lambda: 7, **options)


def x(*shape: int) -> Mapping[str, Tensor]:
    return {"x": torch.zeros(*shape)}


def test_a_run_on_torch_memory_and_stream() -> None:
    engine = Engine()
    run = loaded(engine)
    (y,) = run(x(2, 6, 4), 0)
    assert (y.shape, y.dtype) == ((2, 6, 4), torch.float32)
    assert engine.context.addresses["y"] == y.data_ptr()
    assert engine.calls == [("profile", 0, 7), ("run", 7, 600)]


def test_the_profile_is_set_only_when_it_changes_and_the_guard_chooses_it() -> None:
    engine = Engine()
    run = GuardedEngine(FP32, loaded(engine))
    for shape in ((2, 3, 4), (2, 5, 4), (1, 40, 4), (2, 32, 4)):
        run(x(*shape))
    assert [call[1] for call in engine.calls if call[0] == "profile"] == [1, 2, 0]
    with pytest.raises(EngineError, match="t = 65"):
        run(x(1, 65, 4))
    assert len(engine.calls) == 7  # nothing reached the engine


def test_inputs_that_are_not_contiguous_are_copied() -> None:
    engine = Engine()
    tensor = torch.zeros(6, 2, 4).transpose(0, 1)
    loaded(engine)({"x": tensor}, 0)
    assert engine.context.addresses["x"] != tensor.data_ptr()


def test_engines_share_scratch_memory_that_only_grows() -> None:
    memory = ActivationMemory()
    engines = Engine(), Engine()
    runs = [loaded(engine, memory=memory) for engine in engines]
    for run, length in ((runs[0], 8), (runs[1], 4), (runs[0], 16)):
        run(x(1, length, 4), 0)
    assert engines[1].context.memory is not None
    assert engines[1].context.memory[1] == 400
    assert memory.of(1, CPU).numel() == 1600
    assert memory.of(1, CPU).data_ptr() == memory.of(1600, CPU).data_ptr()


@pytest.mark.parametrize(
    ("spoil", "profile", "shape", "message"),
    [
        ({}, 3, (1, 2, 4), "refuses profile 3"),
        ({}, 0, (5, 2, 4), r"refuses shape \(5, 2, 4\) for `x`"),
        ({"unknown": ["y"]}, 0, (1, 2, 4), r"cannot tell the shapes of \['y'\]"),
        ({"works": False}, 0, (1, 2, 4), "could not run the fake engine"),
    ],
)
def test_every_refusal_of_tensorrt_is_an_error(
    spoil: dict[str, Any], profile: int, shape: tuple[int, ...], message: str
) -> None:
    engine = Engine()
    for name, value in spoil.items():
        setattr(engine.context, name, value)
    with pytest.raises(EngineError, match=message):
        loaded(engine)(x(*shape), profile)


def test_a_plan_that_is_not_what_its_record_says() -> None:
    with pytest.raises(EngineError, match="cannot load the engine"):
        loaded(None)
    with pytest.raises(EngineError, match=r"the plan takes \{'x': 'float32'\} .* its record says \{'x': 'float16'\}"):
        loaded(Engine(), RECORD)
    with pytest.raises(EngineError, match="the plan has 3 profiles, its record 1"):
        loaded(Engine(), replace(FP32, profiles=PROFILES[:1]))
    engine = Engine()
    engine.context = None  # type: ignore[assignment]
    with pytest.raises(EngineError, match="cannot run the engine"):
        loaded(engine)


class FakeGraph:
    replays = 0

    def replay(self) -> None:
        FakeGraph.replays += 1


def test_cuda_graphs_are_recorded_for_each_profile_and_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not for each address: the inputs of a pipeline lie elsewhere at every step."""
    from contextlib import nullcontext

    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    engine = Engine()
    run = loaded(engine, cuda_graphs=True)
    calls = [({"x": torch.full((1, 4, 4), float(n))}, profile) for n, profile in ((1, 0), (2, 0), (3, 0), (4, 1))]
    outputs, read = [], []
    for inputs, profile in calls:
        outputs.append(run(inputs, profile)[0])
        recorded = run._graphs[profile, ((1, 4, 4),)]  # type: ignore[index]
        assert recorded.inputs["x"].data_ptr() != inputs["x"].data_ptr()  # which the caller may free
        read.append(recorded.inputs["x"].unique().item())
    assert read == [1, 2, 3, 4]  # what each replay reads is what came in
    assert len([call for call in engine.calls if call[0] == "run"]) == 4  # a warm run and a recorded one, twice
    assert FakeGraph.replays == 4
    assert len({output.data_ptr() for output in outputs}) == 4  # no result is overwritten by the next
    run(x(1, 5, 4), 0)
    assert len([call for call in engine.calls if call[0] == "run"]) == 6


@pytest.mark.parametrize(
    ("kind", "target", "here", "fits"),
    [
        ("tensorrt", ("sm90", "NVIDIA H100"), ("sm90", "NVIDIA H100"), True),
        ("tensorrt", ("sm90", "NVIDIA H100"), ("sm90", "NVIDIA H200"), False),
        ("tensorrt_rtx", ("sm80", "sm89"), ("sm89", "NVIDIA L40S"), True),
        ("tensorrt_rtx", ("sm80", "sm89"), ("sm90", "NVIDIA H100"), False),
    ],
)
def test_only_on_the_gpu_that_it_was_built_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, kind: Any, target: Any, here: Any, fits: bool
) -> None:
    monkeypatch.setattr(tensorrt, "load_api", lambda kind: SimpleNamespace(version="1.7.1", kind=kind))
    monkeypatch.setattr(tensorrt, "TrtEngine", lambda *arguments, **options: "an engine")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(tensorrt, "this_gpu", lambda: here)
    (tmp_path / "engine.plan").write_bytes(b"plan")
    record = replace(FP32, backend=kind, target=target)
    if fits:
        assert tensorrt.load(record, tmp_path) == "an engine"
    else:
        with pytest.raises(EngineError, match=f"was built for {' '.join(target)}, the GPU here is {' '.join(here)}"):
            tensorrt.load(record, tmp_path)
    with pytest.raises(EngineError, match=f"was built by {kind} 1.6.0, installed is 1.7.1"):
        tensorrt.load(replace(record, backend_version="1.6.0"), tmp_path)
