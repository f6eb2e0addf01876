"""A source over folders of image files, one folder per class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np

from vitjax.core.file_tree import IMAGE_SUFFIXES, FileTree, kinds
from vitjax.core.text import shortened
from vitjax.core.validation import Bounds, NonNegativeInt, PositiveInt
from vitjax.data.class_order import ClassList
from vitjax.data.errors import DataError, with_warnings
from vitjax.data.image_formats import MAX_PIXELS
from vitjax.data.sources.base import Channels, HeldOut, Source, register
from vitjax.data.sources.folder_layout import find_layout
from vitjax.data.sources.image_labels import (
    ClassChoice,
    ImageFiles,
    choose_classes,
    hold_out_splits,
    say_splits,
)
from vitjax.data.sources.real_files import find_links, say_contradicting


@register("folder")
def folder(
    path: str,
    channels: Channels = 3,
    classes: ClassChoice = "train",
    splits: Mapping[str, str] | None = None,
    levels: Annotated[int, Bounds(at_least=1, at_most=100)] = 1,
    val_fraction: HeldOut | None = None,
    test_fraction: HeldOut | None = None,
    split_seed: NonNegativeInt = 0,
    max_pixels: PositiveInt = MAX_PIXELS,
    run_classes: ClassList | None = None,
) -> Source:
    """Image files in one folder per class, recognised by suffix.

    Either ``path`` has folders of splits with the class folders inside, ``train`` and optionally
    ``val`` and ``test``, also by their other usual names, see `vitjax.data.split_names`; or it has
    the class folders itself and is split here, with the same fraction of every class in each split.
    A folder around them that holds nothing else is passed through. Classes are named by their
    folders and numbered in sorted order. Files may be in subfolders of a class's folder. Hidden
    files and what systems leave in folders are ignored, and files of other kinds are left out with
    a note. Of a file with several pages or frames the first is read.

    Args:
        path: the folder.
        channels: 3 to read images as RGB, 1 to read them as grey.
        classes: "train" if every split has the classes of ``train``, and any other is an error;
            "all" if splits have classes of their own, as in few-shot learning: the classes are then
            those of all splits together; or the names of classes to read, in this order.
        splits: the folder of each split, relative to ``path``, such as ``{"train": "photos"}``;
            None to recognise them by their names.
        levels: how many levels of folders name a class: with 2, ``indoor/kitchen/1.jpg`` is of the
            class ``indoor/kitchen``.
        val_fraction: fraction of the examples outside of other splits to hold out as ``val``, if it
            does not exist. None means 0.1 if ``path`` has the class folders itself, else 0.
        test_fraction: the same for ``test``.
        split_seed: selects the examples that are held out.
        max_pixels: the pixels of the largest image that is read.
        run_classes: those of a run that ``classes`` were written for; not a key of a config.

    Raises:
        DataError: the folder does not exist or has no classes, its folders can be read as splits
            and as classes, a class has no image or is missing in ``train``, or the examples to hold
            out are too many.
    """
    tree = FileTree(IMAGE_SUFFIXES)
    chosen = () if isinstance(classes, str) else classes
    layout = find_layout(tree, path, splits, chosen, levels)
    found = {split: _class_folders(tree, root, levels) for split, root in layout.roots.items()}
    wanted = None if isinstance(classes, str) else frozenset(classes)
    counts = {
        split: {
            name: len(_images(tree, os.path.join(root, name), wanted is None or name in wanted))
            for name in found[split]
        }
        for split, root in layout.roots.items()
    }
    class_names, left_out = choose_classes(counts, classes, path, run_classes, layout.roots)
    files, inodes = {}, {}
    for split, root in layout.roots.items():
        files[split], inodes[split] = _read_split(
            tree, root, class_names, found[split], channels, max_pixels
        )
    files, groups, on_links = _each_file_once(files, inodes, path, class_names)
    where = dict(layout.roots)
    notes = [*layout.notes, say_splits(files, where), *left_out]
    notes += [note for root in layout.roots.values() for note in _ignored(tree, root, levels)]
    notes += on_links
    notes += [note for root in layout.roots.values() for note in _linked(root, class_names)]
    default = 0.1 if layout.flat else 0.0
    fractions = {"val": val_fraction, "test": test_fraction}
    with with_warnings(notes):
        notes += hold_out_splits(files, fractions, default, split_seed, path, groups)
    if layout.flat and "test" in files:
        (root,) = layout.roots.values()
        notes.append(
            f"test is a part of {root}: --config.data.splits.test={os.path.relpath(root, path)}"
            " reads all of it as test, to evaluate a run"
        )
    return Source(files, class_names, notes=tuple(notes))


def _class_folders(tree: FileTree, root: str, levels: int) -> list[str]:
    """The class folders in ``root``, relative to it.

    Raises:
        DataError: there are none.
    """
    names = [""]
    for _ in range(levels):
        names = [
            os.path.join(name, inner)
            for name in names
            for inner in tree.listing(os.path.join(root, name) if name else root).folders
        ]
    if not names:
        raise DataError(f"{root} has no folders {levels} levels below it (config.data.levels)")
    return sorted(names)


def _images(tree: FileTree, path: str, required: bool) -> list[str]:
    """The images of a class folder.

    Raises:
        DataError: there are none, and the class is ``required``.
    """
    files = tree.files_below(path)
    if not files and required:
        others = tree.others_below(path)
        held = f" that can be read (it holds {kinds(others)} files)" if others else ""
        raise DataError(
            f"{path} has no image{held}: images are files of the kinds"
            f" {', '.join(IMAGE_SUFFIXES)}. Give the class an image, or remove its folder"
        )
    return files


def _read_split(
    tree: FileTree,
    root: str,
    class_names: Sequence[str],
    folders: Sequence[str],
    channels: int,
    max_pixels: int,
) -> tuple[ImageFiles, np.ndarray]:
    """The images of one split and their inodes; ``folders`` are the class folders in ``root``."""
    number = {name: index for index, name in enumerate(class_names)}
    paths: list[str] = []
    labels: list[int] = []
    inodes = [np.zeros(0, np.uint64)]
    for name in folders:
        if name in number:
            files = tree.files_below(os.path.join(root, name))
            inodes.append(tree.inodes_below(os.path.join(root, name)))
            paths += [os.path.join(name, file) for file in files]
            labels += [number[name]] * len(files)
    made = ImageFiles(root, paths, np.asarray(labels, np.int32), channels, max_pixels=max_pixels)
    return made, np.concatenate(inodes)


def _each_file_once(
    files: Mapping[str, ImageFiles],
    inodes: Mapping[str, np.ndarray],
    where: str,
    class_names: Sequence[str],
) -> tuple[dict[str, ImageFiles], np.ndarray | None, list[str]]:
    """The splits without files that links repeat within a class.

    Returns:
        The splits; for the examples of ``train``, numbers that are equal for those of one file,
        which is in several classes; and notes.

    Raises:
        DataError: a file is in two splits.
    """
    links = find_links(files, inodes, where)
    once, notes = dict(files), []
    for split, again in links.again.items():
        if again.any():
            once[split] = files[split].take(np.flatnonzero(~again))
            linked = [files[split].name(index) for index in np.flatnonzero(again)[:3].tolist()]
            count = int(again.sum())
            are = "link to an image" if count == 1 else "links to images"
            notes.append(
                f"{split}: {count:,} {are} of the same class {'is' if count == 1 else 'are'} left"
                f" out ({', '.join(linked)}{', ...' if count > len(linked) else ''})"
            )
    pairs = []
    for split, *both in links.contradicting:
        held = files[split]
        folders = [os.path.join(held.root, class_names[held.labels[index]]) for index in both]
        if not os.path.samefile(*folders):  # which is said once, of the folders
            one, other = map(held.name, both)
            pairs.append((one, other))
    notes += say_contradicting(pairs, where)
    groups = links.groups["train"][~links.again["train"]] if "train" in files else None
    return once, groups, notes


def _ignored(tree: FileTree, root: str, levels: int) -> list[str]:
    """What there is to say of files in ``root`` that are not read."""
    notes = []
    others = tree.others_below(root)
    if others:
        notes.append(
            f"{root}: {others.total():,} files are not images and are left out ({kinds(others)})"
        )
    outside = [file for file in tree.files_below(root) if file.count(os.sep) < levels]
    if outside:
        notes.append(
            f"warning: {root}: {len(outside):,} images stand outside of class folders and are left"
            f" out ({shortened(outside, 3)})"
        )
    return notes


def _linked(root: str, class_names: Sequence[str]) -> list[str]:
    """What there is to say of classes that are the same folder, by links."""
    by_folder: dict[str, list[str]] = {}
    for name in class_names:
        by_folder.setdefault(os.path.realpath(os.path.join(root, name)), []).append(name)
    return [
        f"warning: {root}: the classes {shortened(names)} are one folder, {folder}, by links: each"
        " has its images"
        for folder, names in by_folder.items()
        if len(names) > 1
    ]
