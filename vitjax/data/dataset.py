"""What the engine knows of data: the interface of every data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np

from vitjax.data.iterator import Batch, BatchIterator

Target = Literal["class", "mask", "number", "boxes"]


class Dataset(ABC):
    """Batches of examples by split, as training and evaluation read them.

    Batches follow from the seed and their number alone: neither the number of workers or hosts nor
    the number of times that the run was stopped changes them.

    A batch of examples is a dict of arrays whose first axis is the batch: ``image``, ``label``,
    ``mask`` (True where the example counts) and, where the data has it, ``weight``. A batch of
    episodes holds ``support``, ``query`` and ``mask``.

    Attributes:
        target: what is predicted: ``"class"`` (one class per image), ``"mask"`` (a class per pixel)
            ``"number"`` (floats: regression) or ``"boxes"`` (objects: detection).
        episodic: whether batches hold few-shot episodes.
        splits: the names of the splits.
        batch_size: examples (or episodes) in a global training batch, over all hosts.
        eval_batch_size: the same for evaluation.
        class_names: the names of the classes; with target ``"number"``, of the numbers.
        num_classes: outputs that a model needs: classes, the most ways of an episode, or the
            numbers predicted.
        num_train_classes: classes of split ``train``; `num_classes` unless the data is episodic.
        image_shape: (height, width, channels) of an evaluated image; of an evaluated input.
        steps_per_epoch: training batches in which every example is seen once, seldom an integer;
            None for episodes, which have no epochs.
        skipped: the name of each corrupt image met so far and what is wrong with it.
        store: arrays that stay on the device and that batches point into, for `look_up`; None if
            batches are complete.
    """

    target: ClassVar[Target] = "class"
    episodic: ClassVar[bool] = False
    splits: tuple[str, ...]
    batch_size: int
    eval_batch_size: int
    class_names: tuple[str, ...]
    num_classes: int
    num_train_classes: int
    image_shape: tuple[int, ...]
    steps_per_epoch: float | None
    skipped: dict[str, str]
    store: dict[str, np.ndarray] | None = None

    @staticmethod
    def look_up(store: Any, batch: Batch) -> Batch:
        """``batch`` with what it points to in ``store``; pure JAX, for use inside ``jit``.

        Args:
            store: `store`, on the device.
            batch: of `train_batches` or `eval_batches`.
        """
        return batch

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
