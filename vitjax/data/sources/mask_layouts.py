"""Which files are the images and the masks of a folder: by names, by patterns, or by lists."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from vitjax.core.errors import ConfigError
from vitjax.core.file_tree import IMAGE_SUFFIXES
from vitjax.core.text import natural_key, near_match, shortened
from vitjax.data.errors import DataError
from vitjax.data.sources.mask_folders import find_folders, pairs
from vitjax.data.sources.mask_lists import Row, listed_file, read_list
from vitjax.data.sources.mask_patterns import Pattern, fields_of, one_file
from vitjax.data.split_names import SPLITS, split_named, splits_among


class Files(NamedTuple):
    """The files of one example.

    Attributes:
        image: the image, or a stack of images.
        mask: its mask.
        valid: the mask of its pixels that count, or None.
    """

    image: str
    mask: str
    valid: str | None


class Found(NamedTuple):
    """The examples of a folder.

    Attributes:
        files: those of each split.
        divided: whether the folder or the lists say which split each belongs to.
        where: for each split, the folder, pattern or list that its images are found by.
        notes: what there is to say of it, in words.
    """

    files: dict[str, list[Files]]
    divided: bool
    where: dict[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """Where files are, as the keys of a config say; see `vitjax.data.sources.masks.masks`."""

    images: Pattern | None
    masks: Pattern | None
    valid: Pattern | None
    lists: Pattern | None
    splits: Mapping[str, str | None] | None

    @classmethod
    def parse(
        cls,
        images: str | None,
        masks: str | None,
        valid: str | None,
        lists: str | None,
        splits: Mapping[str, str | None] | None,
    ) -> Layout:
        """The layout of the values of keys.

        Raises:
            ConfigError: a pattern cannot be used, or keys do not go together.
        """

        def pattern(text: str | None, key: str, *allowed: str) -> Pattern | None:
            return Pattern.parse(text, key, allowed) if text is not None else None

        of_image = ("stem", "parent", "split")
        layout = cls(
            pattern(images, "images", *(of_image if lists else ("split",))),
            pattern(masks, "masks", *of_image),
            pattern(valid, "valid", *of_image),
            pattern(lists, "lists", "split"),
            splits,
        )
        layout._check()
        return layout

    def _check(self) -> None:
        if self.lists is None and (self.images is None) != (self.masks is None):
            given, missing = ("masks", "images") if self.images is None else ("images", "masks")
            raise ConfigError(
                f"{given} is given and {missing} is not; patterns need both, such as"
                ' images="images/*.tif", masks="masks/{stem}_mask.gif"'
            )
        if self.lists is not None and self.images is not None and not self.images.has("stem"):
            raise ConfigError(
                f"images is {self.images.text!r}; with lists it must have {{stem}}, which stands"
                " for what a line names, or be left out if lines are paths"
            )
        first = self.lists or self.images
        if self.splits is not None and (first is None or not first.has("split")):
            key = "images" if self.lists is None else "lists"
            raise ConfigError(f"splits says what {{split}} is, and {key} has no {{split}}")


def find(path: str, layout: Layout) -> Found:
    """The examples in the folder ``path``.

    Raises:
        DataError: there are none, an image has no mask or that of another image, or, where files
            are not found by patterns, a mask has no image.
    """
    if layout.lists is not None:
        found = _by_lists(path, layout, layout.lists)
    elif layout.images is not None:
        found = _by_patterns(path, layout, layout.images)
    else:
        found = _by_names(path, layout)
    if not any(found.files.values()):
        raise DataError(
            f"{path}: no images of the split train (found: {', '.join(found.files) or 'nothing'});"
            ' splits={"train": WORD} says what {split} is for it'
        )
    _check_own_masks(found)
    return found


def _check_own_masks(found: Found) -> None:
    """Raises DataError if two images have the same mask."""
    image_of: dict[str, str] = {}
    for files in found.files.values():
        for each in files:
            other = image_of.setdefault(each.mask, each.image)
            if other != each.image:
                raise DataError(
                    f"{other} and {each.image} have the same mask {each.mask}; each image has one"
                    " of its own. If a pattern gives it (config.data.masks), put as much of"
                    " {stem}, {parent} or {split} in it as tells masks apart"
                )


def _by_patterns(path: str, layout: Layout, images: Pattern) -> Found:
    if not images.has("split"):
        paths = images.matches(path)
        if not paths:
            raise DataError(f"{path}: no file matches images={images.text!r}")
        words = [("train", "train")]
    else:
        words = _words(
            layout, f"{path}: no file matches images", path, images,
            lambda word: images.matches(path, split=word),
        )  # fmt: skip
    assert layout.masks is not None
    files = {}
    for split, word in words:
        paths = sorted(images.matches(path, split=word), key=natural_key)
        try:
            files[split] = _with_masks(path, layout, paths, word)
        except _NoMasks as error:
            raise DataError(f"{error}{_without(layout, words, split)}") from error
    where = {
        split: os.path.join(path, images.text.replace("{split}", word)) for split, word in words
    }
    unused = _unused(path, layout.masks, {word: files[split] for split, word in words})
    return Found(files, images.has("split"), where, unused)


class _NoMasks(DataError):
    """None of the images of a split has a mask."""


def _with_masks(path: str, layout: Layout, images: Sequence[str], split: str) -> list[Files]:
    """The files that belong to images; an image that is the mask of another is left out."""
    assert layout.masks is not None
    files: dict[str, Files | DataError] = {}
    for image in images:
        try:
            fields = fields_of(image, split)
            mask = one_file(layout.masks, path, fields, "masks", image)
            _check_not_itself(image, mask, f"masks={layout.masks.text!r}")
            files[image] = Files(image, mask, _valid(path, layout, image, fields))
        except DataError as error:
            files[image] = error
    masks = {name for each in files.values() if isinstance(each, Files) for name in each[1:]}
    own = {image: each for image, each in files.items() if image not in masks}
    errors = [each for each in own.values() if isinstance(each, DataError)]
    if errors:
        more = f" ({len(errors) - 1} more like it)" if len(errors) > 1 else ""
        kind = _NoMasks if len(errors) == len(own) else DataError
        raise kind(f"{errors[0]}{more}")
    return [each for each in own.values() if isinstance(each, Files)]


def _without(layout: Layout, words: Sequence[tuple[str, str]], split: str) -> str:
    """What leaves out a split of which no image has a mask."""
    assert layout.masks is not None
    if not layout.masks.has("split") or len(words) < 2:
        return ""
    if layout.splits is not None:
        how = f"--config.data.splits.{split}=None"
    else:
        how = f"config.data.splits = { ({name: word for name, word in words if name != split}) }"
    return f"; none of the split {split!r} has one: {how} leaves the split out"


def _unused(path: str, masks: Pattern, files: Mapping[str, Sequence[Files]]) -> tuple[str, ...]:
    """A note on the files that match the pattern of masks and belong to no image.

    Args:
        path: the folder.
        masks: the pattern.
        files: those of each split, by the word that ``{split}`` stands for.
    """
    used = {name for held in files.values() for each in held for name in each}
    there = dict.fromkeys(name for word in files for name in masks.matches(path, split=word))
    rest = [name for name in there if name not in used]
    if not rest:
        return ()
    return (
        f"{len(rest):,} files match masks={masks.text!r} and belong to no image"
        f" ({shortened(rest, 3)})",
    )


def _check_not_itself(image: str, mask: str, where: str) -> None:
    if os.path.samefile(image, mask):
        raise DataError(f"{image}: is its own mask by {where}")


def _valid(path: str, layout: Layout, image: str, fields: Mapping[str, str]) -> str | None:
    if layout.valid is None:
        return None
    return one_file(layout.valid, path, fields, "valid", image)


def _words(
    layout: Layout, problem: str, path: str, pattern: Pattern, exists: Callable[[str], Any]
) -> list[tuple[str, str]]:
    """For each split, the word that ``{split}`` stands for; those for which something exists."""
    if layout.splits is not None:
        given = [(split, word) for split, word in layout.splits.items() if word is not None]
        for split, word in given:
            if not exists(word):
                raise DataError(
                    f"{problem}={pattern.text!r} for the split {split} ({{split}} is {word!r});"
                    f" splits={{{split!r}: None}} leaves it out"
                )
            if (other := next(s for s, w in given if w == word)) != split:
                raise DataError(
                    f"config.data.splits: {{split}} is {word!r} for {other!r} and for {split!r}:"
                    " they would have the same images"
                )
        order = {split: place for place, split in enumerate(SPLITS)}
        return sorted(given, key=lambda pair: order.get(pair[0], len(order)))
    named = splits_among(pattern.words(path, "split"))
    found = []
    for split in SPLITS:
        there = [word for word, each in named.items() if each == split and exists(word)]
        if len(there) > 1:
            raise DataError(
                f"{pattern.text}: {' and '.join(there)} both exist; which one is the split {split}?"
                f' (splits={{"{split}": "{there[0]}", ...}} says it)'
            )
        found += [(split, there[0])] if there else []
    return found


def _by_lists(path: str, layout: Layout, lists: Pattern) -> Found:
    def place(word: str = "") -> str:
        return os.path.normpath(os.path.join(path, lists.fill(split=word)))

    if lists.has("split"):
        words = _words(
            layout, f"{path}: no file lists", path, lists, lambda word: os.path.isfile(place(word))
        )
        if not words:
            raise DataError(f"{path}: no file lists={lists.text!r}, with {{split}} as train")
        files = {
            split: [_of_row(path, layout, row, place(word), word) for row in read_list(place(word))]
            for split, word in words
        }
        return Found(files, True, {split: place(word) for split, word in words})
    rows = read_list(place())
    named = [(_split_of(row), row) for row in rows]
    files = {}
    for split in (*SPLITS, *dict.fromkeys(split for split, _ in named)):
        of_split = [row for name, row in named if name == split]
        if of_split:
            files[split] = [_of_row(path, layout, row, place(), split) for row in of_split]
    return Found(files, any(row.split for row in rows), dict.fromkeys(files, place()))


def _split_of(row: Row) -> str:
    if row.split is None:
        return "train"
    split = split_named(row.split)
    if split is None:
        raise DataError(
            f"{row.where}: {row.split!r} is not a split{near_match(row.split, SPLITS)} (splits are"
            f" {', '.join(SPLITS)})"
        )
    return split


def _of_row(path: str, layout: Layout, row: Row, list_path: str, split: str) -> Files:
    """The files that a row of a list names."""
    if layout.images is None:
        image = listed_file(row.image, list_path, path, row.where)
        fields = fields_of(image, split)
    else:
        stem, suffix = os.path.splitext(row.image)
        stem = stem if suffix.lower() in IMAGE_SUFFIXES else row.image
        fields = {**fields_of(stem, split, stem)}
        image = one_file(layout.images, path, fields, "images", row.where)
    if row.mask is not None:
        mask = listed_file(row.mask, list_path, path, row.where)
    elif layout.masks is not None:
        mask = one_file(layout.masks, path, fields, "masks", image)
    else:
        raise DataError(
            f"{row.where}: names no mask; list one beside each image, or give masks, such as"
            ' masks="masks/{stem}.png"'
        )
    _check_not_itself(image, mask, row.where)
    if row.valid is not None:
        return Files(image, mask, listed_file(row.valid, list_path, path, row.where))
    return Files(image, mask, _valid(path, layout, image, fields))


def _by_names(path: str, layout: Layout) -> Found:
    """Images in ``images`` and masks of the same stems in ``masks`` or ``labels``."""
    root, folders = find_folders(path)
    files = {
        split: [
            Files(image, mask, _valid(root, layout, image, fields_of(image, split)))
            for image, mask in pairs(folder)
        ]
        for split, folder in folders.items()
    }
    where = {split: os.path.join(folder, "images") for split, folder in folders.items()}
    notes = (f"{path} holds one folder of data: {root} is read",) if root != path else ()
    return Found(files, root not in folders.values(), where, notes)
