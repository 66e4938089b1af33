"""Where a benchmark's numbers go."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def publish(facts: Mapping[str, Any], table: str, output: Path | None) -> None:
    """One line of JSON to stdout, the table to stderr; with `output` into that file too, the table beside as .md."""
    line = json.dumps(facts)
    print(line)
    print(table, file=sys.stderr)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(line + "\n")
        output.with_suffix(".md").write_text(table)
