"""Sources over tables that list image files: with a class each, or with numbers to predict."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Any

import numpy as np

from vitjax.core.regular_files import kind_of
from vitjax.core.text import near_match, printable, shortened
from vitjax.core.validation import NonNegativeInt, PositiveInt
from vitjax.data.class_order import ClassList
from vitjax.data.errors import DataError, with_warnings
from vitjax.data.image_formats import MAX_PIXELS
from vitjax.data.sources.base import Channels, HeldOut, Source, register
from vitjax.data.sources.folder_layout import check_folder
from vitjax.data.sources.image_labels import (
    ClassChoice,
    ImageFiles,
    choose_classes,
    counted,
    hold_out_splits,
    say_splits,
)
from vitjax.data.sources.real_files import find_links, say_contradicting, stats_of
from vitjax.data.sources.tables import Table, find_column, numbers, read_table
from vitjax.data.split_names import SPLITS, splits_among

# Usual names of columns, without case and punctuation.
_PATHS = (
    *("path", "paths", "file", "files", "filename", "filenames", "filepath", "filepaths"),
    *("image", "images", "imagepath", "imagefile", "imagename", "img", "imgpath"),
)
_LABELS = ("label", "labels", "class", "classes", "classname", "target", "category", "species")
_SPLITS = ("split", "splits", "set", "subset", "dataset", "partition", "phase")
_WEIGHTS = ("weight", "weights", "sampleweight", "exampleweight")


@register("manifest")
def manifest(
    path: str,
    root: str | None = None,
    channels: Channels = 3,
    path_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    weight_column: str | None = None,
    suffix: str = "",
    classes: ClassChoice = "train",
    val_fraction: HeldOut | None = None,
    test_fraction: HeldOut | None = None,
    split_seed: NonNegativeInt = 0,
    max_pixels: PositiveInt = MAX_PIXELS,
    run_classes: ClassList | None = None,
) -> Source:
    """Image files with one class each, as a CSV, TSV or Parquet file lists them.

    One row per image, with columns for its file, its class and, if the table has them, its split
    and its weight. The names of the columns are recognised (``path``, ``label``, ``split``,
    ``weight`` and others) or given. Splits are recognised by their usual names, see
    `vitjax.data.split_names`. Classes are numbered in sorted order, numbers as numbers.

    A weight, at least 0, is how much the example counts in training: unless ``sampler`` names
    another sampler, examples are drawn in proportion to it.

    Args:
        path: the table.
        root: the folder that files are relative to; None for the table's own.
        channels: 3 to read images as RGB, 1 to read them as grey.
        path_column: name of the column of the files; None to recognise it.
        label_column: the same for the classes.
        split_column: the same for the splits, if there is one.
        weight_column: the same for the weights, if there is one.
        suffix: what is appended to each cell of the files, such as ``".jpg"``.
        classes: as of the source ``folder``.
        val_fraction: fraction of the examples outside of other splits to hold out as ``val``, if it
            does not exist. None means 0.1 if the table has no splits, else 0.
        test_fraction: the same for ``test``.
        split_seed: selects the examples that are held out.
        max_pixels: the pixels of the largest image that is read.
        run_classes: as of the source ``folder``.

    Raises:
        DataError: the table cannot be read, a column is missing, a file does not exist or a cell
            cannot be used; the message names the line and the column.
    """
    rows = _Rows(path, root, path_column, split_column, weight_column, suffix)
    column = find_column(rows.table, label_column, _LABELS, "config.data.label_column", needed=True)
    assert column is not None
    names = rows.table.column(column)
    if "" in names:
        raise DataError(f"{rows.table.where(names.index(''), column)}: is empty")
    splits = rows.by_split()
    counts = {split: counted([names[i] for i in held]) for split, held in splits.items()}
    class_names, left_out = choose_classes(counts, classes, path, run_classes)
    number = {name: index for index, name in enumerate(class_names)}
    labels = np.asarray([number.get(name, -1) for name in names], np.int32)
    splits = {split: held[labels[held] >= 0] for split, held in splits.items()}
    return rows.source(
        splits,
        labels,
        class_names,
        channels,
        left_out,
        val_fraction,
        test_fraction,
        split_seed,
        max_pixels,
    )


@register("number_manifest", target="number")
def number_manifest(
    path: str,
    root: str | None = None,
    channels: Channels = 3,
    path_column: str | None = None,
    label_columns: Sequence[str] | None = None,
    split_column: str | None = None,
    weight_column: str | None = None,
    suffix: str = "",
    val_fraction: HeldOut | None = None,
    test_fraction: HeldOut | None = None,
    split_seed: NonNegativeInt = 0,
    max_pixels: PositiveInt = MAX_PIXELS,
) -> Source:
    """As `manifest`, with numbers to predict in place of a class.

    Args:
        path: as of `manifest`.
        root: as of `manifest`.
        channels: as of `manifest`.
        path_column: as of `manifest`.
        label_columns: names of the columns of numbers; None to recognise one.
        split_column: as of `manifest`.
        weight_column: as of `manifest`.
        suffix: as of `manifest`.
        val_fraction: as of `manifest`.
        test_fraction: as of `manifest`.
        split_seed: as of `manifest`.
        max_pixels: as of `manifest`.

    Raises:
        DataError: as of `manifest`; a label is not a finite number.
    """
    rows = _Rows(path, root, path_column, split_column, weight_column, suffix)
    given: Sequence[str | None] = (None,) if label_columns is None else label_columns
    found = [
        find_column(rows.table, name, _LABELS, "config.data.label_columns", needed=True)
        for name in given
    ]
    columns = [name for name in found if name is not None]
    labels = np.asarray([numbers(rows.table, name) for name in columns], np.float32).T
    return rows.source(
        rows.by_split(),
        labels[:, 0] if len(columns) == 1 else labels,
        tuple(columns),
        channels,
        [],
        val_fraction,
        test_fraction,
        split_seed,
        max_pixels,
    )


class _Rows:
    """The rows of a table of image files: what both sources read of it."""

    def __init__(
        self,
        path: str,
        root: str | None,
        path_column: str | None,
        split_column: str | None,
        weight_column: str | None,
        suffix: str,
    ):
        self.table = read_table(path)
        key = "config.data.{}_column".format
        column = find_column(self.table, path_column, _PATHS, key("path"), needed=True)
        assert column is not None
        self._root = os.path.dirname(path) if root is None else root
        if root is not None:
            check_folder(root)
        self._files = [cell and cell + suffix for cell in self.table.column(column)]
        self._inodes = _check_files(self.table, column, self._root, self._files)
        self._split_column = find_column(
            self.table, split_column, _SPLITS, key("split"), needed=False
        )
        self._weight_column = find_column(
            self.table, weight_column, _WEIGHTS, key("weight"), needed=False
        )

    def by_split(self) -> dict[str, np.ndarray]:
        """The rows of each split, in order; all are ``train`` without a column of splits."""
        if self._split_column is None:
            return {"train": np.arange(len(self.table))}
        cells = self.table.column(self._split_column)
        meant = splits_among(dict.fromkeys(cells))
        for row, cell in enumerate(cells):
            if cell not in meant:
                raise DataError(
                    f"{self.table.where(row, self._split_column)}: {cell!r} is not a"
                    f" split{near_match(cell, SPLITS)} (splits are {', '.join(SPLITS)})"
                )
        splits = np.asarray([meant[cell] for cell in cells])
        return {s: np.flatnonzero(splits == s) for s in SPLITS if (splits == s).any()}

    def source(
        self,
        splits: dict[str, np.ndarray],
        labels: np.ndarray,
        class_names: tuple[str, ...],
        channels: int,
        notes: Sequence[str],
        val_fraction: float | None,
        test_fraction: float | None,
        seed: int,
        max_pixels: int,
    ) -> Source[Any]:
        """The source of the rows of ``splits``, with ``labels`` of all rows."""
        table, weights = self.table, None
        where = f"column {self._split_column!r}" if self._split_column else "all rows"
        where = f"{table.path}, {where}"
        said = []
        if self._weight_column is not None:
            weights = np.asarray(numbers(table, self._weight_column))
            if (weights < 0).any():
                row = int(np.argmax(weights < 0))
                raise DataError(
                    f"{table.where(row, self._weight_column)}: {weights[row]:g} is below 0"
                )
            said.append(
                f"training draws examples in proportion to the column {self._weight_column!r},"
                " unless config.data.sampler names another sampler"
            )
        files = {
            split: ImageFiles(
                self._root,
                [self._files[i] for i in held],
                labels[held],
                channels,
                None if weights is None else weights[held],
                max_pixels,
            )
            for split, held in splits.items()
        }
        links = find_links(
            files, {split: self._inodes[held] for split, held in splits.items()}, table.path
        )
        said.append(say_splits(files, dict.fromkeys(files, where)))
        named = [
            (files[s].name(one), files[s].name(other)) for s, one, other in links.contradicting
        ]
        said += say_contradicting(named, table.path)
        default = 0.1 if self._split_column is None else 0.0
        fractions = {"val": val_fraction, "test": test_fraction}
        groups = links.groups.get("train")
        with with_warnings(said):
            held_out = hold_out_splits(files, fractions, default, seed, table.path, groups)
        return Source(
            files,
            class_names,
            example_weights={s: f.weights for s, f in files.items() if f.weights is not None},
            notes=(*said, *notes, *held_out),
        )


def _check_files(table: Table, column: str, root: str, files: Sequence[str]) -> np.ndarray:
    """The inode of each file, uint64.

    Raises:
        DataError: one does not exist, or is no file; the message names the first.
    """
    inodes = np.zeros(len(files), np.uint64)
    missing = []
    what = f"looking for the files of {printable(table.path)}"
    places = [os.path.join(root, file) for file in files]
    for row, status in enumerate(stats_of(places, what)):
        if status is not None and stat.S_ISREG(status.st_mode):
            inodes[row] = status.st_ino
        else:
            missing.append(row)
    if not missing:
        return inodes
    row, file = missing[0], files[missing[0]]
    if not file:
        raise DataError(f"{table.where(row, column)}: is empty")
    place = os.path.join(root, file)
    if os.path.exists(place) and (kind := kind_of(place)) is not None:
        raise DataError(f"{table.where(row, column)}: {place} is {kind}, not a file")
    folder = os.path.dirname(place) or "."
    siblings = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    how_many = f"{len(missing):,} of {len(files):,} rows name a file that does not exist; "
    more = how_many if len(missing) > 1 else ""
    raise DataError(
        f"{table.where(row, column)}: no file {place!r}"
        f"{near_match(os.path.basename(place), siblings)} ({more}files are relative to"
        f" {root or 'the current folder'}; config.data.root names another folder, and"
        f" config.data.suffix what to append; {folder} has: {shortened(siblings, 3) or 'nothing'})"
    )
