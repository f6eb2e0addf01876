"""Regular files: what is read as one is neither a pipe nor a device, which may have no end."""

from __future__ import annotations

import errno
import os
import stat
from typing import IO

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """Opens a regular file, or a link to one, for reading; never waits for another program.

    Raises:
        OSError: it cannot be opened, or is something else; ``strerror`` says what.
    """
    kind = kind_of(path)
    if kind is not None:
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", os.fspath(path))
    return open(path, "rb")


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """What stands at ``path`` in words, such as ``"a FIFO"``; None for a regular file.

    Raises:
        OSError: it does not exist.
    """
    mode = os.stat(path).st_mode
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")
