"""The one place that touches TensorRT: the package for data centres, 10.16 to 11.x, and TensorRT-RTX, behind one face.

Source of what differs: introspection of the Python bindings 10.16.1, 11.0.0, 11.4.0 and RTX 1.7.1.
"""

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, final

from fastvid_export.errors import BuildError, EngineError

logger = logging.getLogger(__name__)

Kind = Literal["tensorrt", "tensorrt_rtx"]
Shape = tuple[int, ...]
Ranges = Mapping[str, tuple[Shape, Shape, Shape]]
"""By input: smallest, tuned-for and largest shape."""

EXTRAS: dict[Kind, str] = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}

PROMOTED = ("values are not self-consistent",)
"""Warnings of the builder after which it makes an engine that fails when it runs: profiles that break a shape."""

NO_KERNEL = "was not supported by a dedicated kernel"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderOptions:
    """What changes the engine, beside the graph and the profiles; None: the builder's own default.

    Attributes:
        compute_capabilities: GPUs to build for, 89 is 8.9; of TensorRT-RTX only, empty: the GPU that is here.
        workspace: bytes of scratch memory that a layer may take.
        optimization_level: 0 to 5; higher searches longer.
        tf32: whether float32 may lose mantissa bits in matrix products.
    """

    compute_capabilities: tuple[int, ...] = ()
    workspace: int | None = None
    optimization_level: int | None = None
    tf32: bool = False


