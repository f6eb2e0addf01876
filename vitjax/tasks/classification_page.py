"""What the page of a classification shows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vitjax import figures
from vitjax.metrics import ClassScores
from vitjax.tasks.tables import short_name
from vitjax.training.page import (
    Block,
    Confusions,
    Explained,
    Grid,
    Part,
    Picture,
    Pictures,
    Reliability,
    Watched,
    Words,
)

if TYPE_CHECKING:
    from vitjax.tasks.classification import Classification

_MISTAKES, _HITS, _TRAINED, _WATCHED = 12, 8, 16, 6
# With more classes, the matrix would be larger than the page: only the largest cells are listed.
_MATRIX, _CELLS = 64, 50


class ClassificationPage:
    """The parts of the page of a classification.

    Args:
        task: the task.
        gathered: computes the predictions of all examples of ``split``, and their indices.
        split: the split that is shown.
    """

    def __init__(self, task: Classification, gathered: Callable[[], Any], split: str):
        self._task, self._gathered, self._split = task, gathered, split

    def parts(self, *, slow: bool) -> list[Part]:
        """All parts; ``slow`` says whether ``gathered`` evaluates the split again."""
        return [
            Part("Confusion matrix", self._confusions, slow),
            Part("Classes", self._classes, slow),
            Part("Calibration", self._calibration, slow),
            Part("Mistakes", self._mistakes, slow),
            Part("Most certain hits", self._hits, slow),
            Part("Images as trained on", self._trained, not self._reads_training),
            Part("The same images over training", self._over_time, True),
        ]

    @property
    def _reads_training(self) -> bool:
        return "train" in self._task.data.splits

    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Labels, predictions, probabilities of these, and indices."""
        found, index = self._gathered()
        return found["label"], found["prediction"], found["confidence"], index

    def _confusions(self) -> Iterator[Block]:
        labels, guesses, _, _ = self._arrays()
        names = self._task.class_names
        counts = figures.count_confusions(labels, guesses, len(names))
        if len(names) <= _MATRIX:
            yield Confusions(counts.toarray(), names)
            return
        wrong = np.flatnonzero(counts.row != counts.col)
        order = wrong[np.argsort(-counts.data[wrong], kind="stable")][:_CELLS]
        yield Words(
            f"{len(names):,} classes are too many for a matrix: the {len(order)} most frequent"
            " confusions."
        )
        yield Grid(
            ("true class", "predicted class", "examples"),
            [(names[counts.row[i]], names[counts.col[i]], int(counts.data[i])) for i in order],
        )

    def _classes(self) -> Iterator[Block]:
        labels, guesses, _, _ = self._arrays()
        names = self._task.class_names
        number = len(names)
        scores = ClassScores.of(
            np.bincount(labels[labels == guesses], minlength=number),
            np.bincount(guesses, minlength=number),
            np.bincount(labels, minlength=number),
        )
        columns = [values.tolist() for values in scores]
        yield Grid(
            ("class", *scores._fields),
            list(zip(names, *columns, strict=True)),
            ("precision", "recall", "f1"),
        )

    def _calibration(self) -> Iterator[Block]:
        labels, guesses, confidence, _ = self._arrays()
        yield Reliability(confidence, labels == guesses)

    def _mistakes(self) -> Iterator[Block]:
        labels, guesses, confidence, _ = self._arrays()
        wrong = np.flatnonzero(labels != guesses)
        if not len(wrong):
            yield Words("Every example is right.")
            return
        chosen = wrong[np.argsort(-confidence[wrong], kind="stable")][:_MISTAKES]
        yield Words(
            f"{len(wrong):,} of {len(labels):,} examples are wrong; these {len(chosen)} with the"
            " highest probability. The map explains the predicted class."
        )
        yield self._explained(chosen)

    def _hits(self) -> Iterator[Block]:
        labels, guesses, confidence, _ = self._arrays()
        right = np.flatnonzero(labels == guesses)
        if not len(right):
            yield Words("No example is right.")
            return
        order = right[np.argsort(-confidence[right], kind="stable")]
        # One of each class first: the most certain of all are often of one class.
        _, first = np.unique(labels[order], return_index=True)
        chosen = [*order[np.sort(first)], *np.delete(order, first)][:_HITS]
        yield self._explained(np.asarray(chosen))

    def _explained(self, chosen: np.ndarray) -> Explained:
        labels, guesses, confidence, index = self._arrays()
        names = self._task.class_names
        pictures = []
        for place in chosen.tolist():
            truth, guess = names[labels[place]], names[guesses[place]]
            likely = f"{confidence[place]:.1%}"
            caption = f"{guess} {likely}"
            if truth != guess:
                caption = f"predicted {caption}, true {truth}"
            pictures.append(self._picture(int(index[place]), caption, truth))
        return Explained(pictures, guesses[chosen].tolist())

    def _picture(self, number: int, caption: str, truth: str) -> Picture:
        name = short_name(self._task.data.name(self._split, number))
        return Picture(
            self._task.data.example(self._split, number),
            f"{caption} ({name})",
            f"{name}, an image of class {truth}",
        )

    def _trained(self) -> Iterator[Block]:
        with contextlib.closing(self._task.data.train_batches()) as batches:
            images, titles = self._task.as_trained(next(batches))
        yield Words(
            "The first images of the first batch, augmented and mixed as the step has them."
        )
        yield Pictures(
            [
                Picture(image, title.replace("\n", ", "), f"a training image, {title}")
                for image, title in zip(images[:_TRAINED], titles[:_TRAINED], strict=True)
            ]
        )

    def _over_time(self) -> Iterator[Block]:
        labels: Sequence[int] = self._task.data.labels(self._split).tolist()
        names = self._task.class_names
        # The first image of each of the first classes.
        numbers = [labels.index(label) for label in sorted(set(labels))[:_WATCHED]]
        targets = [int(labels[number]) for number in numbers]
        pictures = [
            self._picture(number, names[target], names[target])
            for number, target in zip(numbers, targets, strict=True)
        ]
        yield Watched(pictures, targets)
