"""Episodes made into batches: what the trainer knows of few-shot data."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from vitjax.core.text import near_match
from vitjax.data.checks import rows_of, whole
from vitjax.data.dataset import Dataset
from vitjax.data.episodes.batching import ImageBatches, Share, look_up
from vitjax.data.episodes.sampling import Stream
from vitjax.data.episodes.settings import RegressionSettings
from vitjax.data.errors import DataError
from vitjax.data.iterator import Batches, BatchIterator

# Training goes on for as long as it is told to; this says so where a number is wanted.
ENDLESS_EPISODES = 2**31

_log = logging.getLogger(__name__)


class EpisodeData(Dataset):
    """Batches of episodes: of one few-shot task each, a support set and a query set.

    An episode follows from its number, its split and a seed alone: the run's in training, the
    section's ``eval_seed`` in evaluation.

    Attributes:
        target: "class" or "number".
        seed: of training.
        batch_size: episodes of the global training batch, over all hosts.
        eval_batch_size: of the global evaluation batch.
        splits: the names of the splits.
        class_names: of all classes of the source.
        num_classes: outputs that a model needs: the most ways of an episode, or the width of a
            regression's target.
        num_train_classes: classes of split "train", turned ones included.
        image_shape: of one evaluated input.
        skipped: as `vitjax.data.Data.skipped`.
        store: None, or {"image": all images of all splits, turned copies behind}. With a store,
            batches hold "index" where "input" would be, and `look_up` brings the images.
        steps_per_epoch: None; episodes know no epoch.
    """

    episodic = True
    steps_per_epoch: None = None
    look_up = staticmethod(look_up)

    def __init__(
        self,
        settings: RegressionSettings,
        batch_size: int,
        eval_batch_size: int | None,
        workers: int,
        seed: int,
    ):
        self.settings = settings
        self.seed = whole(seed, "seed", 0)
        self.batch_size = whole(batch_size, "batch_size", 1)
        self.eval_batch_size = (
            self.batch_size
            if eval_batch_size is None
            else whole(eval_batch_size, "eval_batch_size", 1)
        )
        self._workers = whole(workers, "workers", 0)
        self.skipped: dict[str, str] = {}

    @abstractmethod
    def _batches(self, split: str, stream: Stream, share: Share, training: bool) -> Batches:
        """The episodes of ``split`` that ``stream`` decides."""

    @abstractmethod
    def counts(self) -> dict[str, dict[str, int]]:
        """Of each split its ``classes``, its ``images`` and the ``fewest`` images of a class."""

    def num_examples(self, split: str) -> int:
        """How many fixed episodes ``split`` is evaluated on; for "train", as good as endless."""
        self._check_split(split)
        return ENDLESS_EPISODES if split == "train" else self.settings.episodes(split)

    def protocol(self, split: str) -> dict[str, Any]:
        """``ways``, ``shots``, ``queries`` and ``episodes`` of an evaluation, for reports."""
        self._check_split(split)
        return self.settings.protocol(split)

    def train_batches(
        self, start: int = 0, process_index: int = 0, process_count: int = 1
    ) -> BatchIterator:
        """This host's share of the training batches, without end.

        Batch b holds the episodes b * batch_size and on; the shares of all hosts, one after the
        other, are the batch that one host alone would get.

        Args:
            start: how many batches were consumed already; going on costs nothing.
            process_index: this host.
            process_count: how many hosts there are.

        Returns:
            An iterator over dicts of ``support`` and ``query``, which are dicts of arrays whose
            first axes are (tasks, places): ``input`` (or, with a `store`, ``index`` int32),
            ``target`` (labels, int32, from 0 to ways - 1, permuted anew in each episode; float32
            (tasks, places, 1) of a regression), ``class`` (int32, the class's number in the split)
            and ``mask`` (False where an image only fills a place); and of ``mask`` (tasks,), all
            True. ``tasks`` is batch_size / process_count.

        Raises:
            ConfigError: ``batch_size`` cannot be divided by ``process_count``.
            DataError: from the iterator, an image is corrupt or of another size than the others.
        """
        rows = rows_of(self.batch_size, process_index, process_count, "batch_size")
        share = Share(self.batch_size, rows, whole(start, "start", 0))
        batches = self._batches("train", Stream(self.seed, "train"), share, training=True)
        return self._iterator(batches)

    def eval_batches(
        self, split: str, process_index: int = 0, process_count: int = 1
    ) -> BatchIterator:
        """This host's share of the fixed episodes of ``split``, in order and with an end.

        They are the same whatever the run's seed and the size of a batch. The last batch is filled
        up with episodes that were there already, whose ``mask`` is False.

        Args:
            split: its name.
            process_index: this host.
            process_count: how many hosts there are.

        Returns:
            An iterator, with a length, over dicts as those of `train_batches`.

        Raises:
            ConfigError: ``eval_batch_size`` cannot be divided by ``process_count``.
            DataError: there is no such split; or, from the iterator, as `train_batches`.
        """
        self._check_split(split)
        rows = rows_of(self.eval_batch_size, process_index, process_count, "eval_batch_size")
        share = Share(self.eval_batch_size, rows, total=self.settings.episodes(split))
        stream = Stream(self.settings.eval_seed, f"evaluate {split}")
        return self._iterator(self._batches(split, stream, share, training=False))

    def _iterator(self, batches: Batches) -> BatchIterator:
        # Only images take time; a tenth of a millisecond is not worth another thread.
        workers = self._workers if isinstance(batches, ImageBatches) else None
        return BatchIterator(batches, workers, self._note_skipped)

    def _note_skipped(self, problems: Mapping[str, str]) -> None:
        for name, problem in problems.items():
            if name not in self.skipped:
                self.skipped[name] = problem
                _log.warning("skipped a corrupt image: %s", problem)

    def _check_split(self, split: str) -> None:
        if split not in self.splits:
            raise DataError(
                f"no split {split!r}{near_match(split, self.splits)} (there are:"
                f" {', '.join(self.splits)})"
            )
