"""The verb `export inspect`: what an engine's folder holds, and whether it is whole."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fastvid_export.commands.describe import describe
from fastvid_export.commands.failures import failures
from fastvid_export.load import read_record


def inspect(
    folder: Annotated[Path, typer.Argument(help="Folder of an engine.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the engine's record as one JSON object.")] = False,
) -> None:
    """Check every digest of an engine and say what it was built for; nothing of it is run."""
    with failures(as_json):
        record = read_record(folder)
    print(json.dumps(json.loads(record.to_json())) if as_json else describe(record, folder))
