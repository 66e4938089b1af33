"""Files that are read."""

import os
import stat


def check_file(name: str, path: str) -> None:
    """Refuse a path without an ordinary file, and say what is there.

    Raises:
        ValueError: nothing, a folder, a pipe or a device, or a path that the system refuses.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a null character
        raise ValueError(f"`{name}` is {path!r}: no such file") from error
    except OSError as error:  # too long, or in a folder that may not be entered
        raise ValueError(f"`{name}` is {path!r}: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        raise ValueError(f"`{name}` is {path!r}, which is a folder; expected a file")
    if not stat.S_ISREG(mode):
        raise ValueError(f"`{name}` is {path!r}, which is a pipe, a socket or a device; expected a file")
