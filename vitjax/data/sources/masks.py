"""A source over folders of images and of their masks."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vitjax.core.counting import Counting
from vitjax.core.machine import process_cores
from vitjax.core.regular_files import open_regular
from vitjax.core.text import shortened
from vitjax.core.validation import NonNegativeInt, PositiveInt
from vitjax.data.class_order import ClassList
from vitjax.data.errors import CorruptImage, DataError
from vitjax.data.identity import File, Identified, Identity, of_files
from vitjax.data.image_files import Measured, measure, read_image, turned_as
from vitjax.data.image_formats import MAX_PIXELS
from vitjax.data.mask_files import measure_mask, palette_of, read_mask, unpacked
from vitjax.data.sample import IGNORE, Sample
from vitjax.data.sources.base import Channels, HeldOut, Stored, hold_out, register
from vitjax.data.sources.folder_layout import check_folder
from vitjax.data.sources.image_labels import say_splits
from vitjax.data.sources.mask_classes import (
    Classes,
    Colour,
    Ignored,
    MaskReader,
    MaskSource,
    Meanings,
    check_sizes,
    given_classes,
    ignored_values,
    named,
)
from vitjax.data.sources.mask_discovery import discovered
from vitjax.data.sources.mask_layouts import Files, Layout, find
from vitjax.data.sources.real_files import groups_apart

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Page:
    """One image of one file, with its mask.

    Attributes:
        files: the image, its mask and the mask of pixels that count.
        page: of these files, from 0.
        size: (height, width) of all.
        paged: whether the files have several pages, so that names tell which.
        turn: the EXIF orientation by which masks are turned, besides their own.
        group: equal for the pages of files of one split that are the same file, by links.
    """

    files: Files
    page: int
    size: tuple[int, int]
    paged: bool
    turn: int = 1
    group: int = 0


@dataclass(frozen=True)
class MaskSplit(MaskReader, Stored, Identified):
    """A `SizedSplit` over image files and mask files.

    Attributes:
        pages: the examples.
        classes: what the values of masks are.
        channels: of the images, 3 or 1.
        floats: whether images are float32 in [0, 1], because some of them have 16 bits.
        max_pixels: the pixels of the largest image that is read.
    """

    pages: Sequence[Page]
    classes: Classes
    channels: int
    floats: bool
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.pages)

    def read(self, index: int) -> Sample:
        """The image and the mask at ``index``."""
        page = self.pages[index]
        image = read_image(
            page.files.image,
            self.channels,
            page.page,
            sixteen_bits=True,
            max_pixels=self.max_pixels,
        )
        if self.floats and image.dtype == np.uint8:
            image = image.astype(np.float32) / 255
        mask = self.mask(index)
        check_sizes(image.shape[:2], mask.shape, self.name(index), page.files.mask)
        return Sample(image, mask=mask)

    def mask(self, index: int) -> np.ndarray:
        """The mask at ``index``."""
        page = self.pages[index]
        mask = _read(page, page.files.mask, self.classes.colours, self.max_pixels)
        where = f"{page.files.mask}, page {page.page}" if page.paged else page.files.mask
        label = self.classes.indices(mask, where)
        if page.files.valid is not None:
            valid = _read(page, page.files.valid, False, self.max_pixels)
            check_sizes(mask.shape, valid.shape, page.files.mask, page.files.valid)
            label[valid == 0] = IGNORE
        return label

    def size(self, index: int) -> tuple[int, int]:
        """(height, width), as the file's head says."""
        return self.pages[index].size

    def name(self, index: int) -> str:
        """The image's file, and its page if it has several."""
        page = self.pages[index]
        return f"{page.files.image}, page {page.page}" if page.paged else page.files.image

    def stored_bytes(self, index: int) -> int:
        """The size of the image's file."""
        return os.stat(self.pages[index].files.image).st_size

    def stored(self, index: int, most: int | None = None) -> bytes:
        """The page, and the content of the image's file."""
        page = self.pages[index]
        with open_regular(page.files.image) as file:
            return page.page.to_bytes(8, "big") + file.read(-1 if most is None else most)

    def identity(self) -> Identity:
        """Names and sizes of the files of images and masks, and the pages."""
        return of_files(
            [
                File(path, f"{page.page} {page.turn}")
                for page in self.pages
                for path in page.files
                if path is not None
            ]
        )


