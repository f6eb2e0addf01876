"""Sources of images with a class for every pixel, and what the values of their masks mean."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np

from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match, shortened
from vitjax.data.class_order import ClassList, Colour, Match
from vitjax.data.errors import DataError
from vitjax.data.mask_files import packed, unpacked
from vitjax.data.sample import IGNORE
from vitjax.data.sources.base import SizedSplit, Source

_GREATEST = 65535
_STRANGE = -2  # in a table of class indices: a value that is no class

# Of one class: a value, a colour, or a list of values in brackets each or of colours.
Meaning = int | Sequence[int] | Sequence[Sequence[int]]
Meanings = Sequence[Meaning] | Mapping[str, Meaning]
Ignored = int | Sequence[int] | Sequence[Sequence[int]] | Literal["others"]


@dataclass(frozen=True)
class MaskSource(Source[SizedSplit]):
    """Named splits of images with masks.

    Attributes:
        splits: split name ("train", and "val" and "test" if they exist) to `SizedSplit`.
        class_names: name of each class, which class indices point into.
        channels: of the images, 1 or 3.
        values: for each class, the value that stands for it in the source's masks; None if that is
            the class index, or with ``class_colors`` its colour.
        class_colors: for each class, its colour in the source's masks; None if they have none.
    """

    channels: int = 1
    values: tuple[int, ...] | None = None
    class_colors: tuple[Colour, ...] | None = None

    @property
    def class_list(self) -> ClassList:
        """The classes, and their values or colours in masks."""
        if self.values is None and self.class_colors is not None:
            return ClassList(self.class_names, colors=self.class_colors)
        values = range(len(self.class_names)) if self.values is None else self.values
        return ClassList(self.class_names, tuple(values))

    def in_class_order(self, match: Match) -> Self:
        """As of `Source`, with the values of the run's classes."""
        colors = None
        if self.class_colors is not None:
            # A class that the masks lack has the run's colour.
            own: dict[int, Colour] = dict(enumerate(match.known.colors or ()))
            own |= dict(zip(match.numbers, self.class_colors, strict=True))
            if len(own) == len(match.known.names):
                colors = tuple(own[number] for number in range(len(own)))
        return replace(super().in_class_order(match), values=match.values, class_colors=colors)


class MaskReader(ABC):
    """A split whose masks can be read without their images."""

    @abstractmethod
    def mask(self, index: int) -> np.ndarray:
        """The mask of `SizedSplit.read` at ``index``: int32, (height, width).

        Raises:
            CorruptImage: it cannot be read.
        """


