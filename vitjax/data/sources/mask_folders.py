"""Images in a folder ``images``, and masks of the same stems in the folder beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from vitjax.core.file_tree import IMAGE_SUFFIXES, FileTree
from vitjax.core.text import natural_key, near_match, shortened
from vitjax.data.errors import DataError
from vitjax.data.image_files import pages_of
from vitjax.data.sources.folder_layout import check_distinct, split_folders

_MASK_FOLDERS = ("masks", "labels")


def find_folders(path: str) -> tuple[str, dict[str, str]]:
    """The folder that is read, and in it the folder of each split, which hold ``images``.

    The first is ``path``, or the only folder with images in it. Where it is not split, it is that
    of ``train``.

    Raises:
        DataError: there is no such folder.
    """
    root = _root(path)
    return root, _split_roots(root)


def _root(path: str) -> str:
    """The folder to read: ``path``, or the only folder with images in it, where that is meant."""
    tree, root = FileTree(IMAGE_SUFFIXES), path
    while not os.path.isdir(os.path.join(root, "images")) and not split_folders(root):
        inside = [os.path.join(root, name) for name in tree.listing(root).folders]
        filled = [folder for folder in inside if tree.files_below(folder)]
        if tree.listing(root).files or len(filled) != 1:
            return path
        root = filled[0]
    return root


def _split_roots(path: str) -> dict[str, str]:
    """The folder of each split; ``{"train": path}`` where ``path`` is not split."""
    if os.path.isdir(os.path.join(path, "images")):
        return {"train": path}
    roots = split_folders(path)
    if not roots:
        inside = sorted(entry.name for entry in os.scandir(path))
        raise DataError(
            f"{path} has neither a folder 'images' nor a folder 'train' with one inside (it has:"
            f" {shortened(inside, 10) or 'nothing'}{near_match('images', inside)}); files under"
            ' other names are found by patterns, as images="photos/*.jpg",'
            ' masks="truth/{stem}.png"'
        )
    check_distinct(roots)
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


def pairs(root: str) -> list[tuple[str, str]]:
    """Images and masks in one folder that holds a folder of each.

    Raises:
        DataError: an image has no mask, a mask no image, or two files have the same stem.
    """
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
    if len(images) == len(masks) == 1 and pages_of(next(iter(images.values()))) > 1:
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
