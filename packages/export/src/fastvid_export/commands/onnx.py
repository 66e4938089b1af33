"""The verb `export onnx`: a part of a model to a verified graph."""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fastvid_export.discovery import load_part
from fastvid_export.errors import EngineError, ExportError
from fastvid_export.exportable import AxisRange, Exportable
from fastvid_export.graphs.content_transformer import content_transformer_exportable
from fastvid_export.graphs.decoder import decoder_exportable
from fastvid_export.graphs.transformer import transformer_exportable
from fastvid_export.graphs.upsampler import upsampler_exportable
from fastvid_export.onnx import export_onnx
from fastvid_export.verify import ParityError, ParityReport

RUN_TIME = 1


class GraphFlavour(StrEnum):
    """As in `fastvid_export.onnx`."""

    PORTABLE = "portable"
    FUSED = "fused"


class Graph(StrEnum):
    """What of a pipeline can be exported."""

    DECODER = "decoder"
    TRANSFORMER = "transformer"
    UPSAMPLER = "upsampler"
    REFINER = "refiner"


def onnx(  # noqa: PLR0913, PLR0917  # one parameter a flag
    model: Annotated[Path, typer.Argument(help="Folder of a model, or of a pipeline that holds it.")],
    output: Annotated[Path, typer.Option(help="File to write; the parity report appears beside it as .json.")],
    part: Annotated[Graph, typer.Option(help="Which part of it.")],
    reference: Annotated[bool, typer.Option(help="Decoder: take the first frame as a second input.")] = False,
    text_mask: Annotated[bool, typer.Option(help="Transformer and refiner: take a mask of the text tokens.")] = False,
    axis: Annotated[
        list[str] | None, typer.Option(help="Range of an axis, NAME=MINIMUM:EXAMPLE:MAXIMUM, such as t=1:5:33.")
    ] = None,
    flavour: Annotated[
        GraphFlavour, typer.Option(help="For any runtime, or with single operators for attention and norms.")
    ] = GraphFlavour.PORTABLE,
    as_json: Annotated[bool, typer.Option("--json", help="Print the parity report as one JSON object.")] = False,
) -> None:
    """Turn a part of a model into a graph, and compare it with the model at many sizes before it is written."""
    if reference and part is not Graph.DECODER:
        raise ValueError(f"`reference` has no effect on the {part.value}; leave it out")
    if text_mask and part not in (Graph.TRANSFORMER, Graph.REFINER):
        raise ValueError(f"`text_mask` has no effect on the {part.value}; leave it out")
    loaded = load_part(model, part.value)
    if part is Graph.DECODER:
        exportable = decoder_exportable(loaded, reference=reference)
    elif part is Graph.UPSAMPLER:
        exportable = upsampler_exportable(loaded)
    elif hasattr(loaded.config, "content_frame"):
        exportable = content_transformer_exportable(loaded, text_mask=text_mask)
    else:
        exportable = transformer_exportable(loaded, text_mask=text_mask)
    exportable = with_axes(exportable, parse_axes(axis or []))
    try:
        report = export_onnx(exportable, output, flavour="fused" if flavour is GraphFlavour.FUSED else "portable")
    except (ExportError, ParityError, EngineError) as error:
        print(f"error: {error}", file=sys.stderr)
        if as_json:
            print(json.dumps({"error": str(error), "exit_code": RUN_TIME}))
        raise typer.Exit(RUN_TIME) from None
    _print(output, report, as_json)


def parse_axes(texts: list[str]) -> dict[str, AxisRange]:
    """`t=1:5:33` and the like.

    Raises:
        ValueError: another form, an axis twice, or a range that is none.
    """
    axes: dict[str, AxisRange] = {}
    for text in texts:
        match = re.fullmatch(r"(\w+)=(\d+):(\d+):(\d+)", text)
        if match is None:
            raise ValueError(f"`axis` is {text!r}; expected NAME=MINIMUM:EXAMPLE:MAXIMUM, such as t=1:5:33")
        if match[1] in axes:
            raise ValueError(f"`axis` gives {match[1]} twice")
        axes[match[1]] = AxisRange(minimum=int(match[2]), example=int(match[3]), maximum=int(match[4]))
    return axes


def with_axes(exportable: Exportable, axes: Mapping[str, AxisRange]) -> Exportable:
    """The same with some ranges replaced.

    Raises:
        ValueError: an axis that it does not have.
    """
    unknown = sorted(set(axes) - set(exportable.axes))
    if unknown:
        raise ValueError(f"`axis` names {unknown}; the {exportable.name} has {', '.join(exportable.axes)}")
    return replace(exportable, axes={**exportable.axes, **axes})


def _print(output: Path, report: ParityReport, as_json: bool) -> None:
    if as_json:
        print(json.dumps(json.loads(report.to_json())))
        return
    for case in report.cases:
        print(case.describe())
    print(f"{output}: {report.name}, {len(report.cases)} comparisons passed, largest relative error {report.worst:.1e}")
