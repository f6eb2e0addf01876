"""A run's model in Python: its variables, preprocessing, predictions and adaptation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from vitjax.core.validation import check_keywords, keywords_of
from vitjax.data.any_image import AnyImage, several
from vitjax.models.protocol import Model
from vitjax.tasks.reading import some, stacked
from vitjax.training.experiment import Experiment


class Preprocess:
    """Prepares images for a run's model, as in evaluation.

    Attributes:
        class_names: the names of the model's outputs.
    """

    def __init__(self, experiment: Experiment):
        self._data = experiment.data
        self.class_names = experiment.task.class_names

    def __call__(self, *images: AnyImage) -> Float[Array, "batch ..."]:
        """A batch of images, transformed as in evaluation and normalised.

        Args:
            *images: paths, Pillow images, or pixels as arrays (height, width) or (height, width,
                channels) of uint8, uint16 or floats where 1 is white. A file, what Pillow opens and
                its pixels give the same.

        Raises:
            DataError: an image cannot be read; the message names it.
        """
        return self.normalize(stacked([self._data.read_image(x) for x in several(images)]))

    def normalize(self, images: np.ndarray) -> Float[Array, "batch ..."]:
        """Images that have the model's size already, such as those of a batch, normalised alone."""
        normalized: Array = self._data.normalize(images)
        return normalized


class Loaded:
    """A run's model, ready to use.

    >>> run = vitjax.load("runs/digits")
    >>> run.predict("seven.png")[0]["predictions"][0]
    {'class': '7', 'probability': 0.998}
    >>> logits = run.model.apply(run.variables, run.preprocess("seven.png"))

    It can be unpacked as ``model, variables, preprocess``.

    Attributes:
        model: a Linen module: ``model.apply(variables, images)``.
        variables: those of the model, one copy: the moving average if the run keeps one.
        preprocess: turns images into inputs of the model.
        class_names: the names of the model's outputs; of a few-shot run, the classes that it was
            trained on, and those of a support set are of what `adapt` returns.
    """

    def __init__(self, experiment: Experiment, variables: Any):
        """Takes an experiment and the variables of its objective, one copy."""
        objective = experiment.objective
        self.model: Model = objective.model
        self.variables: dict[str, Any] = objective.unwrap(variables)
        self.preprocess = Preprocess(experiment)
        self.class_names: tuple[str, ...] = self.preprocess.class_names
        self._experiment, self._variables = experiment, variables

    def __iter__(self) -> Iterator[Any]:
        return iter((self.model, self.variables, self.preprocess))

    def predict(
        self, images: AnyImage | Sequence[AnyImage], **options: Any
    ) -> list[dict[str, Any]]:
        """The predictions for images, as `vitjax.predict` returns them.

        A classification gives ``{"image": name, "predictions": [{"class": .., "probability": ..},
        ..]}``; a segmentation ``{"image": name, "fractions": {..}, "mask": array}`` with the class
        of each pixel by number.

        Args:
            images: one or several paths, Pillow images or arrays, as in `Preprocess`.
            **options: keywords of the task's `Task.predict`, such as ``top=1`` or ``tta=True``.

        Raises:
            DataError: an image cannot be read.
            ConfigError: no images are given, or the task has no predictions or no such option.
        """
        task = self._experiment.task
        pictures = some(images)
        if "support" in options and "support" not in keywords_of(task.predict):
            raise task.no_adaptation()
        check_keywords(
            task.predict, options, where="predict", given=("variables", "files", "output")
        )
        return task.predict_images(self._variables, pictures, **options)

    def adapt(self, support: Any, *, transductive: bool = False) -> Any:
        """A classifier of new classes from a few images of each; of a few-shot run.

        >>> classifier = vitjax.load("runs/glyphs").adapt("support")
        >>> classifier.predict("new.png")[0]["predictions"][0]["class"]
        'daisy'

        Args:
            support: a folder with a folder of images per class, or the images of each class by
                name; any number of images per class.
            transductive: see `vitjax.tasks.adapted.AdaptedClassifier`, which is returned.

        Raises:
            ConfigError: the run is not few-shot classification, or its head cannot take the
                classes.
            DataError: an image cannot be read.
        """
        return self._experiment.task.adapt(self._variables, support, transductive=transductive)
