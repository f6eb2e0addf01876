"""Masks of the objects in image files, for the pointing game."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from vitjax.core.errors import ConfigError
from vitjax.core.file_lists import images_below
from vitjax.core.paths import expanded
from vitjax.core.text import near_match, quoted, shortened
from vitjax.data import DataError
from vitjax.data.any_image import AnyImage
from vitjax.data.image_files import measure
from vitjax.data.image_formats import MAX_PIXELS
from vitjax.data.mask_files import ColouredMask, read_mask


def find(folder: str | Path, images: Sequence[str]) -> list[str]:
    """The file of the mask of each image: that of the same stem in ``folder`` or below.

    Where several have that stem, the one whose folder is called like that of the image.

    Raises:
        ConfigError: there is no such folder, or some images have no mask or several.
    """
    root = Path(expanded(folder))
    if not root.is_dir():
        raise ConfigError(f"masks: {root}: no such folder")
    by_stem: dict[str, list[str]] = {}
    for file in images_below(root):
        by_stem.setdefault(Path(file).stem, []).append(file)
    found, missing = [], []
    for image in images:
        stem, parent = Path(image).stem, Path(image).absolute().parent.name
        files = by_stem.get(stem, [])
        if len(files) > 1:
            files = [file for file in files if Path(file).parent.name == parent]
        if len(files) == 1:
            found.append(files[0])
        else:
            missing.append(image)
    if missing:
        stem = Path(missing[0]).stem
        raise ConfigError(
            f"masks: {root} has not one mask for each image; not for"
            f" {shortened([quoted(os.fspath(image)) for image in missing], 3)}: a mask is an image"
            f" file called like the image, such as {stem}.png{near_match(stem, by_stem)}"
        )
    return found


def read(
    file: str,
    image: str,
    prepare: Callable[[AnyImage], np.ndarray],
    max_pixels: int = MAX_PIXELS,
) -> Bool[np.ndarray, "height width"]:
    """Where a mask is not 0 (in colour, not black), at the size to which its image is brought.

    Args:
        file: the mask.
        image: the file of its image.
        prepare: what brings the image to that size; it is used for the mask too, as an image of
            black and white.
        max_pixels: a file with more is an error.

    Raises:
        DataError: it cannot be read, has another size than the image, or has no object, or none
            once it is brought to that size.
    """
    try:
        inside = read_mask(file, max_pixels=max_pixels) != 0
    except ColouredMask:
        inside = read_mask(file, colours=True, max_pixels=max_pixels) != 0
    size = measure(image, max_pixels).size
    if inside.shape != size:
        raise DataError(
            f"{file}: the mask has {_sides(inside.shape)} pixels, and its image {image}"
            f" {_sides(size)}"
        )
    if not inside.any():
        raise DataError(
            f"{file}: the mask of {image} has no object: all its pixels are 0 (or black)"
        )
    drawn = np.where(inside, np.uint8(255), np.uint8(0))
    prepared = prepare(drawn)
    found = prepared[..., 0] > (127 if prepared.dtype == np.uint8 else 0.5)
    if not found.any():
        raise DataError(
            f"{file}: nothing is left of the object once the mask is resized and cut as its image"
            f" {image} is, to {_sides(found.shape)} pixels"
        )
    return found


def check(masks: Sequence[Any] | np.ndarray, images: int) -> None:
    """Checks that there is a mask with an object for each image.

    Args:
        masks: each (height, width), True where the object is.
        images: the number of images.

    Raises:
        ConfigError: the numbers differ, or a mask has no object.
    """
    if len(masks) != images:
        raise ConfigError(f"masks: {len(masks)} for {images} images; there must be one per image")
    for number, mask in enumerate(masks):
        if not np.any(mask):
            raise ConfigError(f"masks: mask {number} has no object: all its pixels are 0")


def _sides(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
