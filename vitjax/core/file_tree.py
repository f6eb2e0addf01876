"""Folders of files as people have them: hidden files, thumbnails and links that lead in circles."""

from __future__ import annotations

import os
from array import array
from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vitjax.core.counting import Counting
from vitjax.core.errors import UserError
from vitjax.core.text import printable

# Suffixes of the files that are read as images wherever folders are searched for them. A file that
# is named itself may have any suffix.
IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".avif"),
)

# Files of other kinds that are no regular files.
SPECIAL = "FIFO, socket or device"

_COUNTED_AT_ONCE = 1024

# What systems and programs leave in folders, beside what is hidden: names in lower case.
_LEFT_BEHIND = frozenset(
    {
        *("@eadir", "@tmp", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "__macosx"),
        *("system volume information", "lost+found", "__pycache__"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
    }
)


def is_left_behind(name: str) -> bool:
    """Whether a file or folder is hidden, or one that systems and programs leave in folders."""
    return name.startswith(".") or name.lower() in _LEFT_BEHIND


@dataclass(frozen=True)
class Listing:
    """What stands directly in one folder, without what is left behind.

    Attributes:
        folders: names, sorted; without links to the folder itself or to one above it.
        files: names of files of the kinds looked for, sorted. Links that lead nowhere are among
            them, so that they are reported when they are read.
        inodes: of each file, that of what a link leads to; 0 if that is nothing.
        others: how many files there are of other kinds, by suffix.
    """

    folders: tuple[str, ...]
    files: tuple[str, ...]
    inodes: array[int]
    others: Counter[str]


class _Below(NamedTuple):
    """What stands below a folder: files with their inodes, sorted, and others."""

    files: list[str]
    inodes: np.ndarray
    others: Counter[str]


class FileTree:
    """The files below a folder, each real folder listed once.

    Folders are followed through links. A link to a folder above it is left out, so that links in a
    circle end. Pipes, sockets and devices count as files of other kinds. Listing that takes longer
    than a second counts the files on stderr.
    """

    def __init__(self, suffixes: Collection[str]):
        """Lists nothing yet.

        Args:
            suffixes: of the files looked for, in lower case, such as ``".png"``.
        """
        self._suffixes = frozenset(suffixes)
        self._counting: Counting | None = None
        self._listings: dict[str, Listing] = {}
        self._below: dict[str, _Below] = {}

    def listing(self, path: str) -> Listing:
        """What stands directly in the folder ``path``.

        Raises:
            UserError: it cannot be listed.
        """
        if path not in self._listings:
            if self._counting is None:
                self._counting = Counting(f"listing {printable(path)}")
            try:
                self._listings[path] = self._list(path, self._counting)
            finally:
                self._counting.pause()
        return self._listings[path]

    def files_below(self, path: str) -> list[str]:
        """The files in the folder ``path`` and in folders inside, relative to it and sorted.

        A folder that several links lead to is read once.
        """
        return self._collect(path).files

    def inodes_below(self, path: str) -> np.ndarray:
        """The inode of each of `files_below`, uint64; see `Listing`."""
        self._collect(path)
        return self._below[path].inodes

    def others_below(self, path: str) -> Counter[str]:
        """How many files of other kinds there are below ``path``, by suffix."""
        return self._collect(path).others

    def _collect(self, path: str) -> _Below:
        if path not in self._below:
            files: list[str] = []
            inodes = array("Q")
            others: Counter[str] = Counter()
            seen = set()
            waiting = deque([(path, "")])
            while waiting:
                place, prefix = waiting.popleft()
                identity = _identity(place)
                if identity in seen:
                    continue
                seen.add(identity)
                listing = self.listing(place)
                files += [prefix + name for name in listing.files]
                inodes += listing.inodes
                others += listing.others
                waiting.extend(
                    (os.path.join(place, name), os.path.join(prefix, name, ""))
                    for name in listing.folders
                )
            order = sorted(range(len(files)), key=files.__getitem__)
            found = np.asarray(inodes, np.uint64)[order]
            self._below[path] = _Below([files[at] for at in order], found, others)
        return self._below[path]

    def _list(self, path: str, counting: Counting) -> Listing:
        above: set[tuple[int, int]] = set()
        folders: list[str] = []
        files: list[tuple[str, int]] = []
        others: Counter[str] = Counter()
        try:
            with os.scandir(path) as entries:
                for number, entry in enumerate(entries, 1):
                    if number % _COUNTED_AT_ONCE == 0:
                        counting.add(_COUNTED_AT_ONCE)
                    if is_left_behind(entry.name):
                        continue
                    if _is_folder(entry):
                        if entry.is_symlink():
                            above = above or _identities_above(path)
                            if _identity(entry.path) in above:
                                continue
                        folders.append(entry.name)
                        continue
                    suffix = os.path.splitext(entry.name)[1].lower()
                    if suffix not in self._suffixes:
                        others[suffix or "without a suffix"] += 1
                    elif (inode := _inode(entry)) is None:
                        others[SPECIAL] += 1
                    else:
                        files.append((entry.name, inode))
                counting.add((len(folders) + len(files) + others.total()) % _COUNTED_AT_ONCE)
        except OSError as error:
            raise UserError(
                f"{printable(path)}: cannot be listed: {error.strerror or error}"
            ) from error
        files.sort()
        names = tuple(name for name, _ in files)
        inodes = array("Q", [inode for _, inode in files])
        return Listing(tuple(sorted(folders)), names, inodes, others)


def kinds(others: Counter[str], most: int = 5) -> str:
    """Files of other kinds in words: "12 .heic, 1 .txt"."""
    shown = [f"{count:,} {suffix}" for suffix, count in others.most_common(most)]
    return ", ".join(shown) + (", ..." if len(others) > most else "")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _inode(entry: os.DirEntry[str]) -> int | None:
    """The inode of a file, 0 of a link that leads nowhere; None of what is not a regular file.

    Only links are looked up: the folder says the others' kind and inode.
    """
    try:
        if entry.is_file():
            return entry.stat().st_ino if entry.is_symlink() else entry.inode()
    except OSError:  # a link to itself
        return 0
    return 0 if entry.is_symlink() and not os.path.exists(entry.path) else None


def _identity(path: str) -> tuple[int, int]:
    """What tells a real folder from others: its device and inode."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise UserError(
            f"{printable(path)}: cannot be listed: {error.strerror or error}"
        ) from error
    return status.st_dev, status.st_ino


def _identities_above(path: str) -> set[tuple[int, int]]:
    """Those of the folder ``path`` and of all folders above it, as written and as links lead."""
    written, real = Path(os.path.abspath(path)), Path(os.path.realpath(path))
    places: Iterable[Path] = {written, *written.parents, real, *real.parents}
    return {_identity(str(place)) for place in places}
