"""Files that several names lead to, by links: each is an example of one split."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vitjax.core.text import shortened
from vitjax.data.errors import DataError
from vitjax.data.sources.image_labels import ImageFiles


class Links(NamedTuple):
    """Which examples are the same file.

    Attributes:
        again: for each split, the examples that are another one of the same class again.
        linked: for each split, the examples whose file is that of others too.
        contradicting: for each split, those of them whose file has several labels.
        examples: names of two examples of the same file that are of several classes.
    """

    again: dict[str, np.ndarray]
    linked: dict[str, np.ndarray]
    contradicting: dict[str, np.ndarray]
    examples: list[tuple[str, str]]


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
    again, linked, contradicting = (
        {split: np.zeros(len(held), bool) for split, held in files.items()} for _ in range(3)
    )
    examples: list[tuple[str, str]] = []
    names = {split: (len(held), held.name) for split, held in files.items()}
    for split, members in _same_in_split(names, inodes, where):
        own = files[split].labels[members].reshape(len(members), -1)
        linked[split][members] = True
        unlike = (own != own[0]).any(axis=1)
        if unlike.any():
            contradicting[split][members] = True
            name = files[split].name
            examples.append((name(members[0]), name(members[int(np.argmax(unlike))])))
        _, firsts = np.unique(own, axis=0, return_index=True)
        again[split][np.delete(members, firsts)] = True
    return Links(again, linked, contradicting, examples)


def check_apart(paths: Mapping[str, Sequence[str]], where: str) -> None:
    """Raises DataError if a file is in two splits, by its name or by links.

    Args:
        paths: the files of each split.
        where: what errors call the source.
    """
    names = {split: (len(held), held.__getitem__) for split, held in paths.items()}
    _same_in_split(names, {split: inodes_of(held) for split, held in paths.items()}, where)


def inodes_of(paths: Sequence[str]) -> np.ndarray:
    """The inode of each file, uint64; 0 where there is no file."""

    def inode(path: str) -> int:
        try:
            return os.stat(path).st_ino
        except OSError:  # reported when it is read
            return 0

    return np.asarray([inode(path) for path in paths], np.uint64)


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


def say_contradicting(links: Links, where: str) -> list[str]:
    """What there is to say of files that are of several classes."""
    if not links.examples:
        return []
    pairs = [f"{one} = {other}" for one, other in links.examples]
    are = "1 file is" if len(pairs) == 1 else f"{len(pairs):,} files are"
    return [
        f"warning: {where}: {are} listed with different labels, by links: {shortened(pairs, 3)};"
        " none of them is held out of train"
    ]
