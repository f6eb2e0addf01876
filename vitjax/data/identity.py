"""What data a run learns from, in few bytes: its files' names and sizes, or its arrays' content.

A run keeps it with its checkpoints, so that it does not resume with other data unnoticed. Times of
files and the folder that data lies in are no part of it: a copy elsewhere is the same data.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vitjax.core.text import counted, printable, shortened

# Sizes of files are asked for in threads: one at a time, a network's delays would add up.
_THREADS = 16
_AT_ONCE = 1024
# Of more folders than this only the digest of all is kept.
_MOST_FOLDERS = 2000
# Of arrays with more bytes, this number of rows is hashed, evenly spread.
_MOST_BYTES = 2**28
_ROWS = 4096
_LISTED = 5

# The names of the splits that a run learns from: others may change while it is stopped.
LEARNED = ("train", "val")


class File(NamedTuple):
    """A file of an example: its path, and anything that belongs to it beside its content."""

    path: str
    note: str = ""


class Identity(NamedTuple):
    """What the examples of a split are.

    Attributes:
        digest: of the names and sizes of all files in their order, or of the content.
        folders: for each folder with files their number and digest; empty without files.
        labels: of the examples, as of `LabelledSplit`, if files or images do not determine them.
    """

    digest: str
    folders: Mapping[str, tuple[int, str]] = {}
    labels: np.ndarray | None = None


class Identified(ABC):
    """A `Split` that knows cheaply whether its examples are those of another time.

    Derive from it where that is possible; of other splits only the number of examples is compared.
    """

    @abstractmethod
    def identity(self) -> Identity:
        """What the examples are; nothing is decoded."""


def of_files(files: Sequence[File], root: str = "") -> Identity:
    """The identity of files: their names and sizes, in order.

    Args:
        files: in the order of the examples.
        root: the folder that names are relative to. Without one, or where some files lie elsewhere,
            names are relative to the deepest folder that holds all.
    """
    paths = [os.path.join(root, file.path) for file in files]
    absolute = [os.path.abspath(path) for path in paths]
    given, root = root, os.path.abspath(root)
    if not given or not all(path.startswith(os.path.join(root, "")) for path in absolute):
        root = os.path.commonpath([os.path.dirname(path) for path in absolute] or [root])
    whole = hashlib.sha256()
    counts: dict[str, int] = {}
    digests: dict[str, Any] = {}
    start = len(os.path.join(root, ""))
    for file, path, size in zip(files, absolute, _sizes(paths), strict=True):
        name = path[start:]
        line = f"{name}\0{size}\0{file.note}\n".encode(errors="surrogateescape")
        whole.update(line)
        folder = os.path.dirname(name)
        counts[folder] = counts.get(folder, 0) + 1
        digests.setdefault(folder, hashlib.sha256()).update(line)
    if len(counts) > _MOST_FOLDERS:
        counts = {}
    folders = {name: (count, _short(digests[name])) for name, count in counts.items()}
    return Identity(_short(whole), folders)


def _sizes(paths: Sequence[str]) -> Iterator[int]:
    """The size of each file; -1 for one that cannot be asked, which is reported when it is read."""

    def some(start: int) -> list[int]:
        return [_size(path) for path in paths[start : start + _AT_ONCE]]

    with ThreadPoolExecutor(_THREADS) as threads:
        for sizes in threads.map(some, range(0, len(paths), _AT_ONCE)):
            yield from sizes


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def of_array(array: ArrayLike) -> Identity:
    """The identity of an array: its shape, dtype and content; of a large one, of spread rows.

    Of an array of Python objects the content is left out.
    """
    array = np.asarray(array)
    digest = hashlib.sha256(f"{array.shape} {array.dtype}".encode())
    if array.dtype.hasobject or not array.nbytes:
        pass  # the bytes of objects are addresses
    elif array.nbytes <= _MOST_BYTES:
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    else:
        for row in np.linspace(0, len(array) - 1, _ROWS, dtype=np.int64).tolist():
            digest.update(array[row].tobytes())
    return Identity(_short(digest))


def of_words(*words: object) -> Identity:
    """The identity of examples that follow from settings."""
    return Identity(_short(hashlib.sha256(repr(words).encode(errors="surrogateescape"))))


def digest_of(array: ArrayLike) -> str:
    """A digest of an array, such as the weights of examples."""
    return of_array(array).digest


def class_digest(labels: np.ndarray, class_names: Sequence[str]) -> str:
    """A digest of the classes of examples by name, so that their numbers do not matter."""
    names = [name.encode(errors="surrogateescape") for name in class_names]
    present, places = np.unique(labels, return_inverse=True)
    # In the order of their first examples, which no numbering changes.
    order: dict[int, int] = {}
    digest = hashlib.sha256()
    for place in places.tolist():
        order.setdefault(place, len(order))
    for place in order:
        number = int(present[place])
        digest.update(names[number] + b"\0" if 0 <= number < len(names) else b"\1")
    renumbered = np.asarray([order[place] for place in range(len(present))], np.int32)
    digest.update(renumbered[places].tobytes())
    return _short(digest)


def _short(digest: Any) -> str:
    return str(digest.hexdigest()[:32])


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between the data of a run and other data, in words; empty if nothing does.

    Args:
        before: the result of `vitjax.data.Dataset.identity` when the run was saved.
        now: the same of the data at hand.
    """
    parts = []
    for split in dict.fromkeys((*before, *now)):
        if split not in now or split not in before:
            parts.append(f"{split}: the {'run' if split in before else 'data'} alone has it")
            continue
        parts += [f"{split} {words}" for words in _split_differences(before[split], now[split])]
    return "; ".join(parts)


def _split_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    if before == now:
        return []
    parts = []
    if before.get("examples") != now.get("examples"):
        parts.append(f"has {_number(now)}, the run had {_number(before)}")
    folders = _folder_differences(before.get("folders") or {}, now.get("folders") or {})
    if before.get("digest") != now.get("digest"):
        if folders:
            parts.append(f"has other files ({shortened(folders, _LISTED)})")
        elif not parts:
            parts.append("has other examples in the same number, or in another order")
    for key, words in (("labels", "other labels"), ("weights", "other weights of examples")):
        if before.get(key) != now.get(key) and not parts:
            parts.append(f"has {words}")
    return parts or ["has another description"]


def _number(split: Mapping[str, Any]) -> str:
    found = split.get("examples")
    return counted(found, "example") if isinstance(found, int) else "an unknown number of examples"


def _folder_differences(
    before: Mapping[str, Sequence[Any]], now: Mapping[str, Sequence[Any]]
) -> list[str]:
    """What differs in each folder, those with another number of files first."""
    numbers, others = [], []
    for name in dict.fromkeys((*before, *now)):
        old, new = before.get(name), now.get(name)
        shown = printable(name) or "."
        if old is None or new is None:
            files = counted((old or new or [0])[0], "file")
            numbers.append(f"{shown}: {files} {'more' if old is None else 'fewer'}")
        elif old[0] != new[0]:
            numbers.append(f"{shown}: {counted(new[0], 'file')}, the run had {old[0]:,}")
        elif old[1] != new[1]:
            others.append(f"{shown}: other names or sizes among {counted(new[0], 'file')}")
    return numbers + others
