"""Episodes made into batches."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from vitjax.core.text import near_match
from vitjax.data.episodes.batching import look_up
from vitjax.data.episodes.settings import FunctionEpisodeSettings
from vitjax.data.errors import DataError
from vitjax.data.iterator import Batches
from vitjax.data.loader import Loader
from vitjax.data.samplers.streams import Stream
from vitjax.data.settings import LoaderSettings
from vitjax.data.share import Share
from vitjax.data.transforms.pipeline import Pipeline

# Training has no end; this says so where a number is needed.
ENDLESS_EPISODES = 2**31


class Family(Protocol):
    """Functions of one kind, whose parameters are drawn uniformly for each episode.

    Attributes:
        name: of the kind.
        inputs: the least and the greatest input.
        parameters: the name of each parameter to its least and greatest value.
    """

    name: str
    inputs: tuple[float, float]
    parameters: Mapping[str, tuple[float, float]]

    def __call__(self, x: np.ndarray, *parameters: np.ndarray) -> np.ndarray:
        """The targets at ``x``; the parameters, in order, broadcast against it."""
        ...


class EpisodeData(Loader):
    """Batches of few-shot episodes, each with a support set and a query set.

    An episode follows from its number, its split and a seed alone: the run's in training, the
    section's ``eval_seed`` in evaluation. So the fixed episodes of an evaluation depend neither on
    the run's seed nor on the batch size. The last batch of an evaluation is padded with repeated
    episodes, whose ``mask`` is False.

    Batches are dicts of ``support`` and ``query``, which are dicts of arrays whose first axes are
    (episodes, places): ``input`` (or, with a `store`, ``index`` int32), ``target`` (labels, int32,
    from 0 to ways - 1, permuted in each episode; float32 (episodes, places, 1) for regression),
    ``class`` (int32, the class's number in the split) and ``mask`` (False where an image only fills
    a place); and of ``mask`` (episodes,).

    Attributes:
        target: "class" or "number".
        settings: of the section ``episodes``.
        class_names: of all classes of the source.
        num_classes: outputs that a model needs: the most ways of an episode, or the width of a
            regression's target.
        num_train_classes: classes of split "train", turned ones included.
        family: the functions of episodes of regression, if they are known: figures show them.
        fitting: transforms for images of other sizes than the data's, where a run has none of its
            own; None elsewhere.
        store: None, or {"image": all images of all splits, then their turned copies}. With a store,
            batches hold "index" in place of "input", and `look_up` brings the images.
    """

    episodic = True
    steps_per_epoch: None = None
    look_up = staticmethod(look_up)
    family: Family | None = None
    fitting: Pipeline | None = None

    def __init__(
        self,
        settings: LoaderSettings,
        episodes: FunctionEpisodeSettings,
        seed: int,
        workers: int = 0,
    ):
        super().__init__(settings, seed, workers)
        self.settings = episodes

    @abstractmethod
    def _batches(self, split: str, stream: Stream, share: Share, training: bool) -> Batches:
        """The episodes of ``split`` that ``stream`` selects."""

    def classes(self, split: str) -> tuple[str, ...]:
        """The names of the classes of ``split``, as batches number them; none for regression."""
        self._check_split(split)
        return ()

    @abstractmethod
    def counts(self) -> dict[str, dict[str, int]]:
        """For each split its ``classes``, ``images`` and the ``fewest`` images of a class."""

    def num_examples(self, split: str) -> int:
        """The number of fixed episodes of ``split``; for "train", 2^31 stands for no end."""
        self._check_split(split)
        return ENDLESS_EPISODES if split == "train" else self.settings.episodes(split)

    def protocol(self, split: str) -> dict[str, Any]:
        """``ways``, ``shots``, ``queries`` and ``episodes`` of an evaluation, for reports."""
        self._check_split(split)
        return self.settings.protocol(split)

    def _train(self, share: Share) -> Batches:
        return self._batches("train", Stream(self.seed, "train"), share, training=True)

    def _evaluate(self, split: str, share: Share) -> Batches:
        stream = Stream(self.settings.eval_seed, f"evaluate {split}")
        # The fixed episodes of "train" have an end too, although training has none.
        share = dataclasses.replace(share, total=self.settings.episodes(split))
        return self._batches(split, stream, share, training=False)

    def _check_split(self, split: str) -> None:
        if split not in self.splits:
            raise DataError(
                f"no split {split!r}{near_match(split, self.splits)} (there are:"
                f" {', '.join(self.splits)})"
            )