@register("masks", target="mask")
def masks(
    path: str,
    channels: Channels = 1,
    images: str | None = None,
    masks: str | None = None,
    valid: str | None = None,
    lists: str | None = None,
    splits: Mapping[str, str | None] | None = None,
    classes: Meanings | None = None,
    class_names: Sequence[str] | None = None,
    ignore: Ignored | None = None,
    mask_orientation: Literal["own", "image"] = "own",
    val_fraction: HeldOut | None = None,
    val_count: NonNegativeInt | None = None,
    val_last: NonNegativeInt | None = None,
    test_fraction: HeldOut | None = None,
    split_seed: NonNegativeInt = 0,
    max_pixels: PositiveInt = MAX_PIXELS,
    run_classes: ClassList | None = None,
) -> MaskSource:
    """Image files, and files of their masks.

    Without patterns and lists, images are in a folder ``images``, and masks of the same stems in
    ``masks`` or ``labels``. Either ``path`` has folders of splits, ``train``, ``val`` and ``test``,
    also by their other usual names, with the two folders inside, or it has the two folders itself
    and is split here. A folder around them that holds nothing else is passed through. Without
    ``train``, the data serves to evaluate on.

    Images are of any kind that Pillow reads, and masks of a kind that loses nothing. Each page of a
    TIFF is an example, and page i of the mask belongs to page i of the image; if each folder has a
    single such file, their stems may differ. Files are ordered by name, numbers in it as numbers.

    Args:
        path: the folder.
        channels: 1 to read images as grey, 3 to read them as RGB.
        images: a pattern of the image files, below ``path``: ``"{split}/images/*.tif"``; see
            `vitjax.data.sources.mask_patterns.Pattern`.
        masks: a pattern of the mask of an image: ``"{split}/manual/{stem[:2]}_manual1.gif"``.
        valid: the same, of a mask whose pixels of value 0 do not count, such as those outside of a
            round field of view.
        lists: a pattern of text or CSV files, which list images, or images and masks: see
            `vitjax.data.sources.mask_lists.read_list`. With ``images``, lines name stems.
        splits: for each split, what ``{split}`` stands for; None leaves the split out. By default
            the names of files or folders at its place that name splits, and whose files exist.
        classes: what in a mask is which class. A list of values or colours, in the order of class
            indices; or for each name of a class a value, a colour (three numbers), several colours,
            or several values in brackets each. None takes all values that occur, sorted, and reads
            all masks for it.
        class_names: names of these; None takes those of ``classes``, or the values.
        ignore: values or colours of pixels that do not count, or "others" for all that are not
            classes.
        mask_orientation: "own" to turn a mask as its own EXIF orientation says; "image" for masks
            that were drawn on the image as it is stored: they are turned as the image is.
        val_fraction: fraction of all examples to hold out as ``val``, if it does not exist. None
            means 0.1, but at least one example, if the files are not divided into splits.
        val_count: the same, as a number of examples.
        val_last: the same, the last ones: for the slices of a stack, where neighbours are alike.
        test_fraction: fraction to hold out as ``test``; None means 0. With ``val_last``, the last
            ones before these.
        split_seed: selects the examples that are held out.
        max_pixels: the pixels of the largest image or mask that is read.
        run_classes: those of a run that ``class_names`` were written for; not a key of a config.

    Raises:
        ConfigError: a pattern cannot be used.
        DataError: there are no images, an image has no mask or a mask no image, two images have the
            same mask, an image and its mask differ in size or pages, a value is not a class or it
            is doubtful that the values that occur are classes, or the examples to hold out are too
            many.
    """
    layout = Layout.parse(images, masks, valid, lists, splits)
    given, class_names = given_classes(classes, class_names, ignore)
    left_out = ignored_values(ignore) if given is None else ()
    check_folder(path)
    found = find(path, layout)
    images_of = {split: [each.image for each in files] for split, files in found.files.items()}
    groups = groups_apart(images_of, path)
    measured = {
        split: _measured_pages(files, groups[split], mask_orientation, max_pixels)
        for split, files in found.files.items()
    }
    pages = {split: [page for page, _ in each] for split, each in measured.items()}
    floats = any(sixteen for each in measured.values() for _, sixteen in each)
    said = [*found.notes, say_splits(pages, found.where)]
    total = len(pages.get("train", ()))
    pages = _held_out(
        pages, found.divided, val_fraction, val_count, val_last, test_fraction, split_seed
    )
    said += [
        f"{split}: {len(held):,} of {total:,} examples are held out of train"
        for split, held in pages.items()
        if split not in found.files
    ]
    everything = [page for each in pages.values() for page in each]
    if given is None:
        values = discovered(
            len(everything),
            lambda i: _read(everything[i], everything[i].files.mask, False, max_pixels),
            lambda i: _read(everything[i], everything[i].files.mask, True, max_pixels),
            lambda i: everything[i].files.mask,
            left_out,
        )
        given = Classes(values, left_out or None)
    made = {
        name: MaskSplit(each, given, channels, floats, max_pixels) for name, each in pages.items()
    }
    shown = [given.shown(value) for value in given.values]
    names = named(shown, class_names, "masks", run_classes)
    return MaskSource(
        made,
        names,
        channels,
        None if given.colours else given.representatives,
        _colors(given, everything, max_pixels),
        notes=(*said, _said(given, names, found=classes is None)),
    )


def _said(classes: Classes, names: Sequence[str], found: bool) -> str:
    """The classes in words.

    Args:
        classes: their values, and those that do not count.
        names: their names.
        found: whether they are the values that masks have.
    """
    shown = [classes.shown(value) for value in classes.values]
    each = [
        name if name == value else f"{name} = {value}"
        for name, value in zip(names, shown, strict=True)
    ]
    what = "colours" if classes.colours else "values"
    ignored = [classes.shown(value) for value in classes.ignored]
    ignored += ["all others"] if classes.others_ignored else []
    return (
        f"{len(names)} classes, by the {what} of masks{', which were all read' if found else ''}:"
        f" {shortened(each, 10)}{'; ignored: ' if ignored else ''}{shortened(ignored, 10)}"
    )


def _read(page: Page, path: str, colours: bool, max_pixels: int) -> np.ndarray:
    """A mask of a page."""
    mask = read_mask(path, page.page, colours=colours, max_pixels=max_pixels)
    return turned_as(mask, page.turn)


def _colors(classes: Classes, pages: Sequence[Page], max_pixels: int) -> tuple[Colour, ...] | None:
    """The colours of classes: their own, or those of the palette of the first mask."""
    if classes.colours:
        return tuple(unpacked(value) for value in classes.representatives)
    try:
        palette = palette_of(pages[0].files.mask, max_pixels)
    except CorruptImage:  # the file is read, and the error reported, elsewhere
        return None
    colors = [palette.get(value) for value in classes.representatives]
    known = tuple(color for color in colors if color is not None)
    if known == tuple((value, value, value) for value in classes.representatives):
        return None  # the greys of the values, among which small ones all look black
    return known if len(set(known)) == len(colors) else None


def _measured_pages(
    files: Sequence[Files], groups: np.ndarray, mask_orientation: str, max_pixels: int
) -> list[tuple[Page, bool]]:
    """The examples in files, and which have 16 bits."""
    with ThreadPoolExecutor(process_cores()) as threads:
        measured = []
        counting = Counting("measuring images and masks", len(files))
        for heads in threads.map(lambda each: _measured(each, max_pixels), files):
            measured.append(heads)
            counting.add()
        counting.pause()
    pages: list[tuple[Page, bool]] = []
    undecided = []
    for each, group, (image, mask) in zip(files, groups.tolist(), measured, strict=True):
        if image.pages != mask.pages:
            raise DataError(
                f"{each.image} has {image.pages} pages and its mask {each.mask} has {mask.pages}"
            )
        only_image = image.orientation > 1 and mask.orientation == 1
        turn, size = 1, mask.size
        if mask_orientation == "image" and only_image:
            turn = image.orientation
            size = size[::-1] if turn >= 5 else size
        elif only_image and (image.orientation < 5 or size[0] == size[1]):
            undecided.append(each)
        check_sizes(image.size, size, each.image, each.mask, _exchanged(image, size))
        pages += [
            (Page(each, p, image.size, image.pages > 1, turn, group), image.sixteen_bits)
            for p in range(image.pages)
        ]
    if undecided:
        _log.warning(
            "%s is turned by its EXIF orientation and its mask %s says nothing of one (%d such"
            " pairs); if masks were drawn on images as they are stored, set"
            ' config.data.mask_orientation="image"',
            undecided[0].image,
            undecided[0].mask,
            len(undecided),
        )
    return pages


def _exchanged(image: Measured, mask: tuple[int, int]) -> str:
    """What to do if height and width of an image and its mask are exchanged."""
    if image.size != mask[::-1]:
        return ""
    if image.orientation >= 5:
        return (
            f"; the image is turned by its EXIF orientation ({image.orientation}) and the mask is"
            ' not: mask_orientation="image" turns the masks too'
        )
    return "; height and width are exchanged: one of the two was turned"


def _measured(files: Files, max_pixels: int) -> tuple[Measured, Measured]:
    """What the heads of an image and its mask say.

    One of the two may be corrupt: that is an error, or skipped, when it is read.

    Raises:
        CorruptImage: both are.
    """
    try:
        image = measure(files.image, max_pixels)
    except CorruptImage:
        mask = measure_mask(files.mask, max_pixels)
        return mask._replace(sixteen_bits=False), mask
    try:
        return image, measure_mask(files.mask, max_pixels)
    except CorruptImage:
        return image, image


def _held_out(
    pages: dict[str, list[Page]],
    divided: bool,
    val_fraction: float | None,
    val_count: int | None,
    val_last: int | None,
    test_fraction: float | None,
    seed: int,
) -> dict[str, list[Page]]:
    """Takes ``val`` and ``test`` out of ``train`` as they are asked for."""
    asked = {"val_fraction": val_fraction, "val_count": val_count, "val_last": val_last}
    given = {key: value for key, value in asked.items() if value is not None}
    if len(given) > 1:
        raise DataError(f"masks: {' and '.join(given)} both give the size of val; give one")
    if "train" not in pages:  # nothing to take them from
        return pages
    for split, keys in (("val", list(given)), ("test", ["test_fraction"] * bool(test_fraction))):
        if split in pages and keys:
            raise DataError(f"masks: there is a folder of the split {split}: leave out {keys[0]}")
    rest = pages["train"]
    total = len(rest)
    if "val_fraction" in given:
        val = round((val_fraction or 0) * total)
    elif given:
        val = int(next(iter(given.values())))
    else:
        val = 0 if divided or total < 2 else max(1, round(0.1 * total))
    test = round((test_fraction or 0) * total)
    if val + test >= total:
        raise DataError(
            f"masks: {val} examples of val and {test} of test leave none of {total} to train on"
        )
    held = {}
    for split, number in (("val", val), ("test", test)):
        if number:
            pairs = np.asarray([(page.group, page.page) for page in rest])
            _, same = np.unique(pairs, axis=0, return_inverse=True)
            if val_last is not None:
                last = np.isin(same, same[len(rest) - number :])
                kept, out = np.flatnonzero(~last), np.flatnonzero(last)
            else:
                kept, out = hold_out(np.zeros(len(rest), np.int32), number, seed, same)
            held[split] = [rest[i] for i in out]
            rest = [rest[i] for i in kept]
    ordered = {**pages, **held, "train": rest}
    return {split: ordered[split] for split in ("train", "val", "test") if split in ordered}
