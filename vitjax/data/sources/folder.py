"""A source over folders of image files, one folder per class."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vitjax.core.text import near_match
from vitjax.core.validation import NonNegativeInt, PositiveInt
from vitjax.data.errors import DataError
from vitjax.data.image_files import MAX_PIXELS, read_image
from vitjax.data.sample import Sample
from vitjax.data.sources.base import Channels, HeldOut, Source, hold_out, register

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderSplit:
    """A `LabelledSplit` over image files.

    Attributes:
        root: the folder that ``paths`` are relative to.
        paths: one image file each.
        labels: int32 of shape (examples,).
        channels: of the decoded images, 3 or 1.
        max_pixels: the pixels of the largest image that is read.
    """

    root: str
    paths: Sequence[str]
    labels: np.ndarray
    channels: int
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> Sample:
        """The sample at ``index``; its image is uint8."""
        image = read_image(self.name(index), self.channels, max_pixels=self.max_pixels)
        return Sample(image, int(self.labels[index]))

    def name(self, index: int) -> str:
        """The file's path."""
        return os.path.join(self.root, self.paths[index])


@register("folder")
def folder(
    path: str,
    channels: Channels = 3,
    classes: Literal["train", "all"] = "train",
    val_fraction: HeldOut | None = None,
    test_fraction: HeldOut | None = None,
    split_seed: NonNegativeInt = 0,
    max_pixels: PositiveInt = MAX_PIXELS,
) -> Source:
    """Image files in one folder per class: PNG, JPEG and WebP, recognised by suffix.

    Either ``path`` has folders ``train`` and optionally ``val`` (or ``validation``, ``valid``) and
    ``test``, with the class folders inside, or it has the class folders itself and is split here,
    with the same fraction of every class in each split. Classes are named by their folders and
    numbered in sorted order. Files may be in subfolders of a class's folder; hidden files and
    folders are ignored, and files of other kinds are ignored with a warning.

    Args:
        path: the folder.
        channels: 3 to read images as RGB, 1 to read them as grey.
        classes: "train" if every split has the classes of ``train``, and any other is an error;
            "all" if splits have classes of their own, as in few-shot learning: the classes are then
            those of all splits together.
        val_fraction: fraction of all examples to hold out as ``val``, if it does not exist. None
            means 0.1 if ``path`` has the class folders itself, else 0.
        test_fraction: the same for ``test``.
        split_seed: selects the examples that are held out.
        max_pixels: the pixels of the largest image that is read.

    Raises:
        DataError: the folder does not exist or has no classes, a class has no image or is missing
            in ``train``, or the examples to hold out are too many.
    """
    check_folder(path)
    flat = not os.path.isdir(os.path.join(path, "train"))  # has the class folders itself
    roots = {"train": path} if flat else split_folders(path)
    names = {split: _subfolders(root) for split, root in roots.items()}
    for split, root in roots.items():
        if not names[split]:
            raise DataError(
                f"{root} has no class folders: images are expected in {root}/<class>/<file>"
            )
    class_names = names["train"]
    if classes == "all":
        class_names = sorted({name for split in names.values() for name in split})
    for split, found in names.items():
        for name in found:
            if name not in class_names:
                raise DataError(
                    f"{roots[split]} has the class {name!r}, which {roots['train']} lacks"
                    f'{near_match(name, class_names)}; with classes="all" splits may have classes'
                    " of their own"
                )
    splits = {
        s: _read_split(root, names[s], class_names, channels, max_pixels)
        for s, root in roots.items()
    }
    fractions = {"val": val_fraction, "test": test_fraction}
    for key in (s for s in splits if s != "train" and fractions[s] is not None):
        raise DataError(f"{roots[key]} exists already: leave out {key}_fraction")
    total = len(splits["train"])
    rest = splits["train"]
    for key, fraction in fractions.items():
        if fraction is None:
            fraction = 0.1 if flat else 0.0
        count = round(fraction * total)
        if count and key not in splits:
            kept, held = hold_out(rest.labels, count, split_seed)
            splits[key] = _take(rest, held)
            rest = _take(rest, kept)
    splits["train"] = rest
    return Source(splits, tuple(class_names))


def _subfolders(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def check_folder(path: str) -> None:
    """Raises DataError unless ``path`` is a folder; the message names the near match."""
    if not os.path.isdir(path):
        parent = Path(path).parent
        siblings = [str(p) for p in sorted(parent.iterdir())] if parent.is_dir() else []
        raise DataError(f"no folder {str(path)!r}{near_match(str(path), siblings)}")


def split_folders(path: str) -> dict[str, str]:
    """The folder of each split in ``path`` that exists, in the order of `SPLIT_FOLDERS`."""
    roots: dict[str, str] = {}
    for split, candidates in SPLIT_FOLDERS.items():
        there = [os.path.join(path, c) for c in candidates if os.path.isdir(os.path.join(path, c))]
        if len(there) > 1:
            raise DataError(f"{' and '.join(there)} both exist; which one is the split {split}?")
        if there:
            roots[split] = there[0]
    return roots


def _read_split(
    root: str, folders: Sequence[str], class_names: Sequence[str], channels: int, max_pixels: int
) -> FolderSplit:
    """Lists the images of one split; ``folders`` are the class folders in ``root``."""
    number = {name: index for index, name in enumerate(class_names)}
    paths: list[str] = []
    labels: list[int] = []
    ignored: Counter[str] = Counter()
    for name in folders:
        files = _images_below(os.path.join(root, name), ignored)
        if not files:
            raise DataError(
                f"{os.path.join(root, name)} has no image ({', '.join(SUFFIXES)}): give the class"
                " an image, or remove its folder"
            )
        paths += [os.path.join(name, file) for file in files]
        labels += [number[name]] * len(files)
    if ignored:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(ignored.items()))
        _log.warning(
            "%s: ignored %d files that are not %s (%s)",
            root,
            ignored.total(),
            "/".join(SUFFIXES),
            kinds,
        )
    return FolderSplit(root, paths, np.asarray(labels, np.int32), channels, max_pixels)


def _images_below(root: str, ignored: Counter[str]) -> list[str]:
    """Image files below ``root``, relative to it and sorted; counts others in ``ignored``."""
    found = []
    for folder_path, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            suffix = os.path.splitext(file)[1].lower()
            if file.startswith("."):
                continue
            if suffix in SUFFIXES:
                found.append(os.path.relpath(os.path.join(folder_path, file), root))
            else:
                ignored[suffix or "without a suffix"] += 1
    return sorted(found)


def _take(split: FolderSplit, indices: np.ndarray) -> FolderSplit:
    paths = [split.paths[i] for i in indices]
    return dataclasses.replace(split, paths=paths, labels=split.labels[indices])
