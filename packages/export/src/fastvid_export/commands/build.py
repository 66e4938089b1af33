"""The verb `export build`: a part of a model to a verified engine."""

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from fastvid_export.backend import Backend
from fastvid_export.build import build_engine
from fastvid_export.commands.describe import describe
from fastvid_export.commands.device import DeviceFlag, on_device
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
    tf32: bool | None
    max_autotune: bool | None
    require_full_compilation: bool | None

    def backend(self, name: BackendName, device: torch.device) -> Backend:
        """The backend of this name with these settings, for a model that lies there.

        Raises:
            ValueError: a flag that has no effect on it.
        """
        given = {flag: value for flag in self.__slots__ if (value := getattr(self, flag)) not in (None, ())}
        legal = {
            BackendName.ONNXRUNTIME: {"flavour", "provider"},
            BackendName.AOTINDUCTOR: {"max_autotune"},
            BackendName.TENSORRT: {"flavour", "workspace", "optimization_level", "timing_cache", "tf32"},
            BackendName.TENSORRT_RTX: {"flavour", "compute_capabilities", "workspace", "optimization_level", "tf32"},
            BackendName.TORCH_TENSORRT: {"require_full_compilation"},
        }[name]
        for flag in given:
            if flag not in legal:
                raise ValueError(f"`{flag}` has no effect on {name.value}; leave it out")
        return _backend(name, given, device)


def build(  # noqa: PLR0913, PLR0917  # one parameter a flag
    model: Annotated[Path, typer.Argument(help="Folder of a model, or of a pipeline that holds it.")],
    output: Annotated[Path, typer.Option(help="Folder of the engine; made if it is not there.")],
    part: Annotated[Graph, typer.Option(help="Which part of it.")],
    backend: Annotated[BackendName, typer.Option(help="What builds the engine, and runs it later.")],
    workload: Annotated[list[str], typer.Option(help=f"{GRAMMAR}. The first one is what the engine is tuned for.")],
    device: DeviceFlag = "cpu",
    stride: Annotated[
        str | None,
        typer.Option(help="Pixels to latents, 4x16x16, of a transformer or upsampler that lies outside a pipeline."),
    ] = None,
    causal: Annotated[
        bool | None, typer.Option(help="With --stride: whether the first frame has a latent of its own, as by default.")
    ] = None,
    cell: Annotated[
        str | None,
        typer.Option(help="Tokens for each destination of token reduction, as the accelerator has it; 1x2x2 if not."),
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
    tf32: Annotated[
        bool | None, typer.Option("--tf32", help="TensorRT: let float32 lose mantissa bits in matrix products.")
    ] = None,
    max_autotune: Annotated[
        bool | None, typer.Option("--max-autotune", help="AOTInductor: time several kernels each; takes long.")
    ] = None,
    require_full_compilation: Annotated[
        bool | None,
        typer.Option("--require-full-compilation", help="torch-tensorrt: refuse to leave operations to torch."),
    ] = None,
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
        tf32=tf32,
        max_autotune=max_autotune,
        require_full_compilation=require_full_compilation,
    )
    workloads = [Workload.parse(text) for text in workload]
    if cell is not None and (matching or (q_blocks is None and kv_blocks is None)):
        raise ValueError("`cell` has no effect on a graph that keeps all tokens; leave it out")
    with failures(as_json), on_device(device) as place:
        chosen = flags.backend(backend, place)
        loaded = graph.load(model, place)
        exportable = with_axes(graph.exportable(loaded), parse_axes(axis or []))
        shape = geometry(model, part, loaded, stride, causal)
        if cell is not None:
            shape = replace(shape, cell=_three("cell", cell))
        profiles = profiles_of(exportable, workloads, shape)
        record = build_engine(exportable, output, backend=chosen, profiles=profiles, wait=wait, rebuild=rebuild)
    print(json.dumps(json.loads(record.to_json())) if as_json else describe(record, output))


def geometry(model: Path, part: Graph, loaded: Any, stride: str | None, causal: bool | None) -> Geometry:
    """How a video becomes the axes of the part; flags say it only where no autoencoder can.

    Raises:
        ValueError: no stride is given, and there is no autoencoder to ask; or there is, and one is given.
    """
    patch_size = (1, 1, 1) if part in (Graph.ENCODER, Graph.DECODER, Graph.UPSAMPLER) else loaded.config.patch_size
    in_pipeline = (model / "model_index.json").is_file()
    if part in (Graph.ENCODER, Graph.DECODER) or in_pipeline:
        for name, given in (("stride", stride), ("causal", causal)):
            if given is not None:
                raise ValueError(f"`{name}` has no effect where there is an autoencoder, which says it; leave it out")
        codec = loaded if part in (Graph.ENCODER, Graph.DECODER) else load_part(model, "decoder")
        step = codec.stride
        first_alone = step[0] == 1 or codec.num_latent_frames(step[0]) == 2
        return Geometry(stride=step, causal=first_alone, patch_size=patch_size)
    if stride is None:
        raise ValueError("`stride` must be given for a model that lies outside a pipeline, such as 4x16x16")
    return Geometry(stride=_three("stride", stride), causal=causal is not False, patch_size=patch_size)


def _three(name: str, text: str) -> Grid:
    numbers = text.split("x")
    if len(numbers) != 3 or not all(number.isdecimal() and int(number) for number in numbers):
        raise ValueError(f"`{name}` is {text!r}; expected FRAMESxHEIGHTxWIDTH, such as 4x16x16")
    frames, height, width = map(int, numbers)
    return frames, height, width


def _backend(name: BackendName, given: dict[str, Any], device: torch.device) -> Backend:
    match name:
        case BackendName.ONNXRUNTIME:
            from fastvid_export.backends.onnxruntime import OnnxRuntime

            return OnnxRuntime(**given)
        case BackendName.AOTINDUCTOR:
            from fastvid_export.backends.aotinductor import AOTInductor

            return AOTInductor(device="cpu" if device.type == "cpu" else "cuda", **given)
        case BackendName.TENSORRT | BackendName.TENSORRT_RTX:
            from fastvid_export.backends.tensorrt import TensorRT

            return TensorRT(kind="tensorrt" if name is BackendName.TENSORRT else "tensorrt_rtx", **given)
        case BackendName.TORCH_TENSORRT:
            from fastvid_export.backends.torch_tensorrt import TorchTensorRT

            return TorchTensorRT(**given)
