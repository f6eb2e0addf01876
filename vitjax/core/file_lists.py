"""Files that a person names: by path, folder, wildcard, or in a text file."""

from __future__ import annotations

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from vitjax.core.errors import ConfigError
from vitjax.core.file_tree import IMAGE_SUFFIXES, SPECIAL, FileTree, is_left_behind, kinds
from vitjax.core.paths import expanded, listed
from vitjax.core.regular_files import MOST_TEXT, kind_of
from vitjax.core.text import Say, counted, natural_key, near_match, shortened

PathLike = str | os.PathLike[str]

_WILDCARDS = frozenset("*?[")
_STDIN = "-"


def find_images(
    named: PathLike | Sequence[PathLike],
    lists: Sequence[PathLike] = (),
    *,
    say: Say | None = None,
    apart_from: Iterable[PathLike] = (),
) -> list[str]:
    """The image files that a person names, each checked to exist.

    Args:
        named: files; folders, whose images are found recursively; wildcards such as
            ``"photos/**/*.jpg"``; and ``"@FILE"`` for a text file of these, ``"@-"`` for standard
            input. A file whose name has wildcards or begins with ``@`` is written ``./@name``.
        lists: further text files. A line names a file, folder or wildcard relative to the current
            folder; empty lines and those that begin with ``#`` are ignored. With NUL bytes in it,
            as of ``find -print0``, these end the paths, which may then be any.
        say: receives how many files of other kinds were left out.
        apart_from: files of folders and wildcards that are left out.

    Returns:
        The paths in the order in which they are named, those of a folder or wildcard in natural
        order. A file that is named or found again is not repeated.

    Raises:
        ConfigError: a path does not exist, a folder or wildcard has no image, or nothing is named.
            All missing paths are counted, and the first are listed.
    """
    entries: list[str] = []
    for text in [os.fspath(path) for path in listed(named, "files")]:
        entries += _lines(text[1:]) if text.startswith("@") else [text]
    for path in lists:
        entries += _lines(os.fspath(path))
    if not entries:
        raise ConfigError("no images are given: name files, folders, wildcards or a list of them")
    left_out = {_key(path) for path in apart_from}
    found: dict[str, str] = {}  # by absolute path, as written
    missing: list[str] = []
    ignored: Counter[str] = Counter()
    for entry in entries:
        place, others = expanded(entry), Counter[str]()
        if os.path.isdir(place):
            images = _below(place, others)
        elif os.path.lexists(place):
            found.setdefault(_key(place), place)
            continue
        elif _WILDCARDS & set(place):
            images = _matched(place, others)
        else:
            missing.append(entry)
            continue
        if not images:
            kind = "folder" if os.path.isdir(place) else "wildcard"
            raise ConfigError(
                f"the {kind} {entry!r} {_without_images(kind, others)}; images are recognised by"
                f" suffix: {' '.join(sorted(IMAGE_SUFFIXES))}"
            )
        ignored += others
        for image in images:
            if (key := _key(image)) not in left_out:
                found.setdefault(key, image)
    if missing:
        raise ConfigError(_absent(missing))
    if not found:
        raise ConfigError("no images are left: predictions wrote all that were found")
    if ignored and say is not None:
        say(f"Left out: {_kinds(ignored)}")
    return list(found.values())


def images_below(folder: PathLike) -> list[str]:
    """The image files in ``folder`` and its subfolders, in natural order; see `FileTree`."""
    return _below(os.fspath(folder), Counter())


def subfolders(folder: PathLike) -> list[str]:
    """The names of the folders in ``folder``, in natural order; see `FileTree`."""
    return sorted(FileTree(IMAGE_SUFFIXES).listing(os.fspath(folder)).folders, key=natural_key)


def _lines(path: str) -> list[str]:
    """The entries of a text file."""
    place = expanded(path)
    try:
        # A pipe is a list too: <(find photos -print0).
        if path == _STDIN:  # which stays open
            data = sys.stdin.buffer.read(MOST_TEXT + 1)
        else:
            with open(place, "rb") as file:
                data = file.read(MOST_TEXT + 1)
    except OSError as error:
        near = "" if os.path.exists(place) else _near(path)
        raise ConfigError(
            f"the list {path!r} cannot be read: {error.strerror or error}{near}"
        ) from error
    if len(data) > MOST_TEXT:
        raise ConfigError(
            f"the list {path!r} is not a list of files: it has more than {MOST_TEXT:,} bytes"
        )
    text = os.fsdecode(data.removeprefix(b"\xef\xbb\xbf"))
    if "\0" in text:
        if not text.endswith("\0"):
            raise ConfigError(
                f"the list {path!r} is not a text file; it must have one path per line, or a NUL"
                " byte after each path, as of find -print0"
            )
        entries = [entry for entry in text.split("\0") if entry]
    else:
        # At line ends alone: `splitlines` would also split at characters that names may have.
        lines = [line.removesuffix("\r") for line in text.split("\n")]
        entries = [line for line in lines if line.strip() and not line.startswith("#")]
    if not entries:
        raise ConfigError(f"the list {path!r} has no paths")
    return entries


def _below(root: str, ignored: Counter[str]) -> list[str]:
    tree = FileTree(IMAGE_SUFFIXES)
    ignored += tree.others_below(root)
    names = sorted(tree.files_below(root), key=natural_key)
    return [os.path.join(root, name) for name in names]


def _matched(pattern: str, ignored: Counter[str]) -> list[str]:
    images: list[str] = []
    for path in sorted(glob.glob(pattern, recursive=True), key=natural_key):
        if os.path.isdir(path):
            images += [] if "**" in pattern else _below(path, ignored)
        elif _is_image(path, ignored):
            images.append(path)
    return images


def _is_image(path: str, ignored: Counter[str]) -> bool:
    name = os.path.basename(path)
    if is_left_behind(name):
        return False
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in IMAGE_SUFFIXES:
        ignored[suffix or "without a suffix"] += 1
        return False
    if os.path.exists(path) and kind_of(path) is not None:
        ignored[SPECIAL] += 1
        return False
    return True


def _key(path: PathLike) -> str:
    return os.path.abspath(path)


def _without_images(kind: str, others: Counter[str]) -> str:
    """What a folder or wildcard has in place of images."""
    if others:
        return f"has no image ({_kinds(others)})"
    return "matches no image" if kind == "wildcard" else "has no image (it is empty)"


def _kinds(ignored: Counter[str]) -> str:
    return f"{counted(ignored.total(), 'file')} of other kinds: {kinds(ignored)}"


def _absent(missing: Sequence[str]) -> str:
    if len(missing) == 1:
        return f"no file or folder {missing[0]!r}{_near(missing[0])}"
    shown = shortened(list(map(repr, missing)))
    return f"{len(missing):,} files or folders do not exist: {shown}{_near(missing[0])}"


def _near(path: str) -> str:
    """The near match of a missing path among its siblings, or the folder that is missing."""
    place = Path(expanded(path))
    parent = place.parent
    if not parent.is_dir():
        return f" (there is no folder {str(parent)!r})"
    return near_match(str(place), [str(parent / name) for name in sorted(os.listdir(parent))])
