"""An engine and the model that it was built from, as verbs that compare the two open them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from fastvid_export.commands.parts import Graph
from fastvid_export.discovery import load_part
from fastvid_export.expected import expected_of
from fastvid_export.exportable import Exportable
from fastvid_export.load import LoadedEngine, load_engine, read_record

EngineFolder = Annotated[Path, typer.Argument(help="Folder of an engine.")]
ModelFolder = Annotated[Path, typer.Argument(help="Folder of its model, or of the pipeline that holds it.")]
EnginePart = Annotated[
    Graph | None, typer.Option(help="Which part of a pipeline; without: what the engine's name says.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Both sides of a comparison."""

    loaded: LoadedEngine
    exportable: Exportable


def open_both(
    engine: Path, model: Path, part: Graph | None, device: torch.device, *, cuda_graphs: bool = False
) -> Opened:
    """Load the engine, and the model in its precision, there.

    Raises:
        EngineError: the engine is damaged, or of another model, precision, GPU or version.
        ValueError, ImportError: see `load_part` and `load_engine`.
    """
    record = read_record(engine)
    named = Graph(record.name.split()[0]) if part is None else part
    dtype = getattr(torch, record.precision)
    loaded_model = load_part(model, named.value, dtype=None if dtype == torch.float32 else dtype, device=device)
    exportable = expected_of(record, loaded_model)
    return Opened(loaded=load_engine(engine, expect=exportable, cuda_graphs=cuda_graphs), exportable=exportable)
