"""The verb `export onnx`: a part of a model to a verified graph."""

import json
from pathlib import Path
from typing import Annotated

import typer

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
from fastvid_export.onnx import export_onnx
from fastvid_export.verify import ParityReport


def onnx(  # noqa: PLR0913, PLR0917  # one parameter a flag
    model: Annotated[Path, typer.Argument(help="Folder of a model, or of a pipeline that holds it.")],
    output: Annotated[Path, typer.Option(help="File to write; the parity report appears beside it as .json.")],
    part: Annotated[Graph, typer.Option(help="Which part of it.")],
    precision: Annotated[Precision, typer.Option(help="Of the weights, and of what is computed.")] = Precision.FP32,
    reference: Annotated[bool, typer.Option(help="Decoder: take the first frame as a second input.")] = False,
    text_mask: Annotated[bool, typer.Option(help="Transformer and refiner: take a mask of the text tokens.")] = False,
    q_blocks: Annotated[str | None, typer.Option(help=BLOCKS_HELP.format("queries"))] = None,
    kv_blocks: Annotated[str | None, typer.Option(help=BLOCKS_HELP.format("keys and values"))] = None,
    matching: Annotated[bool, typer.Option(help="All tokens, and what those blocks match them by.")] = False,
    block_tables: Annotated[bool, typer.Option(help="Transformer and refiner: positions for each block.")] = False,
    axis: Annotated[
        list[str] | None, typer.Option(help="Range of an axis, NAME=MINIMUM:EXAMPLE:MAXIMUM, such as t=1:5:33.")
    ] = None,
    flavour: Annotated[
        GraphFlavour, typer.Option(help="For any runtime, or with single operators for attention and norms.")
    ] = GraphFlavour.PORTABLE,
    as_json: Annotated[bool, typer.Option("--json", help="Print the parity report as one JSON object.")] = False,
) -> None:
    """Turn a part of a model into a graph, and compare it with the model at many sizes before it is written."""
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
    exportable = with_axes(graph.exportable(graph.load(model)), parse_axes(axis or []))
    with failures(as_json):
        report = export_onnx(exportable, output, flavour="fused" if flavour is GraphFlavour.FUSED else "portable")
    _print(output, report, as_json)


def _print(output: Path, report: ParityReport, as_json: bool) -> None:
    if as_json:
        print(json.dumps(json.loads(report.to_json())))
        return
    for case in report.cases:
        print(case.describe())
    print(f"{output}: {report.name}, {len(report.cases)} comparisons passed, largest relative error {report.worst:.1e}")
