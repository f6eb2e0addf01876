"""A source over segmentation sets that TensorFlow Datasets prepared, without TensorFlow."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitjax.core.text import near_match
from vitjax.data.errors import CorruptImage, DataError
from vitjax.data.image_files import decode_image, measure_opened
from vitjax.data.mask_files import decode_mask
from vitjax.data.sample import Sample
from vitjax.data.sources.base import register
from vitjax.data.sources.mask_classes import Classes, MaskSource, check_pair, named
from vitjax.data.sources.tfds import TfdsSplit, check_split, chosen_splits, find_prepared

# TFDS stores no names for the values of masks.
_KNOWN: Mapping[str, Mapping[int, str]] = {
    "oxford_iiit_pet": {1: "pet", 2: "background", 3: "border"},
}


@dataclass(frozen=True)
class TfdsMaskSplit:
    """A `SizedSplit` over one split of a prepared data set.

    Attributes:
        records: the split as `vitjax.data.sources.tfds.TfdsSplit` opens it.
        image_key: the feature that is the image.
        mask_key: the feature that is the mask.
        classes: what the values of masks are.
        channels: of the images, 3 or 1.
    """

    records: TfdsSplit
    image_key: str
    mask_key: str
    classes: Classes
    channels: int

    def __len__(self) -> int:
        return len(self.records)

    def read(self, index: int) -> Sample:
        """The image and the mask at ``index``."""
        name = self.name(index)
        image = decode_image(self._content(index, self.image_key), self.channels, name)
        mask = decode_mask(self._content(index, self.mask_key), f"{name}, {self.mask_key}")
        check_pair(image, mask, name, self.mask_key)
        return Sample(image, mask=self.classes.indices(mask, f"{name}, {self.mask_key}"))

    def size(self, index: int) -> tuple[int, int]:
        """(height, width), as the mask's head says."""
        name = f"{self.name(index)}, {self.mask_key}"
        return measure_opened(io.BytesIO(self._content(index, self.mask_key)), name)[1]

    def name(self, index: int) -> str:
        """The data set, split and row."""
        return self.records.name(index)

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
    classes: Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
    ignore: int | None = None,
) -> MaskSource:
    """A data set with masks that TensorFlow Datasets has prepared as array_record files.

    Args:
        dataset: as of the source "tfds": "oxford_iiit_pet", say.
        data_dir: as of the source "tfds".
        splits: as of the source "tfds": ``{"train": "train[:90%]", "val": "train[90%:]"}``.
        image_key: the feature that is the image.
        mask_key: the feature that is the mask.
        classes: values of a mask that are classes, in the order of class indices. None takes the
            known ones of Oxford-IIIT Pet, and for other data all that occur in ``train``, sorted,
            which reads all its masks.
        class_names: names of these; None takes their values.
        ignore: value of pixels that do not count.

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
    if (info.features[mask_key].shape or (0,))[-1] != 1:
        raise DataError(f"{where}: the feature {mask_key!r} has several channels; a mask has one")
    channels = 1 if info.features[image_key].shape[-1] == 1 else 3
    records = {
        ours: TfdsSplit(folder, theirs, image_key, mask_key, channels, where)
        for ours, theirs in chosen_splits(info, splits, where).items()
    }
    for ours, split in records.items():
        check_split(split, ours, info, where)
    known = _KNOWN.get(str(getattr(info, "name", "")), {})
    known = {value: name for value, name in known.items() if value != ignore}
    if classes is None and known:
        values = tuple(known)
        class_names = tuple(known.values()) if class_names is None else class_names
    elif classes is None:
        if "train" not in records:
            raise DataError(f"{where}: splits has no 'train' to find the classes in; give classes")
        values = _discovered(records["train"], mask_key, ignore)
    else:
        values = tuple(classes)
    kinds = Classes(values, ignore)
    made = {
        ours: TfdsMaskSplit(split, image_key, mask_key, kinds, channels)
        for ours, split in records.items()
    }
    return MaskSource(made, named(values, class_names, where), channels, values)


def _discovered(records: Any, mask_key: str, ignore: int | None) -> tuple[int, ...]:
    """All values that occur in the masks of ``records``, sorted."""
    values: set[int] = set()
    for index in range(len(records)):
        content = records.features(index)[mask_key].bytes_list.value[0]
        values.update(
            np.unique(decode_mask(content, f"{records.name(index)}, {mask_key}")).tolist()
        )
    return tuple(sorted(value for value in values if value != ignore))
