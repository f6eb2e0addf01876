"""A source over segmentation sets that TensorFlow Datasets prepared, without TensorFlow."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vitjax.core.text import near_match
from vitjax.core.validation import PositiveInt
from vitjax.data.class_order import ClassList
from vitjax.data.errors import CorruptImage, DataError
from vitjax.data.identity import Identified, Identity
from vitjax.data.image_files import decode_image, measure_opened
from vitjax.data.image_formats import MAX_PIXELS
from vitjax.data.mask_files import decode_mask, unpacked
from vitjax.data.sample import Sample
from vitjax.data.sources.base import register
from vitjax.data.sources.mask_classes import (
    Classes,
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
from vitjax.data.sources.tfds import TfdsSplit, check_split, chosen_splits, find_prepared

# TFDS stores no names for the values of masks.
_KNOWN: Mapping[str, Mapping[int, str]] = {
    "oxford_iiit_pet": {1: "pet", 2: "background", 3: "border"},
}


@dataclass(frozen=True)
class TfdsMaskSplit(MaskReader, Identified):
    """A `SizedSplit` over one split of a prepared data set.

    Attributes:
        records: the split as `vitjax.data.sources.tfds.TfdsSplit` opens it.
        image_key: the feature that is the image.
        mask_key: the feature that is the mask.
        classes: what the values of masks are.
        channels: of the images, 3 or 1.
        max_pixels: the pixels of the largest image that is read.
    """

    records: TfdsSplit
    image_key: str
    mask_key: str
    classes: Classes
    channels: int
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.records)

    def read(self, index: int) -> Sample:
        """The image and the mask at ``index``."""
        name = self.name(index)
        content = self._content(index, self.image_key)
        image = decode_image(content, self.channels, name, max_pixels=self.max_pixels)
        mask = self.mask(index)
        check_sizes(image.shape[:2], mask.shape, name, self.mask_key)
        return Sample(image, mask=mask)

    def mask(self, index: int) -> np.ndarray:
        """The mask at ``index``."""
        values = self.values(index, self.classes.colours)
        return self.classes.indices(values, f"{self.name(index)}, {self.mask_key}")

    def values(self, index: int, colours: bool = False) -> np.ndarray:
        """The values of the mask at ``index``, or its colours."""
        name = f"{self.name(index)}, {self.mask_key}"
        content = self._content(index, self.mask_key)
        return decode_mask(content, name, colours=colours, max_pixels=self.max_pixels)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width), as the mask's head says."""
        name = f"{self.name(index)}, {self.mask_key}"
        content = io.BytesIO(self._content(index, self.mask_key))
        return measure_opened(content, name, self.max_pixels).size

    def name(self, index: int) -> str:
        """The data set, split and row."""
        return self.records.name(index)

    def identity(self) -> Identity:
        """As of `TfdsSplit`."""
        return self.records.identity()

    def _content(self, index: int, key: str) -> bytes:
        try:
            return self.records.features(index)[key].bytes_list.value[0]
        except Exception as error:  # of any type that array_record and protobuf raise
            raise CorruptImage(f"{self.name(index)}: cannot be read: {error}") from error


@register("tfds_masks", target="mask")
def tfds_masks(
    dataset: str,
    data_dir: str = "~/tensorflow_datasets",
    splits: Mapping[str, str] | None = None,
    image_key: str = "image",
    mask_key: str = "segmentation_mask",
    classes: Meanings | None = None,
    class_names: Sequence[str] | None = None,
    ignore: Ignored | None = None,
    max_pixels: PositiveInt = MAX_PIXELS,
    run_classes: ClassList | None = None,
) -> MaskSource:
    """A data set with masks that TensorFlow Datasets has prepared as array_record files.

    Args:
        dataset: as of the source "tfds": "oxford_iiit_pet", say.
        data_dir: as of the source "tfds".
        splits: as of the source "tfds": ``{"train": "train[:90%]", "val": "train[90%:]"}``.
        image_key: the feature that is the image.
        mask_key: the feature that is the mask.
        classes: as of the source "masks". None takes the known ones of Oxford-IIIT Pet, and for
            other data all values that occur in ``train``, sorted, which reads all its masks.
        class_names: as of the source "masks".
        ignore: as of the source "masks".
        max_pixels: the pixels of the largest image or mask that is read.
        run_classes: those of a run that ``class_names`` were written for; not a key of a config.

    Raises:
        DataError: the data set is not prepared in ``data_dir`` (the message gives the command that
            prepares it), a split does not exist, or a feature is missing or of the wrong kind.
    """
    where = f"tfds_masks {dataset}"
    folder, info = find_prepared(dataset, data_dir, where)
    for key, word in ((image_key, "image_key"), (mask_key, "mask_key")):
        if key not in info.features:
            raise DataError(
                f"{where}: no feature {key!r} ({word}){near_match(key, info.features)}"
                f" (it has: {', '.join(info.features)})"
            )
        if len(info.features[key].shape or ()) != 3:
            raise DataError(
                f"{where}: the feature {key!r} ({word}) is {info.features[key]}, not an image"
            )
    given, class_names = given_classes(classes, class_names, ignore)
    in_colour = given is not None and given.colours
    if (info.features[mask_key].shape or (0,))[-1] != 1 and not in_colour:
        raise DataError(
            f"{where}: the feature {mask_key!r} has several channels; give the colours of the"
            ' classes, as classes={"road": (128, 64, 128), ...}'
        )
    channels = 1 if info.features[image_key].shape[-1] == 1 else 3
    records = {
        ours: TfdsSplit(folder, theirs, image_key, mask_key, channels, where)
        for ours, theirs in chosen_splits(info, splits, where).items()
    }
    for ours, split in records.items():
        check_split(split, ours, info, where)
    if given is None:
        known = _KNOWN.get(info.name, {})
        left_out = ignored_values(ignore)
        known = {value: name for value, name in known.items() if value not in left_out}
        if known:
            values = tuple(known)
            class_names = tuple(known.values()) if class_names is None else class_names
        else:
            values = _found(records, image_key, mask_key, channels, left_out, where)
        given = Classes(values, left_out or None)
    made = {
        ours: TfdsMaskSplit(split, image_key, mask_key, given, channels, max_pixels)
        for ours, split in records.items()
    }
    names = named([given.shown(value) for value in given.values], class_names, where, run_classes)
    colours = tuple(map(unpacked, given.representatives)) if given.colours else None
    return MaskSource(
        made, names, channels, None if given.colours else given.representatives, colours
    )


def _found(
    records: Mapping[str, TfdsSplit],
    image_key: str,
    mask_key: str,
    channels: int,
    ignored: tuple[int, ...],
    where: str,
) -> tuple[int, ...]:
    """All values that occur in the masks of ``train``, sorted."""
    if "train" not in records:
        raise DataError(f"{where}: splits has no 'train' to find the classes in; give classes")
    split = TfdsMaskSplit(records["train"], image_key, mask_key, Classes((0, 1)), channels)
    return discovered(
        len(split), split.values, lambda i: split.values(i, True), split.name, ignored
    )