@final
class TrtApi:
    """TensorRT as this package uses it.

    Attributes:
        kind: which of the two.
        version: of the installed package.
        has_targets: whether engines can be built for GPUs that are not here.
        has_validity: whether a file can be judged by its header.
        has_timing_cache: whether measured times can be kept from one build to the next.
    """

    def __init__(self, module: Any, kind: Kind) -> None:
        self.kind: Kind = kind
        self.version = str(module.__version__)
        self.has_targets = self.has_validity = kind == "tensorrt_rtx"
        self.has_timing_cache = kind == "tensorrt"
        self._trt = module
        self.messages: list[tuple[int, str]] = []
        self._logger = _make_logger(module, self.messages)
        self._runtime: Any = None

    # building

    def build(
        self, graph: Path, profiles: Sequence[Ranges], options: BuilderOptions, timing_cache: bytes | None
    ) -> tuple[bytes, bytes | None]:
        """An ONNX file to a plan, and what the builder measured if it measures.

        Raises:
            BuildError: with what the parser or the builder said.
        """
        trt = self._trt
        self.messages.clear()
        builder = trt.Builder(self._logger)
        # 10.x needs to be told; later versions know no other networks.
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        self._parse(network, graph)
        config = builder.create_builder_config()
        self._configure(config, options)
        for number, ranges in enumerate(profiles):
            self._add_profile(builder, network, config, ranges, number)
        cache = None
        if self.has_timing_cache:
            cache = config.create_timing_cache(timing_cache or b"")
            config.set_timing_cache(cache, False)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise BuildError(f"{self.kind} {self.version} built no engine: {self._complaints()}")
        promoted = [text for _, text in self.messages if any(pattern in text for pattern in PROMOTED)]
        if promoted:
            raise BuildError(f"{self.kind} {self.version} built an engine that would fail when it runs: {promoted[0]}")
        return bytes(plan), None if cache is None else bytes(cache.serialize())

    def _parse(self, network: Any, graph: Path) -> None:
        parser = self._trt.OnnxParser(network, self._logger)
        if not parser.parse_from_file(str(graph)):
            errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
            raise BuildError(f"{self.kind} {self.version} cannot read the graph: " + "; ".join(errors))

    def _configure(self, config: Any, options: BuilderOptions) -> None:
        trt = self._trt
        if not options.tf32:
            config.clear_flag(trt.BuilderFlag.TF32)  # on by default
        if options.workspace is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
        if options.optimization_level is not None:
            config.builder_optimization_level = options.optimization_level
        if options.compute_capabilities:
            config.num_compute_capabilities = len(options.compute_capabilities)
            for index, capability in enumerate(options.compute_capabilities):
                target = getattr(trt.ComputeCapability, f"SM{capability}", None)
                if target is None:
                    raise BuildError(f"{self.kind} {self.version} builds for no GPU of compute capability {capability}")
                config.set_compute_capability(target, index)
        config.progress_monitor = _make_monitor(trt)

    def _add_profile(self, builder: Any, network: Any, config: Any, ranges: Ranges, number: int) -> None:
        names = [network.get_input(index).name for index in range(network.num_inputs)]
        if set(names) != set(ranges):  # an unknown name would be accepted without a word
            raise BuildError(f"profile {number} has shapes for {sorted(ranges)}, the graph has inputs {sorted(names)}")
        profile = builder.create_optimization_profile()
        for name, (smallest, best, largest) in ranges.items():
            profile.set_shape(name, smallest, best, largest)
        if not profile or config.add_optimization_profile(profile) != number:  # refused without an exception
            raise BuildError(f"profile {number} is not legal, smallest, best and largest shapes are {dict(ranges)}")

    def _complaints(self) -> str:
        trt = self._trt
        grave = (int(trt.ILogger.Severity.ERROR), int(trt.ILogger.Severity.INTERNAL_ERROR))
        errors = [text for severity, text in self.messages if severity in grave]
        if any(NO_KERNEL in text for text in errors):
            return (
                "the attention operator of the fused flavour has no kernel for this type, or for heads of this"
                f" width or number; build it in float16 or bfloat16, or build the portable flavour ({errors[0]})"
            )
        return "; ".join(errors[:3]) or "it does not say why"

    # running

    def load(self, plan: bytes) -> Any:
        """A plan to an engine. A plan can hold code: only load what you built, or trust as you trust a program.

        Raises:
            EngineError: the plan is for another version or GPU, or damaged.
        """
        self.messages.clear()
        if self._runtime is None:
            self._runtime = self._trt.Runtime(self._logger)
        if self.has_validity and (problem := self._invalidity(plan)):
            raise EngineError(f"{self.kind} {self.version} refuses the engine: {problem}")
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:  # no exception
            raise EngineError(f"{self.kind} {self.version} cannot load the engine: {self._complaints()}")
        return engine

    def _invalidity(self, plan: bytes) -> str | None:
        runtime, validity = self._runtime, self._trt.EngineValidity
        if len(plan) < runtime.engine_header_size:
            return f"it has {len(plan)} bytes, less than a header"
        verdict, diagnostics = runtime.get_engine_validity(plan[: runtime.engine_header_size])
        return f"its header is not valid here (diagnostics {diagnostics})" if verdict == validity.INVALID else None

    def make_context(self, engine: Any) -> Any:
        """What runs an engine; its memory is given to it by `set_device_memory` before each run.

        Raises:
            EngineError: no memory for it.
        """
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = engine.create_execution_context(strategy)
        if context is None:
            raise EngineError(f"{self.kind} {self.version} cannot run the engine: {self._complaints()}")
        return context

    def tensors(self, engine: Any) -> tuple[dict[str, str], dict[str, str]]:
        """Names and types, `float16` and the like, of inputs and of outputs."""
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        types = {name: self._type_name(engine.get_tensor_dtype(name)) for name in names}
        taken = [name for name in names if engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT]
        return {name: types[name] for name in taken}, {name: types[name] for name in names if name not in taken}

    def _type_name(self, dtype: Any) -> str:
        types = self._trt.DataType
        known = {
            types.FLOAT: "float32",
            types.HALF: "float16",
            types.BF16: "bfloat16",
            types.INT32: "int32",
            types.INT64: "int64",
            types.BOOL: "bool",
        }
        return known.get(dtype, str(dtype))


@functools.cache  # one logger a process: TensorRT keeps the first that it sees
def load_api(kind: Kind) -> TrtApi:
    """The installed TensorRT.

    Raises:
        ImportError: it is not installed, or its libraries cannot be loaded; with the extra that installs it.
    """
    try:
        module = import_module("tensorrt") if kind == "tensorrt" else import_module("tensorrt_rtx")
    except (ImportError, OSError) as error:
        raise ImportError(
            f'{kind} cannot be imported ({error}); run: pip install "fastvid-export[{EXTRAS[kind]}]"'
        ) from error
    return TrtApi(module, kind)


def _make_logger(trt: Any, messages: list[tuple[int, str]]) -> Any:
    severity = trt.ILogger.Severity
    levels = {severity.INTERNAL_ERROR: logging.ERROR, severity.ERROR: logging.ERROR, severity.WARNING: logging.WARNING}

    class Logger(trt.ILogger):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            level = levels.get(severity, logging.DEBUG)
            if level > logging.DEBUG:
                messages.append((int(severity), msg))
            logger.log(level, "%s", msg)

    return Logger()


def _make_monitor(trt: Any) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # as above
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                logger.info("%s: %d steps", phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return True  # go on

        def phase_finish(self, phase_name: str) -> None:
            pass

    return Monitor()
