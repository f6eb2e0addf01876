"""Image files with a label each, whatever says which: their classes, and splitting them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np

from vitjax.core.regular_files import open_regular
from vitjax.core.text import near_match, shortened
from vitjax.core.validation import Length
from vitjax.data.class_order import ClassList
from vitjax.data.errors import DataError
from vitjax.data.identity import File, Identified, Identity, of_files
from vitjax.data.image_files import measure, read_image
from vitjax.data.image_formats import MAX_PIXELS
from vitjax.data.sample import Sample
from vitjax.data.sources.base import Stored, hold_out

# "train": those of the training split; "all": those of all splits; or their names, in this order.
ClassChoice = Literal["train", "all"] | Annotated[tuple[str, ...], Length(at_least=2)]


@dataclass(frozen=True)
class ImageFiles(Stored, Identified):
    """A `LabelledSplit` over image files.

    Attributes:
        root: the folder that ``paths`` are relative to.
        paths: one image file each.
        labels: class indices, int32 of shape (examples,); or float32 of shape (examples,) or
            (examples, numbers).
        channels: of the decoded images, 3 or 1.
        weights: how much each example counts in sampling, float64 of shape (examples,); None if
            all count the same.
        max_pixels: the pixels of the largest image that is read.
    """

    root: str
    paths: Sequence[str]
    labels: np.ndarray
    channels: int
    weights: np.ndarray | None = None
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> Sample:
        """The sample at ``index``; its image is uint8."""
        label = self.labels[index]
        return Sample(
            read_image(self.name(index), self.channels, max_pixels=self.max_pixels),
            int(label) if label.dtype == np.int32 else label,
        )

    def name(self, index: int) -> str:
        """The file's path."""
        return os.path.join(self.root, self.paths[index])

    def size(self, index: int) -> tuple[int, int]:
        """(height, width), from the head of the file."""
        return measure(self.name(index), self.max_pixels).size

    def stored_bytes(self, index: int) -> int:
        """The size of the file."""
        return os.stat(self.name(index)).st_size

    def stored(self, index: int, most: int | None = None) -> bytes:
        """The content of the file."""
        with open_regular(self.name(index)) as file:
            return file.read(-1 if most is None else most)

    def identity(self) -> Identity:
        """Names and sizes of the files, and the labels."""
        return of_files([File(path) for path in self.paths], self.root)._replace(labels=self.labels)

    def take(self, indices: np.ndarray) -> ImageFiles:
        """The examples at ``indices``, as a split of their own."""
        weights = None if self.weights is None else self.weights[indices]
        paths = [self.paths[i] for i in indices]
        return replace(self, paths=paths, labels=self.labels[indices], weights=weights)


def choose_classes(
    counts: Mapping[str, Mapping[str, int]],
    choice: ClassChoice,
    where: str,
    run_classes: ClassList | None = None,
    roots: Mapping[str, str] | None = None,
) -> tuple[tuple[str, ...], list[str]]:
    """The classes of a source, and what there is to say of them.

    Args:
        counts: for each split, the number of images of each class in it, classes in order.
        choice: the config's ``classes``.
        where: what errors call the source.
        run_classes: the classes of a run: of these, ``choice`` may name some that are not there.
        roots: the folder of each split, if it has one.

    Returns:
        The names of the classes, and notes on them and on those that are left out.

    Raises:
        DataError: a class is unknown, one of another split is missing in ``train``, or a split has
            none of those that are listed.
    """
    found = dict.fromkeys(name for classes in counts.values() for name in classes)
    if choice == "all":
        return _said(tuple(sorted(found)))
    first = "train" if "train" in counts else next(iter(counts))
    own = dict.fromkeys(counts[first])
    if isinstance(choice, str):
        for split, classes in counts.items():
            for name in classes:
                if name not in own:
                    raise DataError(
                        f"{where}: split {split!r} has the class {name!r}, which {first!r} lacks"
                        f'{near_match(name, own)} (with classes="all" splits may have classes of'
                        " their own, and classes=[...] lists those to read)"
                    )
        return _said(tuple(own))
    chosen = tuple(choice)
    if run_classes is not None:
        known = frozenset(run_classes.names)
        there = [name for name in chosen if name in found or name not in known]
        chosen = tuple(there) or chosen
    times = Counter(chosen)
    for name in chosen:
        if times[name] > 1:
            raise DataError(f"{where}: classes lists {name!r} twice")
        if name not in found:
            raise DataError(
                f"{where}: classes lists {name!r}, which is not a class{near_match(name, found)}"
                f" (there are: {shortened(list(found), 20)}); config.data.classes lists those of"
                f" this data to read"
            )
        if name not in own and run_classes is None:
            raise DataError(f"{where}: classes lists {name!r}, of which {first!r} has no images")
    for split, classes in counts.items():
        if not any(classes.get(name) for name in chosen):
            raise DataError(_without_chosen(chosen, split, classes, where, roots))
    left_out = [name for name in found if name not in times]
    if not left_out:
        return _said(chosen)
    images = sum(classes.get(name, 0) for classes in counts.values() for name in left_out)
    return chosen, [
        f"classes: {len(chosen)} of {len(found)}; {images:,} images of the others"
        f" ({shortened(left_out)}) are left out"
    ]


