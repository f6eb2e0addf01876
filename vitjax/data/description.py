"""The description of data, as `vitjax.data.Dataset.describe` returns it: checked as a file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

import numpy as np

from vitjax.core.validation import Bounds, NonNegativeInt, check_keywords, check_value
from vitjax.data.errors import DataError

# What a description promises is made: these limits are far beyond data that exists.
_Side = Annotated[int, Bounds(at_least=1, at_most=2**24)]
_Count = Annotated[int, Bounds(at_least=0, at_most=2**40)]
_MOST_BYTES = 2**30  # of an image
_MOST_EPISODE_IMAGES = 10**8  # whose labels are made

# fmt: off
_Type = Literal[
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"
]
# fmt: on
_Names = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Array:
    """Shape and dtype of arrays, or of images of any size their channels and dtype."""

    shape: tuple[NonNegativeInt, ...] | None = None
    channels: _Side | None = None
    dtype: _Type = "float32"


@dataclasses.dataclass(frozen=True)
class _Description:
    """The keys of the descriptions of vitjax's own kinds of data."""

    class_names: _Names | None = None
    class_values: tuple[int, ...] | None = None
    class_colors: tuple[tuple[int, int, int], ...] | None = None
    examples: Mapping[str, _Count] | None = None
    classes: Mapping[str, Mapping[str, _Count]] | None = None
    sizes: Mapping[str, tuple[_Side, _Side]] | None = None
    image: _Array | None = None
    second_image: _Array | None = None
    label: _Array | None = None


# What is read whatever the kind of data is.
_OF_CLASSES = ("class_names", "class_values", "class_colors", "classes")
_KEYS = tuple(field.name for field in dataclasses.fields(_Description))


def check(found: Mapping[str, Any], path: str, needed: Collection[str] = ()) -> None:
    """Checks a description that was read from a file.

    Args:
        found: the description.
        path: of the file, for errors.
        needed: the keys that data of its kind needs, with dots for those in sections. Without them
            only what is said of classes is checked: the rest may be of another kind.

    Raises:
        ConfigError: a value is of another type or out of range, naming its key.
        DataError: a key is missing, or values contradict each other.
    """
    where = f"{path} (description of the data)"
    known = {key: found[key] for key in (_KEYS if needed else _OF_CLASSES) if key in found}
    check_keywords(_Description, known, where=where)
    for key in needed:
        section: Any = found
        for part in key.split("."):
            if not isinstance(section, Mapping) or section.get(part) is None:
                raise DataError(f"{where}: the key {key!r} is missing")
            section = section[part]
    names = found.get("class_names")
    count = None if names is None else len(names)
    for key in ("class_values", "class_colors"):
        values = found.get(key)
        if values and len(values) != count:
            raise DataError(f"{where}: {key} has {len(values)} entries, class_names has {count}")
    if needed:
        for key in ("image", "second_image"):
            _check_size(found.get(key), found.get("sizes") or {}, f"{where}: {key}")
        _check_splits(found, where, needed)
    total = 0
    for split, sizes in (found.get("classes") or {}).items():
        for number, images in sizes.items():
            if not number.isdecimal() or len(number) > 9 or int(number) >= (count or 0):
                raise DataError(
                    f"{where}: classes.{split} has the class {number!r}, and class_names has"
                    f" {count or 0} names"
                )
            total += images
    if total > _MOST_EPISODE_IMAGES:
        raise DataError(
            f"{where}: classes has {total:,} images; at most {_MOST_EPISODE_IMAGES:,} are possible"
        )


def of_sizes(
    image: tuple[int, int, int], classes: int, examples: int, *, episodic: bool = False
) -> dict[str, Any]:
    """A description of data that is not at hand, with splits ``train``, ``val`` and ``test``.

    Args:
        image: (height, width, channels) of a stored image; its values are bytes.
        classes: the number of classes; of episodic data, in each split.
        examples: the training examples; of episodic data, the images of a split.
        episodic: whether the splits have other classes each.
    """
    splits = ("train", "val", "test")
    number = classes * len(splits) if episodic else classes
    per_class = max(1, examples // classes)
    return {
        "class_names": [str(index) for index in range(number)],
        "examples": dict.fromkeys(splits, 1) | {"train": examples},
        "classes": {
            split: {str(place * classes + index): per_class for index in range(classes)}
            for place, split in enumerate(splits if episodic else ())
        },
        "sizes": dict.fromkeys(splits, image[:2]),
        "image": {"shape": list(image), "channels": image[2], "dtype": "uint8"},
        "label": {"shape": []},
    }


def _check_splits(found: Mapping[str, Any], where: str, needed: Collection[str]) -> None:
    """Checks that there is a split, and that each has a size where sizes are needed."""
    for key in ("examples", "classes"):
        if key in needed and not found[key]:
            raise DataError(f"{where}: {key} has no split")
    if "sizes" in needed:
        missing = [split for split in found["examples"] if split not in found["sizes"]]
        if missing:
            raise DataError(f"{where}: sizes lacks the split {missing[0]!r}")


def _check_size(image: Any, sizes: Mapping[str, Any], where: str) -> None:
    """Checks that an image of a description can be made."""
    if image is None:
        return
    shape, channels = image.get("shape"), image.get("channels")
    if shape is not None:
        check_value(shape, tuple[_Side, _Side, _Side], f"{where}.shape")
    shapes = [] if shape is None else [shape]
    shapes += [] if channels is None else [[*size, channels] for size in sizes.values()]
    for each in shapes:
        if math.prod(each) * np.dtype(image.get("dtype", "float32")).itemsize > _MOST_BYTES:
            raise DataError(
                f"{where}: an image of {' x '.join(map(str, each))} has more than"
                f" {_MOST_BYTES:,} bytes"
            )
