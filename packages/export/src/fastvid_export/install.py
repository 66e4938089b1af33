"""Files into an engine's folder: all of them, or none that counts."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from fastvid_export.digest import file_digest
from fastvid_export.record import SIDECAR, EngineRecord, FileRecord

INSTALLED = re.compile(r"(engine|model)\.[0-9a-f]{16}\.\w+")


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