def _without_chosen(
    chosen: Sequence[str],
    split: str,
    classes: Collection[str],
    where: str,
    roots: Mapping[str, str] | None,
) -> str:
    """The error for a split that has no image of the classes that are listed."""
    rest = {name: os.path.relpath(root, where) for name, root in (roots or {}).items()}
    rest.pop(split, None)
    otherwise = f"; config.data.splits = {rest} reads the others alone" if rest else ""
    return (
        f"{roots[split] if roots else where}: the split {split!r} has no images of the classes that"
        f" config.data.classes lists, {shortened(chosen)} (it has: {shortened(list(classes))})"
        f"{otherwise}"
    )


def _said(classes: tuple[str, ...]) -> tuple[tuple[str, ...], list[str]]:
    kinds = "class" if len(classes) == 1 else "classes"
    return classes, [f"{len(classes)} {kinds}: {shortened(classes, 10)}"]


def hold_out_splits(
    splits: dict[str, ImageFiles],
    fractions: Mapping[str, float | None],
    default: float,
    seed: int,
    where: str,
    groups: np.ndarray | None = None,
) -> list[str]:
    """Takes splits that do not exist out of ``train``, in place.

    Args:
        splits: the splits there are.
        fractions: for ``val`` and ``test``, the fraction of all examples to hold out if the split
            does not exist; None for ``default``.
        default: the fraction where none is given.
        seed: selects the examples.
        where: what errors call the source.
        groups: of each example of ``train``, equal for those of one file, which stay together. None
            for files that are all different.

    Returns:
        What there is to say of it.

    Raises:
        DataError: the examples to hold out are too many, or there are none to take them from.
    """
    notes: list[str] = []
    if "train" not in splits:
        return notes
    rest = splits["train"]
    total = len(rest)
    for split, given in fractions.items():
        if split in splits:
            if given:
                notes.append(f"{split}_fraction={given} is not used: the split {split!r} exists")
            continue
        count = round((default if given is None else given) * total)
        if not count:
            continue
        # Numbers are no classes: any of them may be held out.
        strata = rest.labels if rest.labels.dtype == np.int32 else np.zeros(len(rest), np.int32)
        try:
            kept, held = hold_out(strata, count, seed, groups)
        except DataError as error:
            raise DataError(f"{where}: config.data.{split}_fraction: {error}") from error
        groups = None if groups is None else groups[kept]
        splits[split], rest = rest.take(held), rest.take(kept)
        notes.append(f"{split}: {len(held):,} of {total:,} examples are held out of train")
    splits["train"] = rest
    return notes


def say_splits(splits: Mapping[str, Sized], where: Mapping[str, str]) -> str:
    """The splits in words, with where each is from."""
    return ", ".join(
        f"{split} = {where[split]} ({len(held):,} images)" for split, held in splits.items()
    )


def counted(names: Sequence[str]) -> dict[str, int]:
    """How often each of ``names`` occurs, in order: numbers first, by value, then other names."""
    counts = Counter(names)

    def place(name: str) -> tuple[bool, int, str]:
        number = name.isascii() and name.isdecimal() and len(name) < 20
        return not number, int(name) if number else 0, name

    return {name: counts[name] for name in sorted(counts, key=place)}
