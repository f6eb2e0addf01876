"""From indices and positions to the arrays of a batch: what all threads and workers run."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vitjax.core.text import printable
from vitjax.data.errors import CorruptImage, DataError
from vitjax.data.iterator import Batch, report
from vitjax.data.sample import IGNORE, Sample
from vitjax.data.samplers.base import Sampler
from vitjax.data.share import Share
from vitjax.data.sources.base import Split
from vitjax.data.transforms.moving import padded
from vitjax.data.transforms.pipeline import Pipeline
from vitjax.data.weight_maps import WeightMaps

_AUGMENT = 1  # child of the seed

# The number of corrupt images in a row after which the complete split counts as corrupt.
_MAX_PROBES = 100

_DTYPES = {
    "mask": np.int32,
    "instances": np.int32,
    "weight": np.float32,
    "boxes": np.float32,
    "box_labels": np.int32,
}


class ExampleRng:
    """A generator that can be set to the stream of any example.

    Philox is a counter-based generator: its key is the seed (with what else tells streams apart)
    and the example's absolute position. Setting the key of one generator costs a tenth of making a
    new one.
    """

    def __init__(self, seed: int, *children: int):
        key = np.random.SeedSequence([seed, *children]).generate_state(1, np.uint64)
        self._bits = np.random.Philox(key=np.array([key[0], 0], np.uint64))
        self._state = self._bits.state
        self._generator = np.random.Generator(self._bits)

    def at(self, position: int) -> np.random.Generator:
        """The generator at the start of the stream of example ``position``."""
        self._state["state"]["key"][1] = position
        self._bits.state = self._state
        return self._generator


class Rows(ABC):
    """Examples of one split as rows of a batch.

    Attributes:
        split: where examples come from.
        seed: of the randomness in their augmentation.
        cheap: whether a batch is made in less time than a thread needs to hand it over.
    """

    split: Split
    seed: int
    cheap: ClassVar[bool] = False

    @abstractmethod
    def blank(self) -> Mapping[str, np.ndarray]:
        """The arrays of a row without an example, of the shapes and dtypes of all rows."""

    @abstractmethod
    def row(self, index: int, rng: np.random.Generator) -> Mapping[str, Any]:
        """The arrays of the example at ``index``.

        Raises:
            CorruptImage: it cannot be read and is to be skipped.
            DataError: it cannot be read, or differs in size from the others.
        """

    def batch(self, indices: np.ndarray, positions: range, size: int) -> Batch:
        """The examples at ``indices``, followed by masked padding up to ``size``.

        Args:
            indices: examples of the split, (n,), n <= size.
            positions: the n absolute positions that seed their augmentation.
            size: examples in the batch.
        """
        batch = {
            key: np.full((size, *empty.shape), empty.flat[0] if empty.size else 0, empty.dtype)
            for key, empty in self.blank().items()
        }
        mask = np.zeros(size, bool)
        skipped = {}
        rng = ExampleRng(self.seed, _AUGMENT)
        for row, (index, position) in enumerate(zip(indices.tolist(), positions, strict=True)):
            try:
                arrays = self.row(index, rng.at(position))
            except CorruptImage as error:
                skipped[self.split.name(index)] = str(error)
            except DataError as error:
                return report({"error": str(error)})
            else:
                for key, array in arrays.items():
                    batch[key][row] = array
                mask[row] = True
        batch["mask"] = mask
        return {**batch, **report({"skipped": skipped})} if skipped else batch


@dataclass(frozen=True)
class ExampleBatches:
    """This host's part of a sequence of batches of examples.

    Attributes:
        rows: the examples.
        sampler: which of them stands at which position.
        share: this host's part.
    """

    rows: Rows
    sampler: Sampler
    share: Share

    @property
    def cheap(self) -> bool:
        """Whether its rows are."""
        return self.rows.cheap

    def __len__(self) -> int:
        return len(self.share)

    def __getitem__(self, index: int) -> Batch:
        positions = self.share.positions(index)
        indices = self.sampler.indices(positions)
        return self.rows.batch(indices, positions, len(self.share.rows))


@dataclass(frozen=True)
class Examples(Rows):
    """Transformed samples of one split.

    Attributes:
        split: where samples come from.
        pipeline: the transforms.
        seed: of the randomness in the pipeline.
        arrays: from a transformed sample to the arrays of a row.
        empty: a row without an example: its shapes and dtypes are those of all rows.
        skip_corrupt: whether a corrupt image becomes a masked empty row instead of an error.
        fill: whether smaller images are padded with mirrored pixels that do not count, to the size
            of ``empty``.
        weights: weight maps that samples carry, or None.
    """

    split: Split
    pipeline: Pipeline
    seed: int
    arrays: Arrays
    empty: Mapping[str, np.ndarray]
    skip_corrupt: bool
    fill: bool = False
    weights: WeightMaps | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of all images."""
        height, width, channels = self.empty["image"].shape
        return height, width, channels

    @property
    def dtype(self) -> np.dtype:
        """That of all images."""
        return self.empty["image"].dtype

    def blank(self) -> Mapping[str, np.ndarray]:
        """A row without an example."""
        if self.weights is None:
            return self.empty
        return {**self.empty, "weight": np.zeros(self.shape[:2], np.float32)}

    def row(self, index: int, rng: np.random.Generator) -> Mapping[str, Any]:
        """The arrays of the transformed sample at ``index``."""
        return self._row(index, rng)[1]

    def image(self, index: int, rng: np.random.Generator) -> np.ndarray:
        """The transformed image at ``index``; raises as `row` does."""
        return self._row(index, rng)[0].image

    def _row(self, index: int, rng: np.random.Generator) -> tuple[Sample, Mapping[str, Any]]:
        with skippable(self.skip_corrupt):
            sample = read(self.split, index)
            if self.weights is not None:
                assert sample.mask is not None
                weight = self.weights.of(index, sample.mask, sample.instances)
                sample = sample.replace(weight=weight)
            if sample.instances is not None:  # which no batch holds, so they need not be moved
                sample = sample.replace(instances=None)
            try:
                sample = self.pipeline(sample, rng)
            except CorruptImage:
                raise
            except DataError as error:
                raise DataError(f"{printable(self.split.name(index))}: {error}") from error
        expected = self.empty["image"]
        height, width = expected.shape[:2]
        if self.fill and sample.size[0] <= height and sample.size[1] <= width:
            sample = padded(sample, (height, width))
        image = sample.image
        if image.shape != expected.shape or image.dtype != expected.dtype:
            raise DataError(
                f"{printable(self.split.name(index))}: is {image.dtype} of shape {image.shape}"
                f" after the transforms {self.pipeline.text!r}, and others are {expected.dtype} of"
                f" shape {expected.shape}; all images of a batch have one size: begin the"
                f" transforms with resize(({height}, {width})) or crop({min(height, width)}), or"
                f" with resize({min(height, width)}) | center_crop({min(height, width)})"
            )
        return sample, self.arrays(sample, self.split.name(index))


