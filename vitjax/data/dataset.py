"""What the engine and the tasks know of data: the interfaces of data sets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from vitjax.data.any_image import AnyImage, name_of
from vitjax.data.class_order import ClassList, Match
from vitjax.data.errors import DataError
from vitjax.data.image_formats import MAX_PIXELS
from vitjax.data.iterator import Batch, BatchIterator
from vitjax.data.preparation import Preparation
from vitjax.data.sources.base import Stored

# What is predicted: "class", "mask", "number", "boxes", "none", or a name of `KINDS` of your own.
Target = str


class Dataset(ABC):
    """Batches of examples by split, as training and evaluation read them.

    Batches follow from the seed and their number alone: neither the number of workers or hosts nor
    the number of times that the run was stopped changes them.

    A batch of examples is a dict of arrays whose first axis is the batch: ``image``, ``label``,
    ``mask`` (True where the example counts) and, where the data has it, ``weight``. A batch of
    episodes holds ``support``, ``query`` and ``mask``.

    Attributes:
        target: what is predicted: ``"class"`` (a class per image), ``"mask"`` (a class per pixel),
            ``"number"`` (floats: regression), ``"boxes"`` (objects: detection), ``"none"`` (no
            labels), or another name of `vitjax.data.KINDS`.
        episodic: whether batches hold few-shot episodes.
        described: the keys that `recall` needs of a description, see `describe`; with dots for
            those in sections.
        splits: the names of the splits.
        batch_size: examples (or episodes) in a global training batch, over all hosts.
        eval_batch_size: the same for evaluation. The trainer raises it to a number that splits
            evenly over the devices.
        class_names: the names of the classes; with target ``"number"``, of the numbers.
        num_classes: outputs that a model needs: classes, the most ways of an episode, or the
            numbers predicted.
        num_train_classes: classes of split ``train``; `num_classes` unless the data is episodic.
        image_shape: (height, width, channels) of an evaluated image; of an evaluated input.
        max_pixels: the pixels of the largest image file that is read.
        steps_per_epoch: training batches in which every example is seen once, seldom an integer;
            None for episodes, which have no epochs.
        skipped: the name of each corrupt image met so far and what is wrong with it.
        store: arrays that stay on the device and that batches point into, for `look_up`; None if
            batches are complete.
        notes: what the source understood of its files, in words, one line each.
        matched: how the classes were matched to those of a run, whose order `class_names` and
            labels then have; None if they were not.
    """

    target: ClassVar[Target] = "class"
    episodic: ClassVar[bool] = False
    described: ClassVar[tuple[str, ...]] = ()
    splits: tuple[str, ...]
    batch_size: int
    eval_batch_size: int
    class_names: tuple[str, ...]
    num_classes: int
    num_train_classes: int
    image_shape: tuple[int, ...]
    steps_per_epoch: float | None
    skipped: dict[str, str]
    max_pixels: int = MAX_PIXELS
    store: dict[str, np.ndarray] | None = None
    notes: tuple[str, ...] = ()
    matched: Match | None = None

    @property
    def augments(self) -> bool:
        """Whether training sees other examples than evaluation, or other ones in each epoch."""
        return False

    @property
    def class_list(self) -> ClassList:
        """The classes, in the order of their numbers."""
        return ClassList(self.class_names)

    def class_counts(self, split: str) -> np.ndarray:
        """The number of examples of each class in ``split``, of pixels where each has a class.

        Returns:
            int64 of shape (classes,).

        Raises:
            DataError: the split does not exist, or the data has no classes.
        """
        del split
        raise DataError(f"data with the target {self.target!r} has no classes to count")

    def read_image(self, image: AnyImage) -> np.ndarray:
        """An image, transformed as in evaluation: (height, width, channels).

        Args:
            image: an image file, a Pillow image, or pixels as an array.

        Raises:
            DataError: it cannot be read or has a wrong size, or examples are not images.
        """
        name = name_of(image)
        raise DataError(f"{name}: cannot be read as an example; the examples are not images")

    def stored(self, split: str) -> Stored | None:
        """The examples of ``split`` as they are stored, to be measured and compared undecoded.

        None, the default, where that is not possible.
        """
        del split
        return None

    @staticmethod
    def look_up(store: Any, batch: Batch) -> Batch:
        """``batch`` with what it points to in ``store``; pure JAX, for use inside ``jit``.

        Args:
            store: `store`, on the device.
            batch: of `train_batches` or `eval_batches`.
        """
        return batch

    @property
    def preparation(self) -> Preparation | None:
        """How an image file becomes an evaluated input; None if examples are not images."""
        return None

    @abstractmethod
    def num_examples(self, split: str) -> int:
        """The number of examples (or fixed episodes) of ``split``.

        Raises:
            DataError: the split does not exist.
        """

    @abstractmethod
    def train_batches(
        self, start: int = 0, process_index: int = 0, process_count: int = 1
    ) -> BatchIterator:
        """This host's part of the training batches, without end.

        The parts of all hosts, concatenated in order, are the batch that one host would get.

        Args:
            start: the number of the first batch; starting late costs nothing.
            process_index: this host.
            process_count: the number of hosts.

        Raises:
            ConfigError: `batch_size` is not divisible by ``process_count``.
            DataError: split ``train`` does not exist; from the iterator: an image is corrupt, or
                differs in size from the others.
        """

    @abstractmethod
    def eval_batches(
        self, split: str, process_index: int = 0, process_count: int = 1
    ) -> BatchIterator:
        """This host's part of the batches of ``split``, in order and with a length.

        Every example occurs once with ``mask`` True. The last batch is padded with examples whose
        ``mask`` is False, so that all batches have one shape and all hosts the same number of them.

        Args:
            split: its name.
            process_index: this host.
            process_count: the number of hosts.

        Raises:
            ConfigError: `eval_batch_size` is not divisible by ``process_count``.
            DataError: the split does not exist; from the iterator, as of `train_batches`.
        """

    def identity(self) -> dict[str, Any]:
        """What data a run learns from, as JSON values, see `vitjax.data.identity`.

        For each split that is learned from, ``examples`` (their number) and, as far as the source
        knows them, ``digest``, ``folders``, ``labels`` and ``weights``. Empty, the default, for
        data that follows from the config alone.
        """
        return {}

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What `vitjax.data.recall` needs to do without the data, as JSON values."""

    @abstractmethod
    def example_batch(self, evaluated: bool = False) -> Batch:
        """A batch of one blank example: the shapes and dtypes of a training batch.

        Args:
            evaluated: take those of an evaluation batch instead.
        """

    @abstractmethod
    def normalize(self, inputs: Any) -> Any:
        """Inputs as a model takes them, float32; pure JAX, for use inside ``jit``.

        Args:
            inputs: images of a batch, (..., height, width, channels), uint8 or floats.
        """


