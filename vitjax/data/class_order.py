"""The classes of a run, and the classes of other data matched to them by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match, shortened
from vitjax.data.sample import IGNORE, Sample

_LISTED = 10

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class ClassList:
    """Classes in the order of their numbers.

    Attributes:
        names: the name of each class.
        values: for masks, the value of each class in the mask files; otherwise None.
        colors: for masks whose classes are colours, the colour of each; otherwise None. They have
            no ``values``.
    """

    names: tuple[str, ...]
    values: tuple[int, ...] | None = None
    colors: tuple[Colour, ...] | None = None

    @classmethod
    def described(cls, description: Mapping[str, Any] | None) -> ClassList | None:
        """The classes in the result of `vitjax.data.Dataset.describe`; None if it has none."""
        if not description or description.get("class_names") is None:
            return None
        names, values = tuple(description["class_names"]), description.get("class_values")
        if values is not None:
            return cls(names, tuple(values))
        colors = description.get("class_colors")
        return cls(names, colors=colors and tuple((r, g, b) for r, g, b in colors))

    @property
    def numbered(self) -> bool:
        """Whether all names are numbers, as those of data that stores no names."""
        return all(name.isdecimal() for name in self.names)

    @property
    def unnamed(self) -> bool:
        """Whether these are classes of masks that are named by their values or colours."""
        return self.names == tuple(map(str, self.stored or ()))

    @property
    def stored(self) -> tuple[int, ...] | tuple[Colour, ...] | None:
        """What stands for each class in mask files: ``values`` or ``colors``."""
        return self.colors if self.values is None else self.values

    def comparable(self, other: ClassList) -> bool:
        """Whether both are classes of masks, by values or both by colours."""
        return bool((self.values and other.values) or (self.colors and other.colors))

    def text(self, *, stored: bool = False) -> str:
        """The number of classes and their names.

        Args:
            stored: with what stands for them in mask files.
        """
        count = len(self.names)
        names = _listed(self.names)
        if stored and self.stored is not None:
            pairs = zip(self.names, self.stored, strict=True)
            names = shortened([f"{name!r} is {value}" for name, value in pairs], _LISTED)
        return f"{count} class{'' if count == 1 else 'es'} ({names})"


@dataclass(frozen=True)
class Match:
    """The classes of data, matched to those of a run.

    Attributes:
        known: the classes of the run.
        own: the classes of the data, in its own order.
        numbers: for each class of the data, its number in the run.
        by_value: whether classes of masks were matched by their values or colours, not by name.
    """

    known: ClassList
    own: ClassList
    numbers: tuple[int, ...]
    by_value: bool = False

    @property
    def same(self) -> bool:
        """Whether each class has the same number in both."""
        return self.numbers == tuple(range(len(self.known.names)))

    @property
    def missing(self) -> tuple[str, ...]:
        """The classes of the run that the data lacks."""
        return tuple(n for i, n in enumerate(self.known.names) if i not in self.numbers)

    @property
    def names(self) -> tuple[str, ...]:
        """The run's names of the classes that the data has, in the run's order."""
        return tuple(self.known.names[number] for number in sorted(self.numbers))

    @property
    def values(self) -> tuple[int, ...] | None:
        """For masks, the value of each class of the run in the masks of the data.

        A class that the data lacks has the run's value, or a value that no other class has.
        """
        if self.own.values is None:
            return None
        values = dict(zip(self.numbers, self.own.values, strict=True))
        for number in range(len(self.known.names)):
            if number not in values:
                wanted = number if self.known.values is None else self.known.values[number]
                taken = {*values.values()}
                values[number] = next(v for v in (wanted, *range(len(taken) + 1)) if v not in taken)
        return tuple(values[number] for number in range(len(self.known.names)))

    @property
    def changed(self) -> tuple[tuple[int, int], ...]:
        """The classes of masks that other values stand for in the run: their numbers in both."""
        if not self.known.comparable(self.own):
            return ()
        assert self.known.stored is not None
        assert self.own.stored is not None
        return tuple(
            (there, here)
            for here, there in enumerate(self.numbers)
            if self.known.stored[there] != self.own.stored[here]
        )

    def text(self) -> str:
        """What was matched, in sentences; empty if names, numbers and values are the same."""
        sentences = []
        way = "they are matched by name"
        if self.by_value:
            pairs = [
                f"{own!r} is the run's {self.known.names[number]!r}"
                for own, number in zip(self.own.names, self.numbers, strict=True)
                if own != self.known.names[number]
            ]
            stored = "values" if self.own.values is not None else "colours"
            way = f"they are matched by the {stored} of masks ({shortened(pairs, _LISTED)})"
        if self.missing:
            sentences.append(
                f"The data has {len(self.numbers)} of the run's {len(self.known.names)} classes"
                f" ({_listed(self.names)}); {way}"
            )
        elif not self.same:
            sentences.append(f"The data has the run's classes in another order; {way}")
        elif self.by_value:
            sentences.append(f"The data has the run's classes under other names; {way}")
        if self.changed:
            assert self.known.stored is not None
            assert self.own.stored is not None
            others = [
                f"class {self.known.names[there]!r} is {self.known.stored[there]} in the run's"
                f" masks, {self.own.stored[here]} here"
                for there, here in self.changed
            ]
            sentences.append(f"Values of masks differ: {shortened(others, _LISTED)}")
        return ". ".join(sentences)


def match(known: ClassList, own: ClassList, *, complete: bool = False) -> Match:
    """The number in a run of each class of data, by name.

    Classes of masks that are named by their values or colours, in the run or in the data, are
    matched by these where the names do not match.

    Args:
        known: the classes of the run.
        own: the classes of the data.
        complete: whether all classes of the run must be there, as to resume it.

    Raises:
        ConfigError: the data has a class that the run does not have, or lacks one with
            ``complete``; or classes of the same names have exchanged their values in masks. The
            message lists both sides.
    """
    if own.names == known.names:
        return _unexchanged(Match(known, own, tuple(range(len(known.names)))))
    twice = [n for n in own.names if own.names.count(n) + known.names.count(n) > 2]
    if twice:
        raise ConfigError(
            f"config.data: the class name {twice[0]!r} occurs twice, so classes cannot be matched"
            f" by name; the run has {known.text()}, the data {own.text()}"
        )
    unknown = [name for name in own.names if name not in known.names]
    here: Sequence[Any] = own.names
    there: Sequence[Any] = known.names
    by_value = bool(unknown) and (own.unnamed or known.unnamed) and own.comparable(known)
    if by_value and set(own.stored or ()) <= set(known.stored or ()):
        unknown, here, there = [], own.stored or (), known.stored or ()
    missing = [name for name in there if name not in here]
    if unknown or (complete and missing):
        raise ConfigError(_refusal(known, own, unknown, missing, complete))
    return _unexchanged(Match(known, own, tuple(there.index(each) for each in here), by_value))


def _unexchanged(match: Match) -> Match:
    """``match``, unless each value that changed now stands for another class of the run."""
    stored, values = match.own.stored or (), match.known.stored or ()
    if match.changed and all(stored[here] in values for _, here in match.changed):
        raise ConfigError(
            "config.data: classes of the same names have other values in masks: the run has"
            f" {match.known.text(stored=True)} and the data has {match.own.text(stored=True)}."
            " One of the two lists is in a wrong order, as it seems: config.data.classes and"
            " config.data.class_names give values and names in the same order"
        )
    return match


def _refusal(
    known: ClassList,
    own: ClassList,
    unknown: Sequence[str],
    missing: Sequence[Any],
    complete: bool,
) -> str:
    parts = []
    if unknown:
        parts.append(
            f"the run does not have {_listed(unknown)}{near_match(unknown[0], known.names)}"
        )
    if missing:
        parts.append(f"the data does not have {_listed(list(map(str, missing)))}")
    ways = []
    if unknown and own.stored is not None:
        ways.append("For masks, config.data.class_names gives the classes the names of the run")
    elif unknown and own.numbered and not known.numbered:
        ways.append(
            "Data without names has numbers as names: an array class_names in an .npz file names"
            " them"
        )
    if complete:
        ways.append(
            "Nothing was overwritten: resume with the original data, or choose another --workdir;"
            " config.init.from_checkpoint starts a new run from this one's weights"
        )
    else:
        ways.append("Rename the classes, or leave those out that the run does not have")
    return (
        f"config.data: the run has {known.text()} and the data has {own.text()}; classes are"
        f" matched by name, and {' and '.join(parts)}. {'. '.join(ways)}"
    )


def _listed(names: Sequence[str]) -> str:
    return shortened([repr(name) for name in names], _LISTED)


@dataclass(frozen=True)
class RenumberedSplit:
    """A split whose classes have other numbers; it is labelled or sized where the split is.

    Attributes:
        split: the split.
        numbers: for each of its class numbers the new one.
    """

    split: Any
    numbers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.split)

    @property
    def labels(self) -> np.ndarray:
        """The new number of the class of each sample, int32."""
        labels: np.ndarray = np.asarray(self.numbers, np.int32)[self.split.labels]
        return labels

    def read(self, index: int) -> Sample:
        """The sample at ``index``, with the new numbers in its label, mask and boxes."""
        sample: Sample = self.split.read(index)
        # The last entry is the one at IGNORE, -1.
        table = np.asarray([*self.numbers, IGNORE], np.int32)
        fields: dict[str, Any] = {}
        if sample.label is not None:
            fields["label"] = int(table[int(sample.label)])
        if sample.mask is not None:
            fields["mask"] = table[sample.mask]
        if sample.box_labels is not None:
            fields["box_labels"] = table[sample.box_labels]
        return sample.replace(**fields)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the sample at ``index``."""
        size: tuple[int, int] = self.split.size(index)
        return size

    def name(self, index: int) -> str:
        """The name of the sample at ``index``."""
        name: str = self.split.name(index)
        return name
