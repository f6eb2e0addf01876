"""Text and CSV files that list the images of a split, or images with their masks."""

from __future__ import annotations

import csv
import os
from typing import NamedTuple

from vitjax.core.regular_files import read_text
from vitjax.core.text import near_match
from vitjax.data.errors import DataError

_COLUMNS = {
    "image": ("image", "images", "img", "image_path", "filename", "file", "path", "stem"),
    "mask": ("mask", "masks", "label", "labels", "annotation", "mask_path", "label_path"),
    "valid": ("valid", "fov", "field_of_view", "valid_mask"),
    "split": ("split", "set", "subset", "fold"),
}
_ORDER = ("image", "mask", "valid")  # of columns without a heading


class Row(NamedTuple):
    """A line of a list.

    Attributes:
        image: a path, or the stem of an image.
        mask: a path, or None.
        valid: the same, of the mask of pixels that count.
        split: as a person wrote it, or None.
        where: the file and the line, for errors.
    """

    image: str
    mask: str | None
    valid: str | None
    split: str | None
    where: str


def read_list(path: str) -> list[Row]:
    """The rows of a text file, whose columns are separated by white space, or of a CSV file.

    A first line with the word "image" names the columns: image, mask, valid and split, in any
    order; others are ignored. Without it, they are image, mask and valid. Empty lines and those
    that begin with ``#`` are passed over.

    Raises:
        DataError: the file cannot be read or is empty, or a line has too few or too many columns.
    """
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise DataError(f"{path}: cannot be read: {reason}") from error
    lines = [
        (number, line.strip())
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise DataError(f"{path}: lists no images")
    separator = next((mark for mark in (",", "\t", ";") if mark in lines[0][1]), None)
    table = [(number, _cells(line, separator)) for number, line in lines]
    names = [cell.lower() for cell in table[0][1]]
    columns: dict[str, int] = dict(zip(_ORDER, range(len(_ORDER)), strict=True))
    width = len(_ORDER)
    if any(name in _COLUMNS["image"] for name in names):
        columns, width = _headings(names, path), len(names)
        table = table[1:]
    rows = []
    for number, cells in table:
        if len(cells) > width:
            raise DataError(
                f"{path}, line {number}: has {len(cells)} columns, and at most {width} are read"
                " (image, mask, valid); paths with spaces need a CSV file"
            )
        found = {
            name: cells[place]
            for name, place in columns.items()
            if place < len(cells) and cells[place]
        }
        if "image" not in found:
            raise DataError(f"{path}, line {number}: has no image")
        where = f"{path}, line {number}"
        mask, valid, split = (found.get(name) for name in ("mask", "valid", "split"))
        rows.append(Row(found["image"], mask, valid, split, where))
    return rows


def listed_file(word: str, list_path: str, root: str, where: str) -> str:
    """The file that a word of a list stands for.

    It may be absolute, or relative to the folder of the data or of the list. A path of another
    machine is found by its last parts.

    Raises:
        DataError: there is no such file.
    """
    word = word.replace("\\", "/") if not os.path.exists(word) else word
    folders = (root, os.path.dirname(list_path))
    if os.path.isabs(word) and os.path.isfile(word):
        return word
    parts = [part for part in word.split("/") if part not in ("", ".")]
    for skipped in range(len(parts)):
        rest = os.path.join(*parts[skipped:])
        for folder in folders:
            if os.path.isfile(os.path.join(folder, rest)):
                return os.path.normpath(os.path.join(folder, rest))
    place = os.path.join(root, os.path.dirname(word).lstrip("/"))
    near = near_match(os.path.basename(word), os.listdir(place)) if os.path.isdir(place) else ""
    raise DataError(f"{where}: no file {word!r} in {root}{near}")


def _cells(line: str, separator: str | None) -> list[str]:
    if separator is None:
        return line.split()
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]


def _headings(names: list[str], path: str) -> dict[str, int]:
    columns = {}
    for column, words in _COLUMNS.items():
        places = [place for place, name in enumerate(names) if name in words]
        if len(places) > 1:
            both = " and ".join(repr(names[place]) for place in places)
            raise DataError(f"{path}: the columns {both} could both be the {column}; rename one")
        if places:
            columns[column] = places[0]
    return columns
