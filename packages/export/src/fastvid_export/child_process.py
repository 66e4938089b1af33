"""Work in a process of its own: builders crash, leak, and log to stderr, and none of it shall reach the caller.

The caller runs `run_child`; the module that it names runs `serve` when it is the main program. They speak by two JSON
files in a folder of the caller's.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastvid_export.errors import BuildError, EngineError

logger = logging.getLogger(__name__)

LAST_LINES = 12
"""What is shown of a child's output when it dies without a word."""


def run_child(module: str, request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Run `python -m module` on a request; its output is logged line by line.

    Args:
        module: calls `serve` as its main program.
        request: what JSON holds.
        folder: for the two files; stays the caller's.
    Raises:
        BuildError: the child says why it failed, or died.
        ImportError: the child lacks a package.
    """
    asked, answered = folder / "request.json", folder / "answer.json"
    asked.write_text(json.dumps(dict(request)), encoding="utf-8")
    # The path as it is now: the child finds the packages that the caller found.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        [sys.executable, "-m", module, str(asked), str(answered)],
        stdin=subprocess.PIPE,  # never written to; its end tells the child that the caller is gone
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
        errors="replace",
    )
    lines: deque[str] = deque(maxlen=LAST_LINES)
    with process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line.rstrip())
                logger.info("%s", line.rstrip())
        except BaseException:  # an interrupt, say: no builder outlives its caller
            process.kill()
            raise
    if not answered.is_file():
        raise BuildError(f"the child process {_death(process.returncode)}; its last lines:\n" + "\n".join(lines))
    answer: dict[str, Any] = json.loads(answered.read_text(encoding="utf-8"))
    if "missing" in answer:
        raise ImportError(answer["missing"])
    if "error" in answer:
        raise BuildError(answer["error"])
    return answer


def serve(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The child's side: do the work of the request named on the command line, and write its answer."""
    asked, answered = Path(sys.argv[1]), Path(sys.argv[2])
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        answer = work(json.loads(asked.read_text(encoding="utf-8")))
    except ImportError as error:
        answer = {"missing": str(error)}
    except (BuildError, EngineError) as error:
        answer = {"error": str(error)}
    unfinished = answered.with_suffix(".part")
    unfinished.write_text(json.dumps(answer), encoding="utf-8")
    unfinished.replace(answered)


def _end_with_the_caller() -> None:
    """Wait for the end of the input, which comes with the death of the caller, however it died."""
    while os.read(0, 1):
        pass
    os._exit(1)


def _death(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code} and no answer"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
