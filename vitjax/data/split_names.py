"""The names that people give to splits: Train, training_set, valid, dev, test2017, ..."""

from __future__ import annotations

import re
from collections.abc import Iterable

SPLITS = ("train", "val", "test")

_WORDS = {
    "train": "train|training|trn",
    "val": "val|valid|validation|validate|validating|dev|devel|development",
    "test": "test|testing|tst|eval|evaluation",
}
_EVALUATION = re.compile("eval")  # the split that is left: val beside a test, else test
_KINDS = "set|data|dataset|folder|dir|split|image|img|photo|picture|pic|sample|example"
_PATTERNS = {
    split: re.compile(rf"\d{{0,2}}(?:{words})(?:(?:{_KINDS})s?)?\d{{0,4}}")
    for split, words in _WORDS.items()
}


def split_named(name: str) -> str | None:
    """The split that ``name`` stands for: "train", "val" or "test"; None if it names no split.

    Case, punctuation, a number before it, a number, year or percentage after it and words such as
    "set" or "images" do not matter: ``training_set``, ``Test-Images``, ``val2017``, ``train_70%``.
    Longer names, such as ``train_station``, are not splits.
    """
    plain = re.sub(r"[\W_]", "", name.lower())
    return next((s for s, pattern in _PATTERNS.items() if pattern.fullmatch(plain)), None)


def splits_among(names: Iterable[str]) -> dict[str, str]:
    """Those of ``names`` that name splits, each with its split, in the order of ``names``.

    Beside the names that `split_named` knows, these are names that differ from each other in the
    split alone, such as ``seg_train_v2`` and ``seg_test_v2``. ``eval`` is ``val`` where another
    name stands for ``test`` and none for ``val``; else it is ``test``.
    """
    names = list(names)
    found = {name: split for name in names if (split := split_named(name))}
    if not found:
        found = _with_one_affix(names)
    evaluations = [name for name in found if _EVALUATION.search(name.lower())]
    others = {split for name, split in found.items() if name not in evaluations}
    if "test" in others and "val" not in others:
        found |= dict.fromkeys(evaluations, "val")
    return found


def _with_one_affix(names: list[str]) -> dict[str, str]:
    """Names that share what stands before and after the word for their split."""
    groups: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        parts = re.split(r"[\W_]+", name.lower())
        for place, part in enumerate(parts) if len(parts) > 1 else ():
            split = split_named(part)
            if split is not None:
                rest = (str(place), *parts[:place], *parts[place + 1 :])
                groups.setdefault(rest, {})[name] = split
    for group in groups.values():
        if "train" in group.values() and len(set(group.values())) > 1:
            return group
    return {}
