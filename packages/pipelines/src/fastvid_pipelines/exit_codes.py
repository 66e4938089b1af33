"""What goes wrong as one line on stderr and an exit code."""

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from fastvid_pipelines.errors import NonFiniteError

RUN_TIME, USAGE, MISSING_DEPENDENCY, OUT_OF_MEMORY, TERMINATED, INTERRUPTED = 1, 2, 3, 4, 143, 130


@contextmanager
def exit_codes(as_json: bool) -> Iterator[None]:
    """Turn what goes wrong into one line on stderr and an exit code; with --json also into an object on stdout."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        if isinstance(error, typer.Exit):
            raise
        code = exit_code(error)
        if code == RUN_TIME and not _explains_itself(error):
            traceback.print_exc()
        message = "; ".join([str(error) or type(error).__name__, *getattr(error, "__notes__", ())])
        if code == OUT_OF_MEMORY:
            message = f"out of memory ({message}); try fewer frames, a smaller size or --dtype bfloat16"
        print(f"error: {message}", file=sys.stderr)
        if as_json:
            print(json.dumps({"error": message, "exit_code": code}))
        raise typer.Exit(code) from None


def exit_code(error: Exception) -> int:
    """0 is success; 1 run time, 2 usage, 3 missing dependency, 4 out of memory."""
    if isinstance(error, ImportError):
        return MISSING_DEPENDENCY
    if isinstance(error, MemoryError) or _is_torch_out_of_memory(error):
        return OUT_OF_MEMORY
    if isinstance(error, ValueError) and not isinstance(error, NonFiniteError):
        return USAGE
    return RUN_TIME


def _explains_itself(error: Exception) -> bool:
    """Errors of the machine, and those that a package of fastvid raises for its users."""
    return isinstance(error, OSError) or type(error).__module__.startswith("fastvid_")


def _is_torch_out_of_memory(error: Exception) -> bool:
    """torch has a class for devices and, on the CPU, a plain RuntimeError with these words."""
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )
