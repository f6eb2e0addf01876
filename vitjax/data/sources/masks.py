"""A source over folders of images and of their masks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vitjax.core.text import natural_key, near_match
from vitjax.core.validation import NonNegativeInt
from vitjax.data.errors import CorruptImage, DataError
from vitjax.data.file_listing import FileTree, check_folder
from vitjax.data.image_files import IMAGE_SUFFIXES, measure, read_image
from vitjax.data.mask_files import read_mask
from vitjax.data.sample import Sample
from vitjax.data.sources.base import Channels, HeldOut, Stored, hold_out, register
from vitjax.data.sources.folder_layout import split_folders
from vitjax.data.sources.mask_classes import Classes, MaskSource, check_pair, check_sizes, named

MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
_MASK_FOLDERS = ("masks", "labels")
_MOST_CLASSES = 256  # with more distinct values, a mask does not hold classes


@dataclass(frozen=True)
class Page:
    """One image of one file, with its mask.

    Attributes:
        image: the file.
        mask: the file of its mask.
        page: of both files, from 0.
        size: (height, width) of both.
        paged: whether the files have several pages, so that names tell which.
    """

    image: str
    mask: str
    page: int
    size: tuple[int, int]
    paged: bool


@dataclass(frozen=True)
class MaskSplit(Stored):
    """A `SizedSplit` over image files and mask files.

    Attributes:
        pages: the examples.
        classes: what the values of masks are.
        channels: of the images, 3 or 1.
        floats: whether images are float32 in [0, 1], because some of them have 16 bits.
    """

    pages: Sequence[Page]
    classes: Classes
    channels: int
    floats: bool

    def __len__(self) -> int:
        return len(self.pages)

    def read(self, index: int) -> Sample:
        """The image and the mask at ``index``."""
        page = self.pages[index]
        image = read_image(page.image, self.channels, page.page, sixteen_bits=True)
        if self.floats and image.dtype == np.uint8:
            image = image.astype(np.float32) / 255
        mask = read_mask(page.mask, page.page)
        check_pair(image, mask, self.name(index), page.mask)
        where = f"{page.mask}, page {page.page}" if page.paged else page.mask
        return Sample(image, mask=self.classes.indices(mask, where))

    def size(self, index: int) -> tuple[int, int]:
        """(height, width), as the file's head says."""
        return self.pages[index].size

    def name(self, index: int) -> str:
        """The image's file, and its page if it has several."""
        page = self.pages[index]
        return f"{page.image}, page {page.page}" if page.paged else page.image

    def stored_bytes(self, index: int) -> int:
        """The size of the image's file."""
        return os.stat(self.pages[index].image).st_size

    def stored(self, index: int, most: int | None = None) -> bytes:
        """The page, and the content of the image's file."""
        page = self.pages[index]
        with open(page.image, "rb") as file:
            return page.page.to_bytes(8, "big") + file.read(most)


@register("masks", target="mask")
def masks(
    path: str,
    channels: Channels = 1,
    classes: Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
    ignore: int | None = None,
    val_fraction: HeldOut | None = None,
    val_count: NonNegativeInt | None = None,
    val_last: NonNegativeInt | None = None,
    test_fraction: HeldOut | None = None,
    split_seed: NonNegativeInt = 0,
) -> MaskSource:
    """Images in a folder ``images``, and masks of the same stems in ``masks`` or ``labels``.

    Either ``path`` has folders ``train`` and optionally ``val`` (or ``validation``, ``valid``) and
    ``test`` with the two folders inside, or it has the two folders itself and is split here. Images
    are PNG, TIFF, JPEG, WebP or BMP; masks are of a lossless kind: grey values, palette indices or
    integers of 16 bits. Each page of a TIFF is an example, and page i of the mask belongs to page i
    of the image; if each folder has a single such file, their stems may differ. Files are ordered
    by stem, numbers in it as numbers, and may be in subfolders.

    Args:
        path: the folder.
        channels: 1 to read images as grey, 3 to read them as RGB.
        classes: values of a mask that are classes, in the order of class indices; None takes all
            values that occur, sorted, and reads all masks for it.
        class_names: names of these; None takes their values.
        ignore: value of pixels that do not count.
        val_fraction: fraction of all examples to hold out as ``val``, if it does not exist. None
            means 0.1, but at least one example, if ``path`` has the two folders itself.
        val_count: the same, as a number of examples.
        val_last: the same, the last ones: for the slices of a stack, where neighbours are alike.
        test_fraction: fraction to hold out as ``test``; None means 0. With ``val_last``, the last
            ones before these.
        split_seed: selects the examples that are held out.

    Raises:
        DataError: the folder does not exist or has no images, an image has no mask or a mask no
            image, the two differ in size or pages, a value is not a class, or the examples to hold
            out are too many.
    """
    check_folder(path)
    roots = _split_roots(path)
    found = {split: _pages(root) for split, root in roots.items()}
    pages = {split: [page for page, _ in each] for split, each in found.items()}
    floats = any(sixteen for each in found.values() for _, sixteen in each)
    pages = _held_out(
        pages, path not in roots.values(), val_fraction, val_count, val_last, test_fraction,
        split_seed,
    )  # fmt: skip
    values = None if classes is None else tuple(classes)
    if values is None:
        values = _discovered([page for each in pages.values() for page in each], ignore)
    known = Classes(values, ignore)
    splits = {name: MaskSplit(each, known, channels, floats) for name, each in pages.items()}
    return MaskSource(splits, named(values, class_names, "masks"), channels, values)


def _split_roots(path: str) -> dict[str, str]:
    """The folder of each split; ``{"train": path}`` where ``path`` is not split."""
    if os.path.isdir(os.path.join(path, "images")):
        return {"train": path}
    roots = split_folders(path)
    if "train" not in roots:
        inside = sorted(entry.name for entry in os.scandir(path))
        raise DataError(
            f"{path} has neither a folder 'images'{near_match('images', inside)} nor a folder"
            f" 'train' with one inside (it has: {', '.join(inside[:10]) or 'nothing'})"
        )
    return roots


def _files(folder: str, suffixes: tuple[str, ...]) -> dict[str, str]:
    """Stem, relative to ``folder``, to image file, in natural order."""
    found: dict[str, str] = {}
    for file in FileTree(suffixes).files_below(folder):
        stem = os.path.splitext(file)[0]
        if stem in found:
            raise DataError(
                f"{found[stem]} and {os.path.join(folder, file)} have the same stem; which one is"
                " it?"
            )
        found[stem] = os.path.join(folder, file)
    return {stem: found[stem] for stem in sorted(found, key=natural_key)}


def _pages(root: str) -> list[tuple[Page, bool]]:
    """The examples in one folder that holds images and masks, and which have 16 bits."""
    image_folder = os.path.join(root, "images")
    mask_folders = [os.path.join(root, name) for name in _MASK_FOLDERS]
    there = [folder for folder in mask_folders if os.path.isdir(folder)]
    if not os.path.isdir(image_folder) or len(there) != 1:
        missing = "two" if len(there) == 2 else "no"
        raise DataError(
            f"{root} has no folder 'images'"
            if not os.path.isdir(image_folder)
            else f"{root} has {missing} folder{'s' * (len(there) == 2)} of masks: it is called"
            " 'masks' or 'labels'"
        )
    images = _files(image_folder, IMAGE_SUFFIXES)
    labels = _files(there[0], IMAGE_SUFFIXES)
    for folder, files in ((image_folder, images), (there[0], labels)):
        if not files:
            raise DataError(f"{folder} has no files ({', '.join(IMAGE_SUFFIXES)})")
    _check_partners(images, labels, there[0], image_folder)
    pages: list[tuple[Page, bool]] = []
    for stem, image in images.items():
        mask = labels[stem] if stem in labels else next(iter(labels.values()))
        if os.path.splitext(mask)[1].lower() not in MASK_SUFFIXES:
            raise DataError(
                f"{mask}: a mask cannot be of this kind, which blurs class values; save it as one"
                f" of {', '.join(MASK_SUFFIXES)}"
            )
        count, size, sixteen, mask_count, mask_size = _measured(image, mask)
        if count != mask_count:
            raise DataError(f"{image} has {count} pages and its mask {mask} has {mask_count}")
        check_sizes(size, mask_size, image, mask)
        pages += [(Page(image, mask, p, size, count > 1), sixteen) for p in range(count)]
    return pages


def _measured(image: str, mask: str) -> tuple[int, tuple[int, int], bool, int, tuple[int, int]]:
    """Pages, size and whether 16 bits of an image, and pages and size of its mask.

    One of the two may be corrupt: that is an error, or skipped, when it is read.

    Raises:
        CorruptImage: both are.
    """
    try:
        count, size, sixteen = measure(image)
    except CorruptImage:
        count, size, _ = measure(mask)
        return count, size, False, count, size
    try:
        return count, size, sixteen, *measure(mask)[:2]
    except CorruptImage:
        return count, size, sixteen, count, size


def _check_partners(
    images: Mapping[str, str], labels: Mapping[str, str], mask_folder: str, image_folder: str
) -> None:
    """Raises DataError if an image has no mask, or a mask no image."""
    if len(images) == len(labels) == 1 and measure(next(iter(images.values())))[0] > 1:
        return  # train-volume.tif and train-labels.tif
    for ours, theirs, folder, what in (
        (images, labels, mask_folder, "image has no mask"),
        (labels, images, image_folder, "mask has no image"),
    ):
        alone = [stem for stem in ours if stem not in theirs]
        if alone:
            more = f" ({len(alone) - 1} more like it)" if len(alone) > 1 else ""
            raise DataError(
                f"{ours[alone[0]]}: this {what}: no {os.path.join(folder, alone[0])}.*"
                f"{near_match(alone[0], theirs)}{more}"
            )


def _held_out(
    pages: dict[str, list[Page]],
    split_already: bool,
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
        val = 0 if split_already or total < 2 else max(1, round(0.1 * total))
    test = round((test_fraction or 0) * total)
    if val + test >= total:
        raise DataError(
            f"masks: {val} examples of val and {test} of test leave none of {total} to train on"
        )
    held = {}
    for split, number in (("val", val), ("test", test)):
        if number:
            if val_last is not None:
                kept, out = np.split(np.arange(len(rest)), [len(rest) - number])
            else:
                kept, out = hold_out(np.zeros(len(rest), np.int32), number, seed)
            held[split] = [rest[i] for i in out]
            rest = [rest[i] for i in kept]
    ordered = {**pages, **held, "train": rest}
    return {split: ordered[split] for split in ("train", "val", "test") if split in ordered}


def _discovered(pages: Sequence[Page], ignore: int | None) -> tuple[int, ...]:
    """All values that occur in masks, sorted."""
    values: set[int] = set()
    for page in pages:
        try:
            values.update(np.unique(read_mask(page.mask, page.page)).tolist())
        except CorruptImage as error:
            raise DataError(
                f"{error}; all masks are read to find their values: with these listed, as"
                " classes=(0, 255), on_corrupt='skip' leaves this one out"
            ) from error
        if len(values) > _MOST_CLASSES:
            raise DataError(
                f"{page.mask}: with it, masks have more than {_MOST_CLASSES} values, too many for"
                " classes; list those that are classes, as classes=(0, 255)"
            )
    if ignore is not None:
        values.discard(ignore)
    if len(values) < 2:
        raise DataError(
            f"the {len(pages)} masks have only the values {sorted(values)}; there must be at least"
            f" two classes (the first mask: {pages[0].mask})"
        )
    return tuple(sorted(values))