@dataclass(frozen=True)
class Classes:
    """Which values, or colours, of a mask are which classes.

    Attributes:
        values: of each class, in the order of class indices: a value, or several of them. Colours
            are packed, see `vitjax.data.mask_files.packed`.
        ignore: value or values of pixels that do not count, or None.
        others_ignored: whether pixels of all other values do not count either.
        colours: whether values are colours.
    """

    values: tuple[int | tuple[int, ...], ...]
    ignore: int | tuple[int, ...] | None = None
    others_ignored: bool = False
    colours: bool = False

    def __post_init__(self) -> None:
        codes = [code for group in self.groups for code in group]
        integers = [v for v in codes if isinstance(v, int) and not isinstance(v, bool)]
        distinct = len(set(integers)) == len(integers) == len(codes)
        if not distinct or len(self.values) < 2 or not all(self.groups):
            raise DataError(
                f"classes is {self.shown(self.values)}; it must list the values of a mask, two or"
                " more distinct integers, such as (0, 255), or colours, such as"
                ' {"road": (128, 64, 128), "car": (64, 0, 128)}'
            )
        greatest = (1 << 24) - 1 if self.colours else _GREATEST
        if strange := [v for v in codes if not 0 <= v <= greatest]:
            raise DataError(
                f"classes has the value {strange[0]}; a mask's are 0 to {_GREATEST}, those of PNG"
            )
        for code in self.ignored:
            if code in codes:
                raise DataError(
                    f"ignore is {self.shown(self.ignore)}, which classes has too:"
                    f" {self.shown(self.values)}"
                )

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """All values of each class."""
        return tuple(v if isinstance(v, tuple) else (v,) for v in self.values)

    @property
    def ignored(self) -> tuple[int, ...]:
        """The values that do not count."""
        if self.ignore is None:
            return ()
        return self.ignore if isinstance(self.ignore, tuple) else (self.ignore,)

    @property
    def representatives(self) -> tuple[int, ...]:
        """The first value of each class."""
        return tuple(group[0] for group in self.groups)

    def shown(self, value: Any) -> str:
        """A value, or several, as a person writes them."""
        if isinstance(value, tuple):
            inner = ", ".join(self.shown(each) for each in value)
            return f"({inner},)" if len(value) == 1 else f"({inner})"
        colour = self.colours and isinstance(value, int)
        return str(unpacked(value)) if colour else str(value)

    def indices(self, mask: np.ndarray, name: str) -> np.ndarray:
        """Class indices of ``mask``: int32 of its shape, `IGNORE` where its pixels do not count.

        Args:
            mask: integers, (height, width).
            name: what errors call it.

        Raises:
            DataError: it has a value that is not a class.
        """
        table = _table(self)
        inside = mask
        if mask.size and (mask.min() < 0 or mask.max() >= len(table)):
            # The last place of the table is of no class, and no value of a mask.
            inside = np.where((mask < 0) | (mask >= len(table)), len(table) - 1, mask)
        label = np.take(table, inside)
        for code in self.ignored:
            if not 0 <= code < len(table) - 1:
                label[mask == code] = IGNORE
        if label.size and label.min() == _STRANGE:
            strange = label == _STRANGE
            if not self.others_ignored:
                raise DataError(self._unknown(mask[strange], name))
            label = np.where(strange, np.int16(IGNORE), label)
        return label.astype(np.int32)

    def _unknown(self, strange: np.ndarray, name: str) -> str:
        found, counts = np.unique(strange, return_counts=True)
        worst = int(found[np.argmax(counts)])
        more = f" and {len(found) - 1} more such values" if len(found) > 1 else ""
        what = "colour" if self.colours else "value"
        classes = shortened([self.shown(value) for value in self.values], 20)
        ignored = shortened([self.shown(value) for value in self.ignored], 20) or "nothing"
        return (
            f"{name}: has the {what} {self.shown(worst)} in {counts.max()} pixels{more}, which is"
            f" not a class (classes: {classes}; ignored: {ignored}); add it to classes, or"
            f" ignore={self.shown(worst)} leaves its pixels out"
        )


@functools.lru_cache(maxsize=4)
def _table(classes: Classes) -> np.ndarray:
    """The class index of each value, int16; its last place belongs to no value."""
    greatest = max(code for group in classes.groups for code in group)
    table = np.full(max(greatest + 2, 257), _STRANGE, np.int16)
    for index, group in enumerate(classes.groups):
        table[list(group)] = index
    table[[code for code in classes.ignored if 0 <= code < len(table) - 1]] = IGNORE
    return table


def given_classes(
    classes: Meanings | None,
    names: Sequence[str] | None,
    ignore: Ignored | None,
) -> tuple[Classes | None, Sequence[str] | None]:
    """The classes that a config gives, and their names; None for what it does not give.

    A dictionary gives names to classes. A config sorts its dictionaries, so classes are in the
    order of ``names``, and without it in that of the alphabet.

    Raises:
        ConfigError: a class is neither a value nor a colour, or ``names`` are others than those of
            the dictionary.
        DataError: values are not distinct, or too large.
    """
    if classes is None:
        return None, names
    if isinstance(classes, Mapping):
        if names is not None and set(names) != set(classes):
            unknown = sorted(set(names) ^ set(classes))[0]
            raise ConfigError(
                f"class_names is {tuple(names)!r} and classes names {', '.join(sorted(classes))};"
                f" they must be the same ({unknown!r} is not{near_match(unknown, classes)})"
            )
        names = tuple(names) if names is not None else tuple(sorted(classes))
        meanings: list[Any] = [classes[name] for name in names]
    else:
        meanings = list(classes)
    read = [_meaning(each) for each in meanings]
    kinds = {kind for kind, _ in read}
    if len(kinds) > 1:
        raise ConfigError(
            "classes gives values for some classes and colours for others; a mask has one of"
            " the two (three numbers are a colour; several values are ((7,), (8,), (9,)))"
        )
    colours = kinds == {"colour"}
    groups = tuple(group[0] if len(group) == 1 else group for _, group in read)
    others = ignore == "others"
    left_out = None if others or ignore is None else _ignored(ignore, colours)
    return Classes(groups, left_out, others, colours), names


