"""Which files are the images and the masks of a folder: by names, by patterns, or by lists."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from vitjax.core.errors import ConfigError
from vitjax.core.file_tree import IMAGE_SUFFIXES, FileTree
from vitjax.core.text import natural_key, near_match, shortened
from vitjax.data.errors import DataError
from vitjax.data.image_files import measure
from vitjax.data.sources.folder_layout import split_folders
from vitjax.data.sources.mask_lists import Row, listed_file, read_list
from vitjax.data.sources.mask_patterns import Pattern, fields_of, one_file
from vitjax.data.split_names import SPLITS, split_named, usual_words

_MASK_FOLDERS = ("masks", "labels")


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
    """

    files: dict[str, list[Files]]
    divided: bool


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
        DataError: there are none, or an image has no mask, or a mask no image.
    """
    if layout.lists is not None:
        found = _by_lists(path, layout, layout.lists)
    elif layout.images is not None:
        found = _by_patterns(path, layout, layout.images)
    else:
        found = _by_names(path, layout)
    if "train" not in found.files:
        raise DataError(
            f"{path}: no images of the split train (found: {', '.join(found.files) or 'nothing'});"
            ' splits={"train": WORD} says what {split} is for it'
        )
    return found


def _by_patterns(path: str, layout: Layout, images: Pattern) -> Found:
    if not images.has("split"):
        paths = images.matches(path)
        if not paths:
            raise DataError(f"{path}: no file matches images={images.text!r}")
        ordered = sorted(paths, key=natural_key)
        return Found({"train": _with_masks(path, layout, ordered, "train")}, False)
    files = {}
    for split, word in _words(
        layout, f"{path}: no file matches images", images, lambda w: images.matches(path, split=w)
    ):
        paths = images.matches(path, split=word)
        files[split] = _with_masks(path, layout, sorted(paths, key=natural_key), word)
    return Found(files, True)


def _with_masks(path: str, layout: Layout, images: Sequence[str], split: str) -> list[Files]:
    """The files that belong to images; an image that is the mask of another is left out."""
    assert layout.masks is not None
    files: dict[str, Files | DataError] = {}
    for image in images:
        try:
            fields = fields_of(image, split)
            mask = one_file(layout.masks, path, fields, "masks", image)
            files[image] = Files(image, mask, _valid(path, layout, image, fields))
        except DataError as error:
            files[image] = error
    masks = {name for each in files.values() if isinstance(each, Files) for name in each[1:]}
    own = {image: each for image, each in files.items() if image not in masks}
    errors = [each for each in own.values() if isinstance(each, DataError)]
    if errors:
        more = f" ({len(errors) - 1} more like it)" if len(errors) > 1 else ""
        raise DataError(f"{errors[0]}{more}")
    return [each for each in own.values() if isinstance(each, Files)]


def _valid(path: str, layout: Layout, image: str, fields: Mapping[str, str]) -> str | None:
    if layout.valid is None:
        return None
    return one_file(layout.valid, path, fields, "valid", image)


def _words(
    layout: Layout, problem: str, pattern: Pattern, exists: Callable[[str], Any]
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
        order = {split: place for place, split in enumerate(SPLITS)}
        return sorted(given, key=lambda pair: order.get(pair[0], len(order)))
    found = []
    for split in SPLITS:
        there = [word for word in usual_words(split) if exists(word)]
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
            layout, f"{path}: no file lists", lists, lambda word: os.path.isfile(place(word))
        )
        if not words:
            raise DataError(f"{path}: no file lists={lists.text!r}, with {{split}} as train")
        files = {
            split: [_of_row(path, layout, row, place(word), word) for row in read_list(place(word))]
            for split, word in words
        }
        return Found(files, True)
    rows = read_list(place())
    named = [(_split_of(row), row) for row in rows]
    files = {}
    for split in (*SPLITS, *dict.fromkeys(split for split, _ in named)):
        of_split = [row for name, row in named if name == split]
        if of_split:
            files[split] = [_of_row(path, layout, row, place(), split) for row in of_split]
    return Found(files, any(row.split for row in rows))


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
    if row.valid is not None:
        return Files(image, mask, listed_file(row.valid, list_path, path, row.where))
    return Files(image, mask, _valid(path, layout, image, fields))


def _by_names(path: str, layout: Layout) -> Found:
    """Images in ``images`` and masks of the same stems in ``masks`` or ``labels``."""
    roots = _split_roots(path)
    files = {}
    for split, root in roots.items():
        pairs = _pairs(root)
        files[split] = [
            Files(image, mask, _valid(path, layout, image, fields_of(image, split)))
            for image, mask in pairs
        ]
    return Found(files, path not in roots.values())


def _split_roots(path: str) -> dict[str, str]:
    """The folder of each split; ``{"train": path}`` where ``path`` is not split."""
    if os.path.isdir(os.path.join(path, "images")):
        return {"train": path}
    roots = split_folders(path)
    if "train" not in roots:
        inside = sorted(entry.name for entry in os.scandir(path))
        raise DataError(
            f"{path} has neither a folder 'images'{near_match('images', inside)} nor a folder"
            f" 'train' with one inside (it has: {shortened(inside, 10) or 'nothing'}); files under"
            ' other names are found by patterns, as images="photos/*.jpg",'
            ' masks="truth/{stem}.png"'
        )
    return roots


def _files(folder: str) -> dict[str, str]:
    """Stem, relative to ``folder``, to image file, in natural order."""
    found: dict[str, str] = {}
    for file in FileTree(IMAGE_SUFFIXES).files_below(folder):
        stem = os.path.splitext(file)[0]
        if stem in found:
            raise DataError(
                f"{found[stem]} and {os.path.join(folder, file)} have the same stem; which one is"
                " it?"
            )
        found[stem] = os.path.join(folder, file)
    return {stem: found[stem] for stem in sorted(found, key=natural_key)}


def _pairs(root: str) -> list[tuple[str, str]]:
    """Images and masks in one folder that holds a folder of each."""
    image_folder = os.path.join(root, "images")
    mask_folders = [os.path.join(root, name) for name in _MASK_FOLDERS]
    there = [folder for folder in mask_folders if os.path.isdir(folder)]
    if not os.path.isdir(image_folder) or len(there) != 1:
        missing = "two" if len(there) == 2 else "no"
        raise DataError(
            f"{root} has no folder 'images'"
            if not os.path.isdir(image_folder)
            else f"{root} has {missing} folder{'s' * (len(there) == 2)} of masks: it is called"
            " 'masks' or 'labels', or masks gives a pattern of their files"
        )
    images, masks = _files(image_folder), _files(there[0])
    for folder, files in ((image_folder, images), (there[0], masks)):
        if not files:
            raise DataError(f"{folder} has no files ({', '.join(IMAGE_SUFFIXES)})")
    _check_partners(images, masks, there[0], image_folder)
    return [
        (image, masks[stem] if stem in masks else next(iter(masks.values())))
        for stem, image in images.items()
    ]


def _check_partners(
    images: Mapping[str, str], masks: Mapping[str, str], mask_folder: str, image_folder: str
) -> None:
    """Raises DataError if an image has no mask, or a mask no image."""
    if len(images) == len(masks) == 1 and measure(next(iter(images.values()))).pages > 1:
        return  # train-volume.tif and train-labels.tif
    for ours, theirs, folder, what in (
        (images, masks, mask_folder, "image has no mask"),
        (masks, images, image_folder, "mask has no image"),
    ):
        alone = [stem for stem in ours if stem not in theirs]
        if alone:
            more = f" ({len(alone) - 1} more like it)" if len(alone) > 1 else ""
            raise DataError(
                f"{ours[alone[0]]}: this {what}: no {os.path.join(folder, alone[0])}.*"
                f"{near_match(alone[0], theirs)}{more}{_rule(images, masks, mask_folder)}"
            )


def _rule(images: Mapping[str, str], masks: Mapping[str, str], mask_folder: str) -> str:
    """A suggestion of patterns, where each mask's name is the image's with a text around it."""
    stem, path = next(iter(images.items()))
    for mask in masks:
        if stem not in mask or mask == stem:
            continue
        before, after = mask.split(stem, 1)
        if {f"{before}{each}{after}" for each in images} == set(masks):
            folder = os.path.basename(mask_folder)
            suffix = os.path.splitext(path)[1]
            return (
                f'; with images="images/*{suffix}" and masks="{folder}/{before}{{stem}}{after}.*"'
                " they go together"
            )
    return ""
