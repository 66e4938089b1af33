"""The verb `export build`: a part of a model to a verified engine."""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fastvid_export.backend import Backend
from fastvid_export.build import build_engine
from fastvid_export.commands.describe import describe
from fastvid_export.commands.failures import failures
from fastvid_export.commands.parts import (
    BLOCKS_HELP,
    Graph,
    GraphFlags,
    GraphFlavour,
    Precision,
    parse_axes,
    with_axes,
)
from fastvid_export.discovery import load_part
from fastvid_export.lengths import Grid
from fastvid_export.onnx import Flavour
from fastvid_export.profile_plan import Geometry, profiles_of
from fastvid_export.workload import GRAMMAR, Workload


class BackendName(StrEnum):
    """What can build."""

    ONNXRUNTIME = "onnxruntime"
    AOTINDUCTOR = "aotinductor"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt_rtx"
    TORCH_TENSORRT = "torch_tensorrt"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendFlags:
    """The flags that only some backends take; None: not given."""

    flavour: Flavour | None
    provider: str | None
    compute_capabilities: tuple[int, ...]
    workspace: int | None
    optimization_level: int | None
    timing_cache: Path | None

    def backend(self, name: BackendName) -> Backend:
        """The backend of this name with these settings.

        Raises:
            ValueError: a flag that has no effect on it.
        """
        given = {flag: value for flag in self.__slots__ if (value := getattr(self, flag)) not in (None, ())}
        legal = {
            BackendName.ONNXRUNTIME: {"flavour", "provider"},
            BackendName.AOTINDUCTOR: set[str](),
            BackendName.TENSORRT: {"flavour", "workspace", "optimization_level", "timing_cache"},
            BackendName.TENSORRT_RTX: {"flavour", "compute_capabilities", "workspace", "optimization_level"},
            BackendName.TORCH_TENSORRT: set[str](),
        }[name]
        for flag in given:
            if flag not in legal:
                raise ValueError(f"`{flag}` has no effect on {name.value}; leave it out")
        return _backend(name, given)


def build(  # noqa: PLR0913, PLR0917  # one parameter a flag
    model: Annotated[Path, typer.Argument(help="Folder of a model, or of a pipeline that holds it.")],
    output: Annotated[Path, typer.Option(help="Folder of the engine; made if it is not there.")],
    part: Annotated[Graph, typer.Option(help="Which part of it.")],
    backend: Annotated[BackendName, typer.Option(help="What builds the engine, and runs it later.")],
    workload: Annotated[list[str], typer.Option(help=f"{GRAMMAR}. The first one is what the engine is tuned for.")],
    stride: Annotated[
        str | None, typer.Option(help="Pixels to latents, 4x16x16; without: of the pipeline's autoencoder.")
    ] = None,
    precision: Annotated[Precision, typer.Option(help="Of the weights, and of what is computed.")] = Precision.FP32,
    reference: Annotated[bool, typer.Option(help="Decoder: take the first frame as a second input.")] = False,
    text_mask: Annotated[bool, typer.Option(help="Transformer and refiner: take a mask of the text tokens.")] = False,
    q_blocks: Annotated[str | None, typer.Option(help=BLOCKS_HELP.format("queries"))] = None,
    kv_blocks: Annotated[str | None, typer.Option(help=BLOCKS_HELP.format("keys and values"))] = None,
    matching: Annotated[bool, typer.Option(help="All tokens, and what those blocks match them by.")] = False,
    block_tables: Annotated[bool, typer.Option(help="Transformer and refiner: positions for each block.")] = False,
    axis: Annotated[
        list[str] | None, typer.Option(help="Range of an axis of the graph, NAME=MINIMUM:EXAMPLE:MAXIMUM.")
    ] = None,
    flavour: Annotated[GraphFlavour | None, typer.Option(help="Of the graph; without: what the backend likes.")] = None,
    provider: Annotated[str | None, typer.Option(help="onnxruntime: cpu, cuda or tensorrt.")] = None,
    compute_capability: Annotated[
        list[int] | None, typer.Option(help="TensorRT-RTX: a GPU to build for; 89 is 8.9. May come several times.")
    ] = None,
    workspace: Annotated[int | None, typer.Option(help="TensorRT: bytes of scratch memory a layer may take.")] = None,
    optimization_level: Annotated[int | None, typer.Option(help="TensorRT: 0 to 5.")] = None,
    timing_cache: Annotated[Path | None, typer.Option(help="TensorRT: file that keeps measured times.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for another build of this folder; -1: any time.")] = 0,
    rebuild: Annotated[bool, typer.Option(help="Build even where the same engine is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the engine's record as one JSON object.")] = False,
) -> None:
    """Turn a part of a model into an engine; it is installed only after it was compared with the model."""
    graph = GraphFlags(
        part=part,
        precision=precision,
        reference=reference,
        text_mask=text_mask,
        block_tables=block_tables,
        matching=matching,
        q_blocks=q_blocks,
        kv_blocks=kv_blocks,
    )
    flags = BackendFlags(
        flavour=None if flavour is None else "fused" if flavour is GraphFlavour.FUSED else "portable",
        provider=provider,
        compute_capabilities=tuple(compute_capability or ()),
        workspace=workspace,
        optimization_level=optimization_level,
        timing_cache=timing_cache,
    )
    chosen = flags.backend(backend)
    workloads = [Workload.parse(text) for text in workload]
    loaded = graph.load(model)
    exportable = with_axes(graph.exportable(loaded), parse_axes(axis or []))
    profiles = profiles_of(exportable, workloads, geometry(model, part, loaded, stride))
    with failures(as_json):
        record = build_engine(exportable, output, backend=chosen, profiles=profiles, wait=wait, rebuild=rebuild)
    print(json.dumps(json.loads(record.to_json())) if as_json else describe(record, output))