def _meaning(value: Any) -> tuple[str, tuple[int, ...]]:
    """Whether a class is of values or colours, and these as numbers."""
    if isinstance(value, int):
        return "value", (value,)
    items = list(value)
    if len(items) == 3 and all(isinstance(item, int) for item in items):
        return "colour", (packed(_colour(items)),)
    if items and all(isinstance(item, Sequence) and len(item) == 3 for item in items):
        return "colour", tuple(packed(_colour(item)) for item in items)
    if items and all(isinstance(item, Sequence) and len(item) == 1 for item in items):
        return "value", tuple(item[0] for item in items)
    raise ConfigError(
        f"classes has {value!r} for a class; it must be a value such as 7, a colour such as"
        " (128, 64, 128), several colours, or several values in brackets each: ((7,), (8,))"
    )


def _ignored(ignore: Any, colours: bool) -> int | tuple[int, ...]:
    items = list(ignore) if isinstance(ignore, Sequence) else [ignore]
    if not colours and all(isinstance(item, int) for item in items):
        return ignore if isinstance(ignore, int) else tuple(items)
    if colours and len(items) == 3 and all(isinstance(item, int) for item in items):
        items = [items]
    if colours and all(isinstance(item, Sequence) and len(item) == 3 for item in items):
        return tuple(packed(_colour(item)) for item in items)
    raise ConfigError(
        f"ignore is {ignore!r}; it must be {'a colour' if colours else 'a value'} as classes are,"
        ' or several of them, or "others" for all that are not classes'
    )


def ignored_values(ignore: Ignored | None) -> tuple[int, ...]:
    """The values of ``ignore``, where classes are not given.

    Raises:
        ConfigError: it is of colours, or "others".
    """
    if ignore is None:
        return ()
    if ignore == "others":
        raise ConfigError('ignore is "others", which needs classes to be listed')
    values = _ignored(ignore, colours=False)
    return values if isinstance(values, tuple) else (values,)


def _colour(items: Sequence[int]) -> Colour:
    if any(not isinstance(item, int) or not 0 <= item <= 255 for item in items):
        raise ConfigError(f"a colour is {tuple(items)!r}; it must be three integers, 0 to 255")
    return items[0], items[1], items[2]


def check_sizes(
    image: tuple[int, ...],
    mask: tuple[int, ...],
    image_name: str,
    mask_name: str,
    hint: str = "",
) -> None:
    """Checks that an image and its mask have the same (height, width).

    Raises:
        DataError: they differ; the message has both sizes, and ends in ``hint``.
    """
    if tuple(image) != tuple(mask):
        raise DataError(
            f"{image_name} is {image[0]}x{image[1]} (height x width) and its mask {mask_name} is"
            f" {mask[0]}x{mask[1]}; they must have the same size{hint}"
        )


def named(
    values: Sequence[object],
    names: Sequence[str] | None,
    where: str,
    run_classes: ClassList | None = None,
) -> tuple[str, ...]:
    """The names of classes: those given, or their values as text.

    Args:
        values: of the classes, as a person writes them.
        names: those given.
        where: what errors call the source.
        run_classes: the classes of the run that ``names`` were written for: if there are as many
            names, and another number of values, values have the names that they have in the run.

    Raises:
        DataError: the numbers of names and of classes differ.
    """
    if names is None:
        return tuple(map(str, values))
    if (
        run_classes is not None
        and len(values) != len(names)
        and set(names) == set(run_classes.names)
    ):
        known = dict(zip(map(str, run_classes.stored or ()), run_classes.names, strict=False))
        return tuple(known.get(str(value), str(value)) for value in values)
    if len(names) != len(values):
        raise DataError(
            f"{where}: class_names is {names!r}; there are {len(values)} classes, of the values"
            f" {', '.join(map(str, values))} (--config.data.class_names=None names them by these)"
        )
    return tuple(map(str, names))
