"""Python scripts as a user runs them."""

import subprocess
import sys
from pathlib import Path


def run(*command: str | Path, cwd: Path) -> str:
    result = subprocess.run(
        [sys.executable, *map(str, command)], check=False, cwd=cwd, capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
