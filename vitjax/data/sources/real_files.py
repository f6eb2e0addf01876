"""Files that several names lead to, by links: each is an example of one split."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from vitjax.core.counting import Counting
from vitjax.core.text import shortened
from vitjax.data.errors import DataError
from vitjax.data.sources.image_labels import ImageFiles

_THREADS = 16
_AT_ONCE = 1024


class Links(NamedTuple):
    """Which examples are the same file.

    Attributes:
        again: for each split, the examples that are another one of the same class again.
        groups: for each split, numbers of the examples, equal for those of one file.
        contradicting: split and two examples of the same file, one pair for each file that has
            several labels.
    """

    again: dict[str, np.ndarray]
    groups: dict[str, np.ndarray]
    contradicting: list[tuple[str, int, int]]


def find_links(
    files: Mapping[str, ImageFiles], inodes: Mapping[str, np.ndarray], where: str
) -> Links:
    """Finds files that are several examples.

    Args:
        files: the examples of each split.
        inodes: of each split, those of the files; 0 where unknown.
        where: what errors call the source.

    Raises:
        DataError: a file is in two splits; the message names the first.
    """
    again = {split: np.zeros(len(held), bool) for split, held in files.items()}
    groups = {split: np.arange(len(held)) for split, held in files.items()}
    contradicting: list[tuple[str, int, int]] = []
    names = {split: (len(held), held.name) for split, held in files.items()}
    for split, members in _same_in_split(names, inodes, where):
        own = files[split].labels[members].reshape(len(members), -1)
        groups[split][members] = members[0]
        unlike = (own != own[0]).any(axis=1)
        if unlike.any():
            contradicting.append((split, members[0], members[int(np.argmax(unlike))]))
        _, firsts = np.unique(own, axis=0, return_index=True)
        again[split][np.delete(members, firsts)] = True
    return Links(again, groups, contradicting)


def groups_apart(paths: Mapping[str, Sequence[str]], where: str) -> dict[str, np.ndarray]:
    """Numbers of the files of each split, equal for those that are one, by name or by links.

    Args:
        paths: the files of each split.
        where: what errors call the source.

    Raises:
        DataError: a file is in two splits; the message names the first.
    """
    groups = {split: np.arange(len(held)) for split, held in paths.items()}
    names = {split: (len(held), held.__getitem__) for split, held in paths.items()}
    inodes = {split: inodes_of(held) for split, held in paths.items()}
    for split, members in _same_in_split(names, inodes, where):
        groups[split][members] = members[0]
    return groups


def inodes_of(paths: Sequence[str]) -> np.ndarray:
    """The inode of each file, uint64; 0 where there is no file."""
    found = stats_of(paths, "looking for links")
    return np.asarray([0 if status is None else status.st_ino for status in found], np.uint64)


def stats_of(paths: Sequence[str], what: str) -> Iterator[os.stat_result | None]:
    """What the file system says of each file; None of one that cannot be asked.

    Asked for in threads, for on a network the delays would add up, and counted on stderr.

    Args:
        paths: of the files.
        what: what is done, for the line that counts.
    """
    counting = Counting(what, len(paths))

    def some(start: int) -> list[os.stat_result | None]:
        return [_status(path) for path in paths[start : start + _AT_ONCE]]

    with ThreadPoolExecutor(_THREADS) as threads:
        for found in threads.map(some, range(0, len(paths), _AT_ONCE)):
            counting.add(len(found))
            yield from found
    counting.pause()


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):  # ValueError: it has a NUL
        return None


def _same_in_split(
    names: Mapping[str, tuple[int, Callable[[int], str]]],
    inodes: Mapping[str, np.ndarray],
    where: str,
) -> list[tuple[str, list[int]]]:
    """Examples of one split that are the same file: the split and their places in it.

    Args:
        names: the number of examples of each split, and the path of each.
        inodes: of each split.
        where: for errors.

    Raises:
        DataError: a file is in two splits.
    """
    splits = [split for split, (count, _) in names.items() for _ in range(count)]
    places = [place for count, _ in names.values() for place in range(count)]

    def path(index: int) -> str:
        return names[splits[index]][1](places[index])

    shared, found = [], []
    joined = [np.zeros(0, np.uint64), *(inodes[split] for split in names)]
    for group in same_files(path, np.concatenate(joined)):
        split = splits[group[0]]
        other = next((each for each in group if splits[each] != split), None)
        if other is None:
            found.append((split, [places[each] for each in group]))
        else:
            shared.append((group[0], other))
    if shared:
        one, other = min(shared)
        more = f" and {len(shared) - 1:,} more" if len(shared) > 1 else ""
        raise DataError(
            f"{where}: {path(one)} in the split {splits[one]!r} and {path(other)} in"
            f" {splits[other]!r} are the same file{more}: images would be evaluated that are"
            " trained on, or evaluated twice; remove them from one of the splits"
        )
    return found


def same_files(path: Callable[[int], str], inodes: np.ndarray) -> list[list[int]]:
    """Groups of the indices of paths that lead to one file, by hard or symbolic links.

    Equal inodes are only a hint, for other devices and some network file systems use them again.

    Args:
        path: of the index of an inode.
        inodes: uint64 of shape (files,); 0 where unknown.
    """
    order = np.argsort(inodes, kind="stable")
    ordered = inodes[order]
    equal = np.flatnonzero((ordered[1:] == ordered[:-1]) & (ordered[1:] != 0))
    # Runs of equal inodes, each as long as its neighbours that are equal, and one.
    runs = np.split(equal, np.flatnonzero(np.diff(equal) > 1) + 1) if len(equal) else []
    groups = []
    for run in runs:
        candidates = order[run[0] : run[-1] + 2]
        files: dict[object, list[int]] = {}
        for index in candidates.tolist():
            if (file := _real(path(index))) is not None:
                files.setdefault(file, []).append(index)
        groups += [sorted(group) for group in files.values() if len(group) > 1]
    return groups


def _real(path: str) -> object | None:
    """What is equal for two paths of the same file; None if there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status.st_nlink > 1 else os.path.realpath(path)


def say_contradicting(pairs: Sequence[tuple[str, str]], where: str) -> list[str]:
    """What there is to say of files that are of several classes, named by two examples each."""
    if not pairs:
        return []
    named = [one if one == other else f"{one} = {other}" for one, other in pairs]
    are = "1 file is" if len(pairs) == 1 else f"{len(pairs):,} files are"
    how = [
        *(["in several rows"] if any(one == other for one, other in pairs) else []),
        *(["by links"] if any(one != other for one, other in pairs) else []),
    ]
    return [
        f"warning: {where}: {are} listed with different labels, {' or '.join(how)}:"
        f" {shortened(named, 3)}"
    ]
