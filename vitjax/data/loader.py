"""The loader: batches by number, read ahead, for examples and episodes alike."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from vitjax.core.validation import NonNegativeInt, check_value
from vitjax.data.dataset import Dataset
from vitjax.data.iterator import Batches, BatchIterator
from vitjax.data.settings import LoaderSettings
from vitjax.data.share import Share, rows_of

_log = logging.getLogger(__name__)


class Loader(Dataset):
    """A `Dataset` whose batches are made by number; subclasses say what they are.

    Attributes:
        settings_class: the keys of section ``data`` that it reads.
        seed: of order and augmentation in training.
    """

    settings_class: ClassVar[type[LoaderSettings]] = LoaderSettings

    def __init__(self, settings: LoaderSettings, seed: int, workers: int = 0):
        """Sets what all kinds of data have.

        Args:
            settings: the values of the keys.
            seed: of order and augmentation in training.
            workers: as of `vitjax.data.iterator.BatchIterator`.
        """
        check_value(seed, NonNegativeInt, "seed")
        self.seed = seed
        self.batch_size = settings.batch_size
        self.eval_batch_size = settings.eval_batch_size or settings.batch_size
        self.skipped: dict[str, str] = {}
        self._workers = workers

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        """Checks values that are names of something, before anything is read.

        Args:
            settings: of `settings_class`.

        Raises:
            ConfigError: a name is unknown, or a value cannot be used.
        """
        del settings

    @abstractmethod
    def _train(self, share: Share) -> Batches:
        """The training batches of one host."""

    @abstractmethod
    def _evaluate(self, split: str, share: Share) -> Batches:
        """The evaluation batches of one host, for a split that exists."""

    def train_batches(
        self, start: int = 0, process_index: int = 0, process_count: int = 1
    ) -> BatchIterator:
        """This host's part of the training batches, without end; see `Dataset.train_batches`."""
        if start < 0:
            raise ValueError(f"start is {start}; it must be at least 0")
        rows = rows_of(self.batch_size, process_index, process_count, "batch_size")
        return self._iterator(self._train(Share(self.batch_size, rows, start)))

    def eval_batches(
        self, split: str, process_index: int = 0, process_count: int = 1
    ) -> BatchIterator:
        """This host's part of the batches of ``split``; see `Dataset.eval_batches`."""
        rows = rows_of(self.eval_batch_size, process_index, process_count, "eval_batch_size")
        total = self.num_examples(split)
        return self._iterator(self._evaluate(split, Share(self.eval_batch_size, rows, total=total)))

    def _iterator(self, batches: Batches) -> BatchIterator:
        return BatchIterator(batches, self._workers, self._note_skipped)

    def _note_skipped(self, problems: Mapping[str, str]) -> None:
        for name, problem in problems.items():
            if name not in self.skipped:
                self.skipped[name] = problem
                _log.warning("skipped a corrupt image: %s", problem)