class Arrays:
    """From a transformed sample to the arrays of a row, here its images; picklable."""

    def __call__(self, sample: Sample, name: str) -> dict[str, Any]:
        """The arrays of ``sample``, whose image is complete and of the right size.

        Args:
            sample: transformed.
            name: what errors call it.

        Raises:
            DataError: the sample lacks a field, or has a wrong one.
        """
        del name
        return images_of(sample)

    def empty(self, sample: Sample, name: str) -> dict[str, np.ndarray]:
        """A row without an example, of the shapes and dtypes of the arrays of ``sample``."""
        return {key: np.zeros_like(array) for key, array in self(sample, name).items()}


def images_of(sample: Sample) -> dict[str, np.ndarray]:
    """The images of a sample as arrays of a row."""
    if sample.second_image is None:
        return {"image": sample.image}
    return {"image": sample.image, "second_image": sample.second_image}


def field_of(sample: Sample, field: str, target: str, name: str) -> np.ndarray:
    """The value of ``field`` as an array.

    Raises:
        DataError: the sample does not have it.
    """
    value = getattr(sample, field)
    if value is None:
        raise DataError(
            f"{printable(name)}: the sample has no {field}, and its source is registered with"
            f" target={target!r}, which needs one"
        )
    return np.asarray(value)


class ClassArrays(Arrays):
    """``image`` and a class index ``label``."""

    def __call__(self, sample: Sample, name: str) -> dict[str, Any]:
        """The images and the label."""
        if sample.label is None:
            field_of(sample, "label", "class", name)
        return {**images_of(sample), "label": sample.label}

    def empty(self, sample: Sample, name: str) -> dict[str, np.ndarray]:
        """A black image of class 0."""
        return {**super().empty(sample, name), "label": np.zeros((), np.int32)}