def geometry(model: Path, part: Graph, loaded: Any, stride: str | None) -> Geometry:
    """How a video becomes the axes of the part.

    Raises:
        ValueError: no stride is given, and there is no autoencoder to ask.
    """
    if stride is not None:
        numbers = stride.split("x")
        if len(numbers) != 3 or not all(number.isdecimal() and int(number) for number in numbers):
            raise ValueError(f"`stride` is {stride!r}; expected FRAMESxHEIGHTxWIDTH, such as 4x16x16")
        step: Grid = (int(numbers[0]), int(numbers[1]), int(numbers[2]))
        causal = True
    else:
        if part in (Graph.ENCODER, Graph.DECODER):
            codec = loaded
        elif (model / "model_index.json").is_file():
            codec = load_part(model, "decoder")
        else:
            raise ValueError("`stride` must be given for a model that lies outside a pipeline, such as 4x16x16")
        step = codec.stride
        causal = step[0] == 1 or codec.num_latent_frames(step[0]) == 2  # as the first frame counts alone
    patch_size = (1, 1, 1) if part in (Graph.ENCODER, Graph.DECODER, Graph.UPSAMPLER) else loaded.config.patch_size
    return Geometry(stride=step, causal=causal, patch_size=patch_size)


def _backend(name: BackendName, given: dict[str, Any]) -> Backend:
    match name:
        case BackendName.ONNXRUNTIME:
            from fastvid_export.backends.onnxruntime import OnnxRuntime

            return OnnxRuntime(**given)
        case BackendName.AOTINDUCTOR:
            from fastvid_export.backends.aotinductor import AOTInductor

            return AOTInductor()
        case BackendName.TENSORRT | BackendName.TENSORRT_RTX:
            from fastvid_export.backends.tensorrt import TensorRT

            return TensorRT(kind="tensorrt" if name is BackendName.TENSORRT else "tensorrt_rtx", **given)
        case BackendName.TORCH_TENSORRT:
            from fastvid_export.backends.torch_tensorrt import TorchTensorRT

            return TorchTensorRT()
