"""A source, two pipelines and a batch size made into batches; Grain reads them ahead."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vitjax.data.batching import EvalBatches, Examples, TrainBatches, probe
from vitjax.data.checks import WHERE, rows_of, skips_corrupt, whole
from vitjax.data.dataset import Dataset
from vitjax.data.errors import CorruptImage, DataError
from vitjax.data.files import read_image
from vitjax.data.iterator import Batch, BatchIterator
from vitjax.data.normalization import Normalization
from vitjax.data.sources.base import ArraySplit, Source
from vitjax.data.transforms.pipeline import Pipeline, parse

_log = logging.getLogger(__name__)


class Batched(Dataset):
    """Batches of one source: what all kinds of data that go through their examples share.

    Everything depends on ``seed`` and the number of a batch alone: not on the number of workers or
    hosts, nor on how often the run was stopped.

    Attributes:
        source: the splits.
        seed: of order and augmentation.
        batch_size: of the global training batch, over all hosts.
        eval_batch_size: of the global evaluation batch.
        class_names: what labels stand for.
        num_classes: how many there are.
        image_shape: (height, width, channels) of an evaluated image.
        skipped: the name of each corrupt image met so far, and what was wrong with it. Stays empty
            with ``on_corrupt="error"``.
    """

    image_shape: tuple[int, int, int]

    def __init__(
        self,
        source: Source,
        batch_size: int,
        eval_batch_size: int | None = None,
        train_transforms: str = "",
        eval_transforms: str = "",
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        workers: int = 0,
        on_corrupt: str = "error",
        seed: int = 0,
    ):
        """Checks everything and reads one image.

        Args:
            source: where examples come from.
            batch_size: of the global training batch, over all hosts.
            eval_batch_size: of the global evaluation batch; None means ``batch_size``.
            train_transforms: a pipeline, see `vitjax.data.transforms.parse`.
            eval_transforms: the same for evaluation.
            mean: what `normalize` takes away, one for each channel or one for all, where 1 is
                white; None means 0.
            std: what `normalize` divides by; None means 1.
            workers: processes that read ahead; 0 reads ahead in threads of this process.
            on_corrupt: "error", or "skip" to replace a corrupt image by a masked black one.
            seed: of order and augmentation.

        Raises:
            ConfigError: a value makes no sense.
            DataError: the images and a value do not go together.
        """
        self.source = source
        self.seed = whole(seed, "seed", 0)
        self.batch_size = whole(batch_size, "batch_size", 1)
        self.eval_batch_size = (
            self.batch_size
            if eval_batch_size is None
            else whole(eval_batch_size, "eval_batch_size", 1)
        )
        self._workers: int | None = whole(workers, "workers", 0)
        self._skip_corrupt = skips_corrupt(on_corrupt)
        self._train = self._parse(train_transforms, f"{WHERE}.train_transforms", evaluated=False)
        self._eval = self._parse(eval_transforms, f"{WHERE}.eval_transforms", evaluated=True)
        self.skipped: dict[str, str] = {}
        self.class_names = source.class_names
        self.num_classes = self.num_train_classes = len(source.class_names)
        self.splits = tuple(source.splits)
        first = next((s for s in ("val", "test", "train") if s in source.splits), None)
        held_out = self._examples(first or next(iter(source.splits)), self._eval)
        self.image_shape = held_out.shape
        self._eval_dtype = held_out.dtype
        trained = self._examples("train", self._train)
        self._train_shape = trained.shape, trained.dtype
        self._normalization = Normalization.of(mean, std, self.image_shape[-1])

    @property
    def steps_per_epoch(self) -> float:  # type: ignore[override]
        """Training batches in which every example is seen once; seldom an integer."""
        return self.num_examples("train") / self.batch_size

    def num_examples(self, split: str) -> int:
        """How many examples ``split`` has."""
        return len(self.source.split(split))

    def train_batches(
        self, start: int = 0, process_index: int = 0, process_count: int = 1
    ) -> BatchIterator:
        """This host's share of the training batches, without end.

        Epochs are shuffled anew and run into one another: every ``num_examples("train")`` examples
        in a row, counted from the first, are each example once. The shares of all hosts, one after
        the other, are the batch that one host alone would get.

        Args:
            start: how many batches were consumed already; going on costs nothing.
            process_index: this host.
            process_count: how many hosts there are.

        Returns:
            An iterator over dicts of ``image`` (b, height, width, channels), uint8 or float32,
            ``label`` (b,) int32 and ``mask`` (b,) bool, b = batch_size / process_count. The mask is
            False where a corrupt image was skipped.

        Raises:
            ConfigError: ``batch_size`` cannot be divided by ``process_count``.
            DataError: there is no split "train"; or, from the iterator, an image is corrupt or of
                another size than the others.
        """
        rows = rows_of(self.batch_size, process_index, process_count, "batch_size")
        batches = TrainBatches(
            self._train_rows(), self.seed, self.batch_size, rows, whole(start, "start", 0)
        )
        return BatchIterator(batches, self._workers, self._note_skipped)

    def eval_batches(
        self, split: str, process_index: int = 0, process_count: int = 1
    ) -> BatchIterator:
        """This host's share of the batches of ``split``, in order and with an end.

        Every example comes once with its mask True. The last batch is filled up with black images
        whose mask is False, so all batches have one shape and all hosts the same number of them.

        Args:
            split: its name.
            process_index: this host.
            process_count: how many hosts there are.

        Returns:
            An iterator, with a length, over dicts as those of `train_batches`.

        Raises:
            ConfigError: ``eval_batch_size`` cannot be divided by ``process_count``.
            DataError: there is no such split; or, from the iterator, an image is corrupt or of
                another size than the others.
        """
        rows = rows_of(self.eval_batch_size, process_index, process_count, "eval_batch_size")
        batches = EvalBatches(self._examples(split, self._eval), self.eval_batch_size, rows)
        return BatchIterator(batches, self._workers, self._note_skipped)

    def normalize(self, inputs: Any) -> Any:
        """Images as a model wants them: (x - mean) / std, uint8 ones scaled to [0, 1] before.

        For use inside ``jit``, so that batches travel to the device as bytes.

        Args:
            inputs: uint8 or floats, (..., channels).

        Returns:
            float32 of the same shape.
        """
        return self._normalization(inputs)

    def _note_skipped(self, problems: Mapping[str, str]) -> None:
        for name, problem in problems.items():
            if name not in self.skipped:
                self.skipped[name] = problem
                _log.warning("skipped a corrupt image: %s", problem)

    def _train_rows(self) -> Any:
        """The rows that training batches consist of."""
        return self._examples("train", self._train)

    def _parse(self, text: str, where: str, evaluated: bool) -> Pipeline:
        """The pipeline that ``text`` at key ``where`` describes."""
        raise NotImplementedError

    def _examples(self, name: str, pipeline: Pipeline) -> Any:
        """The rows of split ``name`` after ``pipeline``, with their ``shape`` and ``dtype``."""
        raise NotImplementedError


class Data(Batched):
    """Batches of one source of labelled images: what the trainer knows of data."""

    @property
    def augments(self) -> bool:
        """Whether training sees other images than evaluation does, or others each time."""
        return self._train.random or self._train.text != self._eval.text

    def labels(self, split: str) -> np.ndarray:
        """The class index of each example of ``split``, int32 of shape (examples,)."""
        return self.source.split(split).labels

    def describe(self) -> dict[str, Any]:
        """What `recall` needs, as JSON values: class names, examples, an image's raw size."""
        split = self.source.split("train")
        for index in range(len(split)):
            try:
                image, _ = split.read(index)
                break
            except CorruptImage:
                continue
        return {
            "class_names": list(self.class_names),
            "examples": {name: len(held) for name, held in self.source.splits.items()},
            "image": {"shape": list(image.shape), "dtype": image.dtype.name},
        }

    @classmethod
    def blank(cls, description: Mapping[str, Any], **keywords: Any) -> Data:
        """Data of the same sizes and names as those described, all images black.

        Args:
            description: what `describe` gave.
            **keywords: as `Data` takes them.
        """
        shape, dtype = description["image"]["shape"], description["image"]["dtype"]
        splits = {
            name: ArraySplit(
                # One image seen from every index: no memory, however many there were.
                images=np.broadcast_to(np.zeros(shape, dtype), (count, *shape)),
                labels=np.broadcast_to(np.int32(0), (count,)),
                origin=f"blank {name}",
            )
            for name, count in description["examples"].items()
        }
        return cls(Source(splits, tuple(description["class_names"])), **keywords)

    def example(self, split: str, index: int) -> np.ndarray:
        """The image at ``index`` of ``split`` as it is evaluated: (height, width, channels).

        Raises:
            CorruptImage: it cannot be read.
        """
        return self._eval(self.source.split(split).read(index)[0], np.random.default_rng(0))

    def read_image(self, path: str | os.PathLike[str]) -> np.ndarray:
        """An image file made ready as an evaluated example is: (height, width, channels).

        Raises:
            DataError: it cannot be read, or the transforms do not bring it to `image_shape`.
        """
        return read_image(path, self._eval, self.image_shape)

    def example_batch(self, evaluated: bool = False) -> Batch:
        """A batch of one blank example: shapes and dtypes as a step or an evaluation is fed."""
        shape, dtype = self._train_shape
        if evaluated:
            shape, dtype = self.image_shape, self._eval_dtype
        return {
            "image": np.zeros((1, *shape), dtype),
            "label": np.zeros(1, np.int32),
            "mask": np.ones(1, bool),
        }

    def _parse(self, text: str, where: str, evaluated: bool) -> Pipeline:
        return parse(text, where)

    def _examples(self, name: str, pipeline: Pipeline) -> Examples:
        split = self.source.split(name)
        if not len(split):
            raise DataError(f"split {name!r} has no examples")
        shape, dtype = probe(split, pipeline, self._skip_corrupt)
        return Examples(split, pipeline, self.seed, shape, dtype, self._skip_corrupt)