class NumberArrays(Arrays):
    """``image`` and ``label``: float32, one number or a vector of them."""

    def __call__(self, sample: Sample, name: str) -> dict[str, np.ndarray]:
        """The images and the label."""
        label = field_of(sample, "label", "number", name).astype(np.float32)
        return {**images_of(sample), "label": label}


class MaskArrays(Arrays):
    """``image``, ``label`` (the class of each pixel) and, where samples have it, ``weight``."""

    def __call__(self, sample: Sample, name: str) -> dict[str, np.ndarray]:
        """The images, the mask and the weight."""
        arrays = {**images_of(sample), "label": field_of(sample, "mask", "mask", name)}
        return arrays if sample.weight is None else {**arrays, "weight": sample.weight}

    def empty(self, sample: Sample, name: str) -> dict[str, np.ndarray]:
        """A black image none of whose pixels counts."""
        row = super().empty(sample, name)
        return {**row, "label": np.full_like(row["label"], IGNORE)}


@dataclass(frozen=True)
class BoxArrays(Arrays):
    """``image``, ``boxes``, ``box_labels`` and ``box_mask``, padded to one number of boxes.

    Attributes:
        max_boxes: the number.
    """

    max_boxes: int

    def __call__(self, sample: Sample, name: str) -> dict[str, np.ndarray]:
        """The images and the padded boxes."""
        boxes = field_of(sample, "boxes", "boxes", name)
        labels = field_of(sample, "box_labels", "boxes", name)
        count = len(boxes)
        if count > self.max_boxes:
            raise DataError(
                f"{printable(name)}: has {count} boxes, and config.data.max_boxes is"
                f" {self.max_boxes}; it must be at least the number of boxes in an image"
            )
        more = self.max_boxes - count
        return {
            **images_of(sample),
            "boxes": np.pad(boxes, ((0, more), (0, 0))),
            "box_labels": np.pad(labels, (0, more)),
            "box_mask": np.arange(self.max_boxes) < count,
        }


def read(split: Split, index: int) -> Sample:
    """The sample of ``split`` at ``index``.

    Raises:
        CorruptImage: it cannot be read.
        DataError: it is not a `Sample`, or a field has a wrong dtype or shape.
    """
    sample = split.read(index)
    if not isinstance(sample, Sample):
        raise DataError(
            f"{printable(split.name(index))}: read returned a {type(sample).__name__}; it must"
            " return a vitjax.data.Sample, such as Sample(image, label)"
        )
    for field, dtype in _DTYPES.items():
        value = getattr(sample, field)
        if value is not None:
            objects = 0 if sample.boxes is None else len(sample.boxes)
            shape = {"boxes": (objects, 4), "box_labels": (objects,)}.get(field, sample.size)
            if value.dtype != dtype or value.shape != shape:
                raise DataError(
                    f"{printable(split.name(index))}: {field} is {value.dtype} of shape"
                    f" {value.shape}; it must be {np.dtype(dtype)} of shape {shape}"
                )
    return sample


def check_image(image: np.ndarray, name: str) -> None:
    """Raises DataError unless ``image`` is uint8 or float32 of three dimensions."""
    if image.ndim != 3 or image.dtype not in (np.uint8, np.float32):
        raise DataError(
            f"{printable(name)}: is {image.dtype} of shape {image.shape}; images must be uint8 or"
            " float32 of shape (height, width, channels)"
        )


@contextlib.contextmanager
def skippable(skip_corrupt: bool) -> Iterator[None]:
    """Turns a corrupt image met inside into an error for good, unless ``skip_corrupt``.

    Raises:
        CorruptImage: an image is corrupt and is to be skipped.
        DataError: an image is corrupt and is not; the message names the key that would skip it.
    """
    try:
        yield
    except CorruptImage as error:
        if skip_corrupt:
            raise
        raise DataError(f'{error} (config.data.on_corrupt = "skip" would leave it out)') from error


def first_readable(split: Split, name: str, skip_corrupt: bool) -> tuple[Sample, int]:
    """The first sample of a split that can be read, and its index.

    Args:
        split: where to look.
        name: of the split, for errors.
        skip_corrupt: whether corrupt images are skipped; otherwise the first must be readable.

    Raises:
        DataError: none can be read, or the split is empty.
    """
    if not len(split):
        raise DataError(f"split {name!r} has no examples")
    for index in range(min(len(split), _MAX_PROBES)):
        try:
            with skippable(skip_corrupt):
                return read(split, index), index
        except CorruptImage as error:
            last = error
    raise DataError(
        f"the first {index + 1} images of split {name!r} are all corrupt; the last: {last}"
    )
