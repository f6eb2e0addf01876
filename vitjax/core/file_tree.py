"""Folders of files as people have them: hidden files, thumbnails and links that lead in circles."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from vitjax.core.errors import UserError

# Suffixes of the files that are read as images wherever folders are searched for them. A file that
# is named itself may have any suffix.
IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".avif"),
)

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
        files: names of files of the kinds looked for, sorted.
        others: how many files there are of other kinds, by suffix.
    """

    folders: tuple[str, ...]
    files: tuple[str, ...]
    others: Counter[str]


class FileTree:
    """The files below a folder, each real folder listed once.

    Folders are followed through links. A link to a folder above it is left out, so that links in a
    circle end.
    """

    def __init__(self, suffixes: Collection[str]):
        """Lists nothing yet.

        Args:
            suffixes: of the files looked for, in lower case, such as ``".png"``.
        """
        self._suffixes = frozenset(suffixes)
        self._listings: dict[str, Listing] = {}
        self._below: dict[str, tuple[list[str], Counter[str]]] = {}

    def listing(self, path: str) -> Listing:
        """What stands directly in the folder ``path``.

        Raises:
            UserError: it cannot be listed.
        """
        if path not in self._listings:
            self._listings[path] = self._list(path)
        return self._listings[path]

    def files_below(self, path: str) -> list[str]:
        """The files in the folder ``path`` and in folders inside, relative to it and sorted.

        A folder that several links lead to is read once.
        """
        return self._collect(path)[0]

    def others_below(self, path: str) -> Counter[str]:
        """How many files of other kinds there are below ``path``, by suffix."""
        return self._collect(path)[1]

    def _collect(self, path: str) -> tuple[list[str], Counter[str]]:
        if path not in self._below:
            files: list[str] = []
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
                others += listing.others
                waiting.extend(
                    (os.path.join(place, name), os.path.join(prefix, name, ""))
                    for name in listing.folders
                )
            self._below[path] = sorted(files), others
        return self._below[path]

    def _list(self, path: str) -> Listing:
        above: set[tuple[int, int]] = set()
        folders, files = [], []
        others: Counter[str] = Counter()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
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
                    if suffix in self._suffixes:
                        files.append(entry.name)
                    else:
                        others[suffix or "without a suffix"] += 1
        except OSError as error:
            raise UserError(f"{path}: cannot be listed: {error.strerror or error}") from error
        return Listing(tuple(sorted(folders)), tuple(sorted(files)), others)


def kinds(others: Counter[str], most: int = 5) -> str:
    """Files of other kinds in words: "12 .heic, 1 .txt"."""
    shown = [f"{count:,} {suffix}" for suffix, count in others.most_common(most)]
    return ", ".join(shown) + (", ..." if len(others) > most else "")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(path: str) -> tuple[int, int]:
    """What tells a real folder from others: its device and inode."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be listed: {error.strerror or error}") from error
    return status.st_dev, status.st_ino


def _identities_above(path: str) -> set[tuple[int, int]]:
    """Those of the folder ``path`` and of all folders above it, as written and as links lead."""
    written, real = Path(os.path.abspath(path)), Path(os.path.realpath(path))
    places: Iterable[Path] = {written, *written.parents, real, *real.parents}
    return {_identity(str(place)) for place in places}
