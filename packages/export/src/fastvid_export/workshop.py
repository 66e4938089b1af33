"""Where files are made before they count: one writer at a time, and what a killed one left goes."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fastvid_export.errors import BuildError


@contextmanager
def locked(target: Path, *, wait: float) -> Iterator[None]:
    """Only one process at a time writes a file or folder; the death of a process frees it.

    Args:
        wait: seconds to wait for another one; negative: as long as it takes.
    Raises:
        BuildError: another process is still at work.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(target.with_name(f".{target.name}.lock"), timeout=wait):
            yield
    except Timeout:
        raise BuildError(
            f"another process has been building {target} for more than {wait:g} s; wait for it, or end it"
        ) from None


@contextmanager
def workshop(target: Path) -> Iterator[Path]:
    """A folder to build in, on the same disk; what a killed builder left there goes first. Needs the lock."""
    prefix = f".{target.name}-"
    own = re.compile(re.escape(prefix) + r"[a-z0-9_]{8}\.building")  # and not of a neighbour whose name begins alike
    for left in target.parent.iterdir():
        if own.fullmatch(left.name):
            shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix, suffix=".building") as temporary:
        yield Path(temporary)
