"""The classes that masks have: found by reading all of them, and refused where they are doubtful.

A mask that was resized, blurred or saved as JPEG on its way has values that stand for nothing. They
have no area: they occur along the borders of other values only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from vitjax.core.machine import process_cores
from vitjax.core.text import shortened
from vitjax.data.errors import CorruptImage, DataError
from vitjax.data.mask_files import ColouredMask, unpacked

_MOST_CLASSES = 256  # with more distinct values, a mask does not hold classes
_MANY = 64  # classes; with more, values are looked at even if they follow each other
_LOOKED_AT = 32  # masks in which doubtful values are looked at
# The fraction of a value's pixels whose four neighbours have the same value, below which the value
# has no area.
_NO_AREA = 0.1
_OF_TWO = 0.8  # the fraction of pixels that two values have where masks are of two classes
_VOID = 255
_FOREGROUNDS = frozenset((1, 127, 128, 255))  # the values by which programs write "not 0"

Read = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class _Counted:
    """The values of one mask and their pixels."""

    values: np.ndarray
    pixels: np.ndarray


def discovered(
    count: int, read: Read, read_colours: Read, name: Callable[[int], str], ignored: Sequence[int]
) -> tuple[int, ...]:
    """All values that occur in masks, sorted. Reads all masks, in threads.

    Args:
        count: the number of masks.
        read: the values of the mask at an index.
        read_colours: its colours, packed, for the error about masks in colour.
        name: what errors call it.
        ignored: values that are not classes.

    Raises:
        DataError: a mask cannot be read or is in colour, there are fewer than 2 values, or it is
            doubtful that they are classes.
    """

    def counted(index: int) -> _Counted:
        try:
            found = _Counted(*values_of(read(index)))
        except ColouredMask as error:
            raise ColouredMask(name(index)) from error
        except CorruptImage as error:
            raise DataError(
                f"{error}; all masks are read to find their values: with these listed, as"
                " classes=(0, 255), on_corrupt='skip' leaves this one out"
            ) from error
        _check_few(found.values, name(index))
        return found

    with ThreadPoolExecutor(process_cores()) as threads:
        try:
            masks = list(threads.map(counted, range(count)))
        except ColouredMask as error:
            raise _in_colour(str(error), count, read_colours, threads) from error
    totals: dict[int, int] = {}
    for index, mask in enumerate(masks):
        for value, pixels in zip(mask.values.tolist(), mask.pixels.tolist(), strict=True):
            totals[value] = totals.get(value, 0) + pixels
        _check_few(totals, name(index))
    values = tuple(sorted(value for value in totals if value not in ignored))
    if len(values) < 2:
        raise DataError(
            f"the {count} masks have only the values {list(values)}; there must be at least two"
            f" classes (the first mask: {name(0)})"
        )
    _check_one_kind(masks, name, ignored)
    _check_areas(values, masks, read, name)
    return values


def values_of(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of a mask, sorted, and the pixels of each."""
    flat = mask.ravel()
    # By runs, of which masks have few: a hundred times faster than to sort all pixels.
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.append(starts, flat.size))
    values, inverse = np.unique(flat[starts], return_inverse=True)
    return values, np.bincount(inverse, weights=lengths).astype(np.int64)


def _check_few(values: object, name: str) -> None:
    assert isinstance(values, np.ndarray | dict)
    if len(values) > _MOST_CLASSES:
        raise DataError(
            f"{name}: with it, masks have more than {_MOST_CLASSES} values, too many for classes;"
            " list those that are classes, as classes=(0, 255)"
        )


def _in_colour(
    first: str, count: int, read_colours: Read, threads: ThreadPoolExecutor
) -> DataError:
    """The error for masks in colour, with the colours that they have."""
    totals: dict[int, int] = {}
    try:
        for values, pixels in threads.map(lambda i: values_of(read_colours(i)), range(count)):
            for value, number in zip(values.tolist(), pixels.tolist(), strict=True):
                totals[value] = totals.get(value, 0) + number
            if len(totals) > _MOST_CLASSES:
                return DataError(
                    f"{first}: is in colour, and masks have more than {_MOST_CLASSES} colours, as"
                    " after saving as JPEG or resizing"
                )
    except CorruptImage as damaged:
        return damaged
    everything = sum(totals.values())
    most = sorted(totals, key=lambda value: -totals[value])
    shares = [f"{unpacked(value)} {totals[value] / everything:.2%}" for value in most]
    example = ", ".join(f'"class{i}": {unpacked(value)}' for i, value in enumerate(sorted(most)))
    return DataError(
        f"{first}: is in colour, and classes are not given. The masks have {len(most)} colours"
        f" ({shortened(shares, 40)}); name them: classes={{{example}}}, and ignore=(r, g, b) for"
        " one that does not count"
    )


