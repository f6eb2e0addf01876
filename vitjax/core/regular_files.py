"""Regular files: what is read as one is neither a pipe nor a device, which may have no end."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

# Of a text file that anyone may have written, such as a table or a list.
MOST_TEXT = 1 << 28

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: str | os.PathLike[str], most_bytes: int | None = None) -> BinaryIO:
    """Opens a regular file, or a link to one, for reading; never waits for another program.

    Args:
        path: of the file.
        most_bytes: a file with more is an error; None for no limit.

    Raises:
        FileNotFoundError: nothing has that name, or it is a link to nothing.
        OSError: it cannot be opened, is something else or larger; ``strerror`` says what.
    """
    try:
        # A FIFO would otherwise be waited for.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # it has a NUL
        raise OSError(errno.EINVAL, str(error), os.fspath(path)) from error
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EOPNOTSUPP):  # a socket, or a device without one
            _refuse(path, os.stat(path))
        raise
    try:
        status = os.fstat(number)
        _refuse(path, status)
        if most_bytes is not None and status.st_size > most_bytes:
            reason = f"it has {status.st_size:,} bytes, and at most {most_bytes:,} are read"
            raise OSError(errno.EFBIG, reason, os.fspath(path))
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def read_text(path: str | os.PathLike[str], most_bytes: int = MOST_TEXT) -> str:
    """The text of a regular file of UTF-8, without the mark at its beginning.

    Raises:
        OSError: it cannot be read, is something else or larger; ``strerror`` says what.
        UnicodeDecodeError: it is not UTF-8.
    """
    with open_regular(path, most_bytes) as file:
        return file.read(most_bytes).decode("utf-8-sig")


def _refuse(path: str | os.PathLike[str], status: os.stat_result) -> None:
    if (kind := _kind(status.st_mode)) is not None:
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", os.fspath(path))


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """What stands at ``path`` in words, such as ``"a FIFO"``; None for a regular file.

    Raises:
        OSError: it does not exist.
    """
    return _kind(os.stat(path).st_mode)


def _kind(mode: int) -> str | None:
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")
