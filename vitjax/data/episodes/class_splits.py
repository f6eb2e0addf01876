"""Files that say which classes are for training, for validation and for testing.

A file is JSON: {"train": [names of classes], "val": [...], "test": [...]}, optionally with a text
under "about". Those in the folder `splits` are known by name. A split in a file is the same in
every run and on every machine, and does not depend on a seed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from vitjax.core.errors import ConfigError, UserError
from vitjax.core.json_files import open_file
from vitjax.core.paths import expanded
from vitjax.core.text import near_match
from vitjax.data.episodes.settings import WHERE
from vitjax.data.errors import DataError
from vitjax.data.sources.base import LabelledSplit, Source
from vitjax.data.sources.image_labels import ImageFiles
from vitjax.data.sources.real_files import inodes_of, same_files

STORED = Path(__file__).with_name("splits")
SPLITS = ("train", "val", "test")

_KEY = f"{WHERE}.class_split"

_log = logging.getLogger(__name__)


def stored() -> tuple[str, ...]:
    """The names of the stored class splits."""
    return tuple(sorted(file.stem for file in STORED.glob("*.json")))


def load(name: str) -> dict[str, list[str]]:
    """The names of the classes of each split.

    Args:
        name: of a stored class split, or the path of a JSON file.

    Raises:
        ConfigError: neither exists.
        DataError: the file is not a class split, or has a class twice.
    """
    path = Path(expanded(name)) if name not in stored() else STORED / f"{name}.json"
    if not path.exists():
        raise ConfigError(
            f"{_KEY} is {name!r}, which is neither a file nor a stored class split"
            f"{near_match(name, stored())} (stored: {', '.join(stored())})"
        )
    try:
        with open_file(path) as file:
            text = file.read()
        content = json.loads(text)
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    return checked(content, str(path))


def checked(content: Any, where: str) -> dict[str, list[str]]:
    """``content`` as the names of the classes of each split, in the order train, val, test.

    Args:
        content: of a file or of a config's key.
        where: its name, for errors.

    Raises:
        DataError: it is not a class split, or has a class twice.
    """
    form = 'a class split is {"train": [names of classes], "val": [...], "test": [...]}'
    if not isinstance(content, Mapping) or not content.get("train"):
        raise DataError(f"{where}: has no classes for 'train'; {form}")
    for key, names in content.items():
        if key not in (*SPLITS, "about"):
            raise DataError(f"{where}: {key!r} is not a split{near_match(key, SPLITS)} ({form})")
        if key != "about" and (
            not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names)
        ):
            raise DataError(f"{where}: {key!r} is not a list of names; {form}")
    splits = {split: list(content[split]) for split in SPLITS if content.get(split)}
    for split, names in splits.items():
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"{where}: {_some(twice)} occur twice in {split!r}")
    for one, other in combinations(splits, 2):
        shared = sorted(set(splits[one]) & set(splits[other]))
        if shared:
            raise DataError(
                f"{where}: {one!r} and {other!r} share {_some(shared)}; a class belongs to one"
                " split"
            )
    return splits


def resolve(
    split: str | Mapping[str, Sequence[str]],
    class_names: Sequence[str],
    present: Collection[int] | None = None,
) -> dict[str, list[int]]:
    """The classes of each split by their indices into ``class_names``.

    A split other than "train" is left out with a warning if the data has none of its classes: data
    sets are often shared without their test classes. Classes that no split names are left out too.

    Args:
        split: the name of a stored class split, the path of a file, or the content of one.
        class_names: of the data.
        present: indices of the classes that have images; None means all.

    Raises:
        ConfigError: no stored split or file has that name.
        DataError: it is not a class split, or the data lacks some of the classes of a split.
    """
    splits = load(split) if isinstance(split, str) else checked(split, _KEY)
    number = {
        name: index for index, name in enumerate(class_names) if present is None or index in present
    }
    found = {}
    for name, classes in splits.items():
        missing = [c for c in classes if c not in number]
        if missing and (len(missing) < len(classes) or name == "train"):
            raise DataError(
                f"{_KEY} = {split if isinstance(split, str) else '{...}'!r}: the data has"
                f" {len(classes) - len(missing)} of the {len(classes)} classes of split {name!r}"
                f" and lacks {_some(missing)}; the data has images of"
                f" {_some(list(number))}{near_match(missing[0], number)}"
            )
        if missing:
            _log.warning(
                "split %r is left out: the data has none of its %d classes", name, len(missing)
            )
        else:
            found[name] = [number[c] for c in classes]
    named = sum(map(len, found.values()))
    if named < len(number):
        _log.info("%d of %d classes belong to no split", len(number) - named, len(number))
    return found


def check_apart(splits: Mapping[str, Sequence[int]], source: Source[LabelledSplit]) -> None:
    """Checks that no image file is of classes of several splits, by its name or by links.

    Args:
        splits: the classes of each split, by the source's numbers.
        source: the images; those that are no files are not compared.

    Raises:
        DataError: one is; the message names both classes.
    """
    of_class = {c: split for split, classes in splits.items() for c in classes}
    paths, labels = [], []
    for part in source.splits.values():
        if isinstance(part, ImageFiles):
            chosen = np.flatnonzero(np.isin(part.labels, list(of_class))).tolist()
            paths += [part.name(index) for index in chosen]
            labels += part.labels[chosen].tolist()
    for group in same_files(paths.__getitem__, inodes_of(paths)):
        first = group[0]
        for other in group[1:]:
            one, another = of_class[labels[first]], of_class[labels[other]]
            if one != another:
                names = [source.class_names[labels[index]] for index in (first, other)]
                raise DataError(
                    f"{_KEY}: the class {names[0]!r} of {one!r} and the class {names[1]!r} of"
                    f" {another!r} have the same image ({paths[first]} = {paths[other]}): classes"
                    " would be evaluated that are trained on; name one of them in the class split"
                )


def _some(names: Sequence[str], most: int = 5) -> str:
    """The number of names, and the first of them."""
    first = ", ".join(map(repr, names[:most]))
    plural = "es" if len(names) > 1 else ""
    return f"{len(names)} class{plural} ({first}{', ...' if len(names) > most else ''})"
