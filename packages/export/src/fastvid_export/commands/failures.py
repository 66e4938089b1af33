"""What fails at run time, as one line and an exit code; with --json also as an object."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from fastvid_export.errors import BuildError, EngineError, ExportError
from fastvid_export.verify import ParityError

RUN_TIME = 1


@contextmanager
def failures(as_json: bool) -> Iterator[None]:
    """Turn this package's own errors into exit code 1; all others are the caller's."""
    try:
        yield
    except (ExportError, ParityError, EngineError, BuildError) as error:
        print(f"error: {error}", file=sys.stderr)
        if as_json:
            print(json.dumps({"error": str(error), "exit_code": RUN_TIME}))
        raise typer.Exit(RUN_TIME) from None