def _check_one_kind(
    masks: Sequence[_Counted], name: Callable[[int], str], ignored: Sequence[int]
) -> None:
    """Raises DataError if masks are of 0 and one more value: 1 in some, white or grey in others."""
    kinds: dict[int, list[int]] = {}
    for index, mask in enumerate(masks):
        others = [v for v in mask.values.tolist() if v != 0 and v not in ignored]
        if len(others) > 1:
            return
        for value in others:
            kinds.setdefault(value, []).append(index)
    if len(kinds) < 2 or not set(kinds) <= _FOREGROUNDS:
        return
    common, *rare = sorted(kinds, key=lambda value: -len(kinds[value]))
    have = " and ".join(f"{len(kinds[value])} have 0 and {value}" for value in rare)
    files = shortened([name(index) for value in rare for index in kinds[value]], 5)
    written = ", ".join(f"({value},)" for value in sorted(kinds))
    raise DataError(
        f"{len(kinds[common])} masks have the values 0 and {common}, and {have} ({files}): several"
        " ways to write the same two classes? Then"
        f' classes={{"background": 0, "foreground": ({written})}} reads them all; if they are'
        f" {len(kinds) + 1} classes, list them: classes=({shortened([0, *sorted(kinds)])})"
    )


def _check_areas(
    values: Sequence[int], masks: Sequence[_Counted], read: Read, name: Callable[[int], str]
) -> None:
    """Raises DataError if values occur along the borders of others only.

    Two values are trusted. So are a few that follow each other, as those of classes do, unless two
    alone have an area and others are between these.
    """
    if len(values) == 2:
        return
    numbers = [value for value in values if value != _VOID]
    follow = len(values) <= _MANY and max(numbers) < 2 * len(numbers)
    richest = sorted(range(len(masks)), key=lambda index: -len(masks[index].values))
    pixels = dict.fromkeys(values, 0)
    inner = dict.fromkeys(values, 0)
    for index in richest[:_LOOKED_AT]:
        mask = read(index)
        for counts, part in ((pixels, mask), (inner, mask[1:-1, 1:-1][_inside(mask)])):
            if part.size:
                for value, number in zip(*(x.tolist() for x in values_of(part)), strict=True):
                    if value in counts:
                        counts[value] += number
    borders = [v for v in values if pixels[v] and inner[v] < _NO_AREA * pixels[v]]
    peaks = [value for value in values if value not in borders]
    # Where nothing has an area, as in noise, nothing has a border.
    if not peaks or len(borders) < max(1, round(0.1 * len(values))):
        return
    if follow and (len(peaks) != 2 or not any(peaks[0] < value < peaks[1] for value in borders)):
        return
    likely = sorted(sorted(peaks, key=lambda value: -pixels[value])[:2])
    share = sum(pixels[value] for value in likely) / sum(pixels.values())
    two = len(likely) == 2 and share > _OF_TWO
    example = f"; of two classes, classes={tuple(likely)} refuses the files that have others"
    listed = shortened(values, 8)
    raise DataError(
        f"the masks have {len(values)} values ({shortened(values, 12)}), and {len(borders)} of them"
        f" ({shortened(borders, 6)}) occur along the borders of others only, as after resizing,"
        f" smoothing or saving as JPEG (see {name(richest[0])}). Use the masks from before that, or"
        f" resize by nearest neighbour. If all are classes, list them: classes=({listed})"
        f"{example if two else ''}"
    )


def _inside(mask: np.ndarray) -> np.ndarray:
    """Which pixels, of those not at the edge, have four neighbours of the same value."""
    across = mask[1:-1, 1:] == mask[1:-1, :-1]
    down = mask[1:, 1:-1] == mask[:-1, 1:-1]
    inside: np.ndarray = across[:, 1:] & across[:, :-1] & down[1:] & down[:-1]
    return inside
