"""Files into an engine's folder: all of them, or none that counts."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fastvid_export.digest import file_digest
from fastvid_export.errors import BuildError
from fastvid_export.record import SIDECAR, EngineRecord, FileRecord

INSTALLED = re.compile(r"(engine|model)\.[0-9a-f]{16}\.\w+")


@contextmanager
def locked(folder: Path, *, wait: float) -> Iterator[None]:
    """Only one process at a time builds for a folder; the death of a process frees it.

    Args:
        wait: seconds to wait for another builder; negative: as long as it takes.
    Raises:
        BuildError: another builder is still at work.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.with_name(f".{folder.name}.lock"), timeout=wait):
            yield
    except Timeout:
        raise BuildError(
            f"another process has been building {folder} for more than {wait:g} s; wait for it, or end it"
        ) from None


@contextmanager
def workshop(folder: Path) -> Iterator[Path]:
    """A folder to build in, on the same disk; what a killed builder left there goes first. Needs the lock."""
    prefix = f".{folder.name}-"
    own = re.compile(re.escape(prefix) + r"[a-z0-9_]{8}\.building")  # and not of a neighbour whose name begins alike
    for left in folder.parent.iterdir():
        if own.fullmatch(left.name):
            shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=prefix, suffix=".building") as temporary:
        yield Path(temporary)


def describe(files: Sequence[Path]) -> tuple[FileRecord, ...]:
    """What the record says of finished files; the first, the engine, is given the name it shall have.

    That name holds its digest, so that a new engine never lies over the old one.
    """
    records = []
    for index, file in enumerate(files):
        digest = file_digest(file)
        name = f"engine.{digest[:16]}{file.suffix}" if index == 0 else file.name
        records.append(FileRecord(name=name, sha256=digest, size=file.stat().st_size))
        file.replace(file.with_name(name))
    return tuple(records)


def install(record: EngineRecord, shop: Path, folder: Path) -> None:
    """Move described files into the folder, and switch to them by its sidecar. Needs the lock."""
    folder.mkdir(exist_ok=True)
    for described in record.files:
        _sync(shop / described.name)
        (shop / described.name).replace(folder / described.name)
    sidecar = shop / SIDECAR
    sidecar.write_text(record.to_json(), encoding="utf-8")
    _sync(sidecar)
    _sync_names(folder)
    sidecar.replace(folder / SIDECAR)
    _sync_names(folder)
    kept = {described.name for described in record.files}
    for stale in folder.iterdir():
        if stale.name not in kept and INSTALLED.fullmatch(stale.name):
            stale.unlink()


def _sync(path: Path) -> None:
    with path.open("r+b") as handle:  # Windows syncs only what is open for writing
        os.fsync(handle.fileno())


def _sync_names(folder: Path) -> None:
    if os.name == "posix":  # elsewhere folders cannot be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
