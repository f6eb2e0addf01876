"""Image classification: class probabilities of files, confusion matrix, worst mistakes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitjax import figures
from vitjax.core.atomic import write_text
from vitjax.data import LabelledDataset
from vitjax.objectives import Classifier
from vitjax.objectives.batches import cut
from vitjax.tasks.images import ImageTask
from vitjax.tasks.tables import aligned, class_counts, say_counts
from vitjax.training.checkpoints import CheckpointError
from vitjax.training.evaluation import Evaluator
from vitjax.training.experiment import Experiment
from vitjax.training.features import on_features
from vitjax.training.step import step_key
from vitjax.training.task import TASKS

TOP = 5
_MISTAKES = 25
_SHOWN = 36
_BATCH = 64


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

    def predict(
        self, variables: Any, files: Sequence[str | Path], output: str | Path | None
    ) -> list[dict[str, Any]]:
        """The most probable classes of image files.

        With ``output``, ``predictions.jsonl`` and ``predictions.png`` are written there.

        Returns:
            For each file ``{"image": path, "predictions": [..]}``: the five most probable classes
            in order, ``{"class": name, "probability": number}``.
        """
        images = [self.data.read_image(path) for path in files]
        step = jax.jit(self.objective.predict)
        probabilities = np.concatenate(
            [np.asarray(step(variables, {"image": batch})) for batch in _batches(images)]
        )
        if not np.isfinite(probabilities).all():
            raise CheckpointError("the checkpoint's model gives probabilities of NaN")
        names = self.class_names
        results = []
        for path, row in zip(files, probabilities, strict=True):
            order = np.argsort(-row, kind="stable")[:TOP]
            top = [{"class": names[i], "probability": round(float(row[i]), 6)} for i in order]
            results.append({"image": str(path), "predictions": top})
        if output is not None:
            lines = "".join(json.dumps(result) + "\n" for result in results)
            write_text(Path(output) / "predictions.jsonl", lines)
            titles = [str(path) for path in files]
            figures.predictions(
                images, titles, probabilities, names, Path(output) / "predictions.png"
            )
        return results

    def table(self, predictions: Sequence[Mapping[str, Any]]) -> list[str]:
        """A line per image: its classes and their probabilities."""
        return aligned(
            (each["image"], {p["class"]: p["probability"] for p in each["predictions"]})
            for each in predictions
        )

    def report(
        self,
        evaluator: Evaluator,
        variables: Any,
        results: Mapping[str, Mapping[str, Any]],
        folder: Path,
    ) -> None:
        """Draws the confusion matrix and the most confident mistakes of the first split."""
        for split in list(results)[:1]:
            found, index = evaluator.gather(self._predictions, variables, split)
            if jax.process_index() == 0:
                self._draw({**found, "index": index}, split, folder)

    def _predictions(self, variables: Mapping[str, Any], batch: Mapping[str, Any]) -> Any:
        """The class of each example, the predicted class and its probability."""
        likely, labels = self.objective.predict(variables, batch), batch["label"]
        return {
            "label": labels if labels.ndim == 1 else jnp.argmax(labels, axis=-1),
            "prediction": jnp.argmax(likely, axis=-1),
            "confidence": jnp.max(likely, axis=-1),
        }

    def _draw(self, found: Mapping[str, np.ndarray], split: str, folder: Path) -> None:
        labels, guesses, confidence = (found[k] for k in ("label", "prediction", "confidence"))
        names = self.class_names
        counts = figures.count_confusions(labels, guesses, len(names))
        figures.confusion_matrix(counts, names, folder / "confusion_matrix.png")
        wrong = np.flatnonzero(labels != guesses)
        worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:_MISTAKES]
        images = [self.data.example(split, int(found["index"][i])) for i in worst]
        figures.mistakes(
            images, labels[worst], guesses[worst], confidence[worst], names, folder / "mistakes.png"
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
        with contextlib.closing(data.train_batches()) as batches:
            images, titles = self._as_trained(next(batches))
        figures.image_grid(images[:_SHOWN], titles[:_SHOWN], output)
        say(f"The first {min(_SHOWN, len(images))} images of the first batch: {output}")
        return counts

    def _as_trained(self, batch: Any) -> tuple[np.ndarray, list[str]]:
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


def unit_range(images: Any) -> Any:
    """Images of bytes as floats in 0..1; other images unchanged."""
    return images.astype("float32") / 255 if images.dtype == np.uint8 else images


def _batches(images: Sequence[np.ndarray], size: int = _BATCH) -> Iterator[jax.Array]:
    """Batches of the images, small enough for any number of images."""
    for start in range(0, len(images), size):
        yield jnp.asarray(np.stack(images[start : start + size]))
