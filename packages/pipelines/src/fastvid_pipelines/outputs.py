"""Files that appear complete or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staged(*paths: Path) -> Iterator[list[Path]]:
    """Temporary names beside `paths`, to be written in the block; they take their names together when it ends well.

    When it does not (a full disk, an interrupt, any error), all of them are removed.
    """
    parts = [_part(path) for path in paths]
    try:
        yield parts
        for part in parts:
            sync(part)
        for part, path in zip(parts, paths, strict=True):
            part.replace(path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def check_writable(name: str, path: Path) -> None:
    """Refuse a place where no file can be put, before the work is done.

    Raises:
        ValueError: the folder is missing or not writable, `path` is a folder, or its name is too long.
    """
    try:
        _part(path).lstat()  # the longest name that will be written; the system knows what is too long
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise ValueError(f"`{name}` is {str(path)!r}: {error.strerror}") from error
    folder = path.parent
    if not folder.is_dir():
        raise ValueError(f"`{name}` is {str(path)!r}: there is no folder {str(folder)!r}")
    if path.is_dir():
        raise ValueError(f"`{name}` is {str(path)!r}, which is a folder; expected the name of a file")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"`{name}` is {str(path)!r}: the folder {str(folder)!r} is not writable")


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")


def sync(file: Path) -> None:
    """Wait until a file is on the disk; Windows asks for one that is open for writing."""
    with file.open("r+b") as opened:
        os.fsync(opened.fileno())