class ImageDataset(Dataset):
    """Single images, which have an index in their split."""

    @abstractmethod
    def example(self, split: str, index: int) -> np.ndarray:
        """The image at ``index`` of ``split`` as it is evaluated: (height, width, channels).

        Raises:
            CorruptImage: it cannot be read.
        """

    @abstractmethod
    def name(self, split: str, index: int) -> str:
        """The name of the example at ``index`` of ``split``, such as its file."""


class LabelledDataset(ImageDataset):
    """Images with a label each: a class, or numbers."""

    def class_counts(self, split: str) -> np.ndarray:
        """The number of examples of each class in ``split``: int64 of shape (classes,)."""
        if self.target != "class":
            return super().class_counts(split)
        return np.bincount(self.labels(split), minlength=len(self.class_names))

    @abstractmethod
    def labels(self, split: str) -> np.ndarray:
        """The label of each example of ``split``.

        Classes are int32 of shape (examples,); numbers are float32 of shape (examples,) or
        (examples, numbers).
        """


class MaskDataset(ImageDataset):
    """Images with a class for each pixel."""

    @property
    @abstractmethod
    def class_values(self) -> tuple[int, ...]:
        """For each class, its value in the mask files."""

    @property
    def class_list(self) -> ClassList:
        """The classes, in the order of their numbers, and their values in masks."""
        return ClassList(self.class_names, self.class_values)

    @property
    def class_colors(self) -> Sequence[tuple[int, int, int]] | None:
        """For each class, the colour that stands for it in figures; None for those of figures."""
        return None

    def class_counts(self, split: str) -> np.ndarray:
        """The number of pixels of each class in ``split``: int64 of shape (classes,)."""
        return self.class_pixels(split)

    @abstractmethod
    def class_pixels(self, split: str) -> np.ndarray:
        """The number of pixels of each class in ``split``: int64 of shape (classes,)."""

    @abstractmethod
    def truth(self, split: str, index: int) -> np.ndarray:
        """The class of each pixel of `example`, -1 where it does not count: (height, width).

        Raises:
            CorruptImage: it cannot be read.
        """

    @abstractmethod
    def pages(self, image: AnyImage) -> int:
        """The number of images in a file; 1 for an image or an array.

        Raises:
            DataError: it cannot be read.
        """

    @abstractmethod
    def read_picture(self, image: AnyImage, page: int = 0) -> np.ndarray:
        """A page of an image, not transformed: (height, width, channels), uint8 or float32.

        Raises:
            DataError: it cannot be read.
        """

    @abstractmethod
    def prepared(self, image: np.ndarray) -> np.ndarray:
        """The result of `read_picture`, transformed as in evaluation."""

    @abstractmethod
    def restored(self, maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Maps of a result of `prepared`, resized to the image before `prepared`.

        Args:
            maps: floats, (height, width, channels).
            size: (height, width) of that image.
        """
