"""Which folders are splits and which are classes."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitjax.core.file_tree import FileTree, is_left_behind, kinds
from vitjax.core.text import near_match, shortened
from vitjax.data.errors import DataError
from vitjax.data.sources.tables import PARQUET_SUFFIXES, TEXT_SUFFIXES
from vitjax.data.split_names import SPLITS, split_named, splits_among

# With this many classes beside it, a folder of images that is called "test" is a class as well.
_MANY = 3
_EXPECTED = "images are expected in <split>/<class>/<file> or in <class>/<file>"


@dataclass(frozen=True)
class FolderLayout:
    """How a folder of class folders is read.

    Attributes:
        roots: split to the folder that holds its class folders; ``train`` alone if ``flat``.
        flat: whether there are no folders of splits.
        notes: what was understood, in words.
    """

    roots: Mapping[str, str]
    flat: bool
    notes: tuple[str, ...] = ()


def check_folder(path: str) -> None:
    """Raises DataError unless ``path`` is a folder; the message names the near match."""
    if not os.path.isdir(path):
        parent = Path(path).parent
        siblings = [str(p) for p in sorted(parent.iterdir())] if parent.is_dir() else []
        if os.path.isfile(path):
            raise DataError(f"{path} is a file, and must be a folder")
        raise DataError(f"no folder {str(path)!r}{near_match(str(path), siblings)}")


def split_folders(path: str) -> dict[str, str]:
    """The folder of each split in ``path``, recognised by its name, in the order of `SPLITS`.

    Raises:
        DataError: two folders have names of the same split.
    """
    with os.scandir(path) as entries:
        names = sorted(e.name for e in entries if e.is_dir() and not is_left_behind(e.name))
    return _rooted(path, splits_among(names))


def find_layout(
    tree: FileTree,
    path: str,
    splits: Mapping[str, str] | None = None,
    classes: Collection[str] = (),
    levels: int = 1,
) -> FolderLayout:
    """Finds the folders of splits and of classes in ``path``.

    If ``path`` holds one folder, and that one further folders, the inner one is read instead.

    Args:
        tree: the image files.
        path: the folder.
        splits: folder of each split, relative to ``path``; None to recognise them by their names.
        classes: names of folders that are classes, whatever they are called.
        levels: how many levels of folders name a class; with more than one, no folder is passed
            through.

    Raises:
        DataError: there are no class folders, or they can be read as splits and as classes.
    """
    if os.path.isfile(path) and path.lower().endswith((*TEXT_SUFFIXES, *PARQUET_SUFFIXES)):
        raise DataError(f"{path} is a table: config.data.source = 'manifest' reads it")
    check_folder(path)
    if splits is not None:
        roots, notes = _split_roots(tree, _given(path, splits), levels)
        return FolderLayout(roots, False, tuple(notes))
    root = path
    while levels == 1 and (inner := _only_folder(tree, root)) is not None:
        root = inner
    notes = [f"{path} holds one folder of data: {root} is read"] if root != path else []
    filled = [n for n in tree.listing(root).folders if tree.files_below(os.path.join(root, n))]
    named = splits_among(tree.listing(root).folders)
    # Names of classes that are inside of splits say nothing of the folders here.
    given = frozenset(classes if set(classes) <= set(filled) else ())
    suspects = {n: s for s in SPLITS for n in filled if named.get(n) == s and n not in given}
    others = [name for name in filled if name not in suspects]
    holding = [name for name in suspects if _holds_classes(tree, os.path.join(root, name))]
    if holding and not others:
        roots, more = _split_roots(tree, _rooted(root, named), levels)
        return FolderLayout(roots, False, (*notes, *more))
    if suspects and (holding or not given):
        if holding or len(suspects) > 1 or len(others) < _MANY:
            raise _ambiguous(root, suspects, others, bool(holding))
        notes += [
            f"{os.path.join(root, name)} is read as a class, like the {len(others)} folders beside"
            " it"
            for name in suspects
        ]
    if not tree.listing(root).folders:
        found = tree.listing(root)
        held = f"{len(found.files)} images" if found.files else kinds(found.others) or "nothing"
        raise DataError(
            f"{root} has no class folders (it holds {held}): {_EXPECTED}; source='manifest' reads"
            " a table of files and classes"
        )
    if not given:
        _check_not_inverted(tree, root, filled)
        if levels == 1:
            _check_not_alike(tree, root, filled)
    return FolderLayout({"train": root}, True, tuple(notes))


def _only_folder(tree: FileTree, root: str) -> str | None:
    """The folder in ``root`` that holds all of its images and folders of them, if there is one."""
    listing = tree.listing(root)
    if listing.files or splits_among(listing.folders):
        return None
    paths = [os.path.join(root, name) for name in listing.folders]
    filled = [path for path in paths if tree.files_below(path)]
    # A class folder without any file is a mistake to report, not a folder of something else.
    if len(filled) != 1:
        return None
    if not all(tree.others_below(path) for path in paths if path != filled[0]):
        return None
    return filled[0] if _holds_classes(tree, filled[0]) else None


def _holds_classes(tree: FileTree, path: str) -> bool:
    """Whether the images below ``path`` are in folders inside of it."""
    listing = tree.listing(path)
    filled = [n for n in listing.folders if tree.files_below(os.path.join(path, n))]
    return len(filled) > 1 or (len(filled) == 1 and not listing.files)


def _split_roots(
    tree: FileTree, folders: Mapping[str, str], levels: int
) -> tuple[dict[str, str], list[str]]:
    """The folder with the class folders of each split, and what there is to say of it."""
    roots, notes = {}, []
    train_classes: Collection[str] = ()
    passed = False  # a folder in that of train
    for split, folder in folders.items():
        found = tree.listing(folder)
        if found.files and not _holds_classes(tree, folder) and split != "train":
            notes.append(
                f"warning: {folder} holds {len(found.files):,} images outside of class folders: it"
                f" is left out, and there is no split {split!r}"
            )
            continue
        while levels == 1 and (inner := _only_folder_of_split(tree, folder, train_classes)):
            if split != "train" and not passed and not split_named(os.path.basename(inner)):
                break
            folder, passed = inner, passed or split == "train"
        if split == "train":
            train_classes = tree.listing(folder).folders
        if not tree.listing(folder).folders:
            raise DataError(
                f"{folder} has no class folders: images are expected in {folder}/<class>/<file>"
            )
        roots[split] = folder
    check_distinct(roots)
    return roots, notes


def check_distinct(roots: Mapping[str, str]) -> None:
    """Raises DataError if two splits have the same folder, whatever path or link leads to it."""
    for (split, root), (other, other_root) in itertools.combinations(roots.items(), 2):
        if os.path.samefile(root, other_root):
            where = f" ({other_root})" if other_root != root else ""
            raise DataError(
                f"the splits {split!r} and {other!r} are the same folder {root}{where}: give each"
                " its own (config.data.splits), or hold examples out of train"
                " (config.data.val_fraction, config.data.test_fraction)"
            )


def _only_folder_of_split(tree: FileTree, folder: str, classes: Collection[str]) -> str | None:
    """The only folder in that of a split, unless it is a class: for seg_train/seg_train/<class>."""
    listing = tree.listing(folder)
    if listing.files or len(listing.folders) != 1 or listing.folders[0] in classes:
        return None
    inner = os.path.join(folder, listing.folders[0])
    return inner if _holds_classes(tree, inner) else None


def _rooted(root: str, named: Mapping[str, str]) -> dict[str, str]:
    roots: dict[str, str] = {}
    for split in SPLITS:
        there = [os.path.join(root, name) for name, each in named.items() if each == split]
        if len(there) > 1:
            raise DataError(
                f"{' and '.join(there)} both exist; which one is the split {split}?"
                " config.data.splits says which folder is which split"
            )
        if there:
            roots[split] = there[0]
    return roots


def _given(path: str, splits: Mapping[str, str]) -> dict[str, str]:
    """The folders of the splits that a config names."""
    roots = {}
    for split, folder in splits.items():
        if split not in SPLITS:
            raise DataError(
                f"config.data.splits: {split!r} is not a split{near_match(split, SPLITS)} (splits"
                f" are {', '.join(SPLITS)})"
            )
        roots[split] = os.path.normpath(os.path.join(path, folder))  # "." is the folder itself
        if not os.path.isdir(roots[split]):
            with os.scandir(path) as entries:
                inside = sorted(entry.name for entry in entries if entry.is_dir())
            raise DataError(
                f"config.data.splits: no folder {roots[split]!r}{near_match(folder, inside)}"
                f" ({path} has: {shortened(inside) or 'no folders'})"
            )
    return {split: roots[split] for split in SPLITS if split in roots}


def _ambiguous(
    root: str, suspects: Mapping[str, str], others: Sequence[str], holding: bool
) -> DataError:
    """The error for folders that can be read as splits and as classes, or as neither.

    Args:
        root: where they are.
        suspects: the folders that are named like splits, with the split.
        others: the other folders with images.
        holding: whether any of the first holds class folders.
    """
    names, key = shortened(list(suspects)), "config.data.classes"
    as_classes = f"{key} = {sorted([*suspects, *others])} makes classes of them"
    one = len(suspects) == 1
    if not others:
        are = "is named like a split and holds" if one else "are named like splits and hold"
        return DataError(
            f"{root}: {names} {are} images without class folders: {_EXPECTED}. {as_classes};"
            " source='manifest' reads a table of files and classes"
        )
    if holding:
        as_splits = {split: name for name, split in suspects.items()}
        otherwise = f"config.data.splits = {as_splits} reads them as splits, and only them"
    else:
        otherwise = f"{key} = {others} leaves {names} out"
    return DataError(
        f"{root} can be read in two ways: {names} as {'a split' if one else 'splits'}, with"
        f" {'class folders' if holding else 'images alone'} inside, and {shortened(others)} as"
        f" something else; or all of them as classes. Say which it is: {otherwise}; {as_classes}"
    )


def _check_not_inverted(tree: FileTree, root: str, classes: Collection[str]) -> None:
    """Raises DataError if class folders hold folders of splits."""
    for name in classes:
        inner = os.path.join(root, name)
        named = splits_among(tree.listing(inner).folders)
        if len(set(named.values())) > 1:
            raise DataError(
                f"{inner} holds the folders {' and '.join(named)}, which are named like splits, and"
                f" would be one class: {_EXPECTED}. If {inner} is the data set, it is the path; if"
                f" it is a class, config.data.classes = {sorted(classes)} says so"
            )


def _check_not_alike(tree: FileTree, root: str, classes: Collection[str]) -> None:
    """Raises DataError if folders hold the same class folders, as those of splits do.

    Whatever they are called: ``query`` and ``gallery``, ``fold1`` and ``fold2``.
    """
    inside: dict[str, list[str]] = {}
    for name in classes:
        listing = tree.listing(os.path.join(root, name))
        if not listing.files:
            place = os.path.join(root, name)
            inside[name] = [n for n in listing.folders if tree.files_below(os.path.join(place, n))]
    held = Counter(inner for folders in inside.values() for inner in folders)
    shared = [inner for inner, times in held.items() if times > 1]
    alike = [name for name, folders in inside.items() if len(set(folders) & set(shared)) > 1]
    if len(alike) < 2:
        return
    as_splits = dict(zip(("train", "test"), alike, strict=False))
    raise DataError(
        f"{root} can be read in two ways: {shortened(alike)} each hold the folders"
        f" {shortened(shared)} and no images outside of folders, as splits do; or they are"
        f" classes. Say which it is: config.data.splits = {as_splits} reads them as splits;"
        f" config.data.classes = {sorted(classes)} makes classes of them, and config.data.levels ="
        f" 2 of the folders inside, such as {os.path.join(alike[0], shared[0])}"
    )
