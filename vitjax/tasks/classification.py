"""Image classification: class probabilities of files, confusion matrix, worst mistakes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitjax import figures
from vitjax.core.text import Say
from vitjax.core.validation import PositiveInt
from vitjax.data import LabelledDataset
from vitjax.data.any_image import AnyImage
from vitjax.metrics import ClassScores, reaction_times, right_at_steps, wilson
from vitjax.objectives import Classifier
from vitjax.objectives.batches import cut
from vitjax.tasks.classification_page import ClassificationPage
from vitjax.tasks.images import ImageTask
from vitjax.tasks.inspecting import say_stored
from vitjax.tasks.output import FIGURE, OutputFolder, figure
from vitjax.tasks.reading import BATCH, OnCorrupt, answers, check_shape, unit_range
from vitjax.tasks.tables import (
    TOP,
    aligned_ranks,
    class_counts,
    ranked,
    ranked_row,
    say_counts,
    short_name,
)
from vitjax.training import finite
from vitjax.training.evaluation import Evaluator
from vitjax.training.experiment import Experiment
from vitjax.training.features import on_features
from vitjax.training.page import Part, Score
from vitjax.training.step import step_key
from vitjax.training.task import TASKS, Details, Table

_MISTAKES = 25
_SHOWN = 36
_PREDICTED = 24  # images of the figure of predictions
# With more classes, a file of the confusion matrix has only its cells that are not 0.
_DENSE = 1000


@TASKS.register("classification")
class Classification(ImageTask[LabelledDataset, Classifier]):
    """Image classification."""

    needed_data = LabelledDataset
    needed_objective = Classifier

    def prepare(
        self, variables: Mapping[str, Any], cache: Path, say: Callable[[str], None]
    ) -> Experiment:
        """The experiment on cached features, if the objective trains on those."""
        experiment = super().prepare(variables, cache, say)
        if not self.objective.caches_features:
            return experiment
        return on_features(experiment, self.objective, variables, cache, say)

    def check_prediction(self, files: Sequence[Any], options: Mapping[str, Any]) -> None:
        """As of `ImageTask`; reads the first image to see that it has the model's size."""
        super().check_prediction(files, options)
        check_shape(self.data.read_image, files)

    def predict(
        self,
        variables: Any,
        files: Sequence[AnyImage],
        output: str | os.PathLike[str] | None,
        *,
        top: PositiveInt = TOP,
        tta: bool = False,
        batch_size: PositiveInt = BATCH,
        on_corrupt: OnCorrupt = "error",
    ) -> Iterator[dict[str, Any]]:
        """Yields the most probable classes of images.

        Threads read images ahead of the model, and one batch of them is in memory. ``output``
        receives ``predictions.png``, with the first images.

        Args:
            variables: those of the objective, one copy.
            files: paths, Pillow images or arrays.
            output: the folder for the figure; None draws none.
            top: the number of classes of a result.
            tta: whether to average the probabilities of an image and of its mirror image.
            batch_size: the number of images that pass through the model at once.
            on_corrupt: "skip" to yield an error for an image that cannot be read.

        Yields:
            For each image ``{"image": path, "predictions": [..]}``: the ``top`` most probable
            classes in order, ``{"class": name, "probability": number}``; or its ``"error"``.

        Raises:
            DataError: an image cannot be read.
            ConfigError: the figure would replace a file that no earlier command wrote.
        """
        folder = OutputFolder.of(output)
        if folder is not None:
            folder.check([FIGURE])
        compute = functools.partial(self._compiled, variables, tta=tta)
        names, shown, count = self.class_names, [], 0
        for answer in answers(compute, self.data.read_image, files, batch_size, on_corrupt):
            if answer.values is None:
                yield answer.failure
                continue
            finite.check_outputs(
                answer.values, f"{answer.name}: the checkpoint's model", self.objective.model
            )
            count += 1
            if folder is not None and count <= _PREDICTED:
                shown.append(answer)
            yield {"image": answer.name, "predictions": ranked(names, answer.values, top)}
        if folder is not None and shown:
            with figure(folder, FIGURE) as path:
                figures.predictions(
                    [answer.image for answer in shown],
                    [answer.name for answer in shown],
                    np.stack([np.asarray(answer.values) for answer in shown]),
                    names,
                    path,
                    total=count,
                )

    @functools.cached_property
    def _compiled(self) -> Any:
        """`_probabilities`, which further calls of `predict` do not compile again."""
        return jax.jit(self._probabilities, static_argnames="tta")

    def _probabilities(self, variables: Any, images: Any, tta: bool) -> Any:
        """The probabilities of a batch, (images, classes)."""
        likely = self.objective.predict(variables, {"image": images})
        if not tta:
            return likely
        mirrored = self.objective.predict(variables, {"image": jnp.flip(images, axis=2)})
        return (likely + mirrored) / 2

    def row(self, prediction: Mapping[str, Any]) -> dict[str, Any]:
        """The classes and their probabilities in order."""
        return ranked_row(prediction)

    def table(self, predictions: Sequence[Mapping[str, Any]]) -> list[str]:
        """A line per image: its classes and their probabilities."""
        return aligned_ranks(predictions)

    def evaluate_in_detail(self, evaluator: Evaluator, variables: Any, split: str) -> Details:
        """`evaluate`, and tables of classes, of confusions and of the prediction for each image."""
        with evaluator.also_gathering(self._predictions) as gathered:
            results = self.evaluate(evaluator, variables, split)
        found, index = gathered.values, gathered.index
        if index is None:  # a task of one's own evaluates in another way
            found, index = evaluator.gather(self._predictions, variables, split)
        labels, guesses, confidence = (found[k] for k in ("label", "prediction", "confidence"))
        names = self.class_names
        tables = {
            "per_class": _per_class(names, labels, guesses),
            "confusion_matrix": _confusions(names, labels, guesses),
            "predictions": Table(
                ("file", "label", "prediction", "probability"),
                [
                    (self.data.name(split, number), names[label], names[guess], float(likely))
                    for number, label, guess, likely in zip(
                        *(array.tolist() for array in (index, labels, guesses, confidence)),
                        strict=True,
                    )
                ],
            ),
        }
        return Details(results, tables)

    def report(
        self,
        evaluator: Evaluator,
        variables: Any,
        results: Mapping[str, Mapping[str, Any]],
        folder: Path,
    ) -> None:
        """Draws the confusion matrix and the most confident mistakes of the first split.

        Of a recurrent network also the accuracy over time.
        """
        for split in list(results)[:1]:
            found, index = self.gathered(evaluator, self._predictions, variables, split)
            if jax.process_index() == 0:
                self._draw({**found, "index": index}, split, folder, evaluator.say)

    def scores(self, results: Mapping[str, Any]) -> list[Score]:
        """As of every task, with Wilson intervals of accuracies."""
        number = results.get("examples", 0)
        found = []
        for score in super().scores(results):
            # Means over examples of what is 0 or 1.
            if score.name in self.objective.accuracies and number:
                low, high = wilson(round(score.value * number), number)
                score = score._replace(low=low, high=high, interval="Wilson")
            found.append(score)
        return found

    def parts(
        self, evaluator: Evaluator, variables: Any, results: Mapping[str, Mapping[str, Any]]
    ) -> list[Part]:
        """Confusions, classes, calibration, mistakes, hits, training images, images over time."""
        split = next(iter(results), None)
        if split is None:
            return []
        gathered = functools.partial(self.gathered, evaluator, self._predictions, variables, split)
        page = ClassificationPage(self, gathered, split)
        return page.parts(slow=not self.has_gathered(variables, split))

    def _predictions(self, variables: Mapping[str, Any], batch: Mapping[str, Any]) -> Any:
        """The class of each example, the predicted class and its probability."""
        likely, labels = self.objective.predict(variables, batch), batch["label"]
        found = {
            "label": labels if labels.ndim == 1 else jnp.argmax(labels, axis=-1),
            "prediction": jnp.argmax(likely, axis=-1),
            "confidence": jnp.max(likely, axis=-1),
        }
        if self.objective.time_steps:
            logits = self.objective.logits_over_time(variables, batch)
            found["right_at_steps"] = right_at_steps(logits, found["label"])
            found["reaction_time"] = reaction_times(logits, self.objective.entropy_threshold)
        return found

    def _draw(
        self, found: Mapping[str, np.ndarray], split: str, folder: Path, say: Say | None
    ) -> None:
        labels, guesses, confidence = (found[k] for k in ("label", "prediction", "confidence"))
        names = self.class_names
        with figures.optional("confusion_matrix.png", say):
            counts = figures.count_confusions(labels, guesses, len(names))
            figures.confusion_matrix(counts, names, folder / "confusion_matrix.png")
        if "reaction_time" in found:
            steps = np.arange(1, self.objective.time_steps + 1)
            with figures.optional("accuracy_over_time.png", say):
                figures.accuracy_over_time(
                    np.mean(found["right_at_steps"], axis=0),
                    np.mean(found["reaction_time"][:, None] <= steps, axis=0),
                    folder / "accuracy_over_time.png",
                    threshold=self.objective.entropy_threshold,
                )
        wrong = np.flatnonzero(labels != guesses)
        worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:_MISTAKES]
        numbers = found["index"][worst].tolist()
        with figures.optional("mistakes.png", say):
            figures.mistakes(
                [self.data.example(split, number) for number in numbers],
                labels[worst],
                guesses[worst],
                confidence[worst],
                names,
                folder / "mistakes.png",
                files=[short_name(self.data.name(split, number)) for number in numbers],
            )

    def inspect(self, output: str | Path, say: Callable[[str], None]) -> dict[str, Any]:
        """Counts the examples of each split and class, and draws the first training images."""
        data = self.data
        counts = {
            split: class_counts(
                data.class_names, np.bincount(data.labels(split), minlength=data.num_classes)
            )
            for split in data.splits
        }
        say_counts(counts, data.class_names, say)
        say(f"images: {' x '.join(map(str, data.image_shape))}; classes: {data.num_classes}")
        say_stored(data, say)
        if "train" not in data.splits:
            return counts
        with contextlib.closing(data.train_batches()) as batches:
            images, titles = self.as_trained(next(batches))
        with figures.optional(str(output), say):
            figures.image_grid(images[:_SHOWN], titles[:_SHOWN], output)
            say(f"The first {min(_SHOWN, len(images))} images of the first batch: {output}")
        return counts

    def as_trained(self, batch: Any) -> tuple[np.ndarray, list[str]]:
        """Images in 0..1 and labels in words, as the first step or micro-batch sees them."""
        experiment, names = self.experiment, self.data.class_names
        # Mixing is linear, so it can be shown without normalisation.
        visible = dataclasses.replace(self.objective, normalize=unit_range)
        key = step_key(jax.random.key_data(jax.random.key(experiment.seed)), 0)
        parts = experiment.settings.accumulation_steps
        if parts > 1:
            batch = jax.tree.map(lambda x: np.asarray(cut(x, parts))[0], dict(batch))
            key = jax.random.fold_in(key, 0)
        images, labels = jax.device_get(visible.prepare(batch, key))
        # Label smoothing is not part of the mixture.
        fractions = labels - labels.min(axis=-1, keepdims=True)
        fractions = fractions / np.maximum(fractions.sum(axis=-1, keepdims=True), 1e-9)
        titles = [
            "\n".join(
                names[i] if row[i] > 0.995 else f"{names[i]} {row[i]:.0%}"
                for i in np.argsort(-row, kind="stable")[:2]
                if row[i] > 0.005
            )
            for row in fractions
        ]
        return images, titles


def _per_class(names: Sequence[str], labels: np.ndarray, guesses: np.ndarray) -> Table:
    """Precision, recall, F1 and the number of examples of each class."""
    number = len(names)
    scores = ClassScores.of(
        np.bincount(labels[labels == guesses], minlength=number),
        np.bincount(guesses, minlength=number),
        np.bincount(labels, minlength=number),
    )
    columns = [values.tolist() for values in scores]
    return Table(("class", *scores._fields), list(zip(names, *columns, strict=True)))


def _confusions(names: Sequence[str], labels: np.ndarray, guesses: np.ndarray) -> Table:
    """The confusion matrix: a row per true class, or for many classes a row per cell."""
    counts = figures.count_confusions(labels, guesses, len(names))
    if len(names) <= _DENSE:
        rows = [(name, *row) for name, row in zip(names, counts.toarray().tolist(), strict=True)]
        return Table(("true class", *names), rows)
    cells = zip(counts.row.tolist(), counts.col.tolist(), counts.data.tolist(), strict=True)
    return Table(
        ("true class", "predicted class", "examples"),
        [(names[row], names[column], count) for row, column, count in cells],
    )
