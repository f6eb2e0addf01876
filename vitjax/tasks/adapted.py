"""Classifiers of new classes: a few-shot model that was adapted to a few images of each."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from vitjax.core.errors import ConfigError
from vitjax.core.file_lists import images_below, subfolders
from vitjax.core.paths import expanded
from vitjax.core.text import counted, near_match, shortened
from vitjax.core.validation import PositiveInt, check_keywords
from vitjax.data import EpisodeData
from vitjax.data.any_image import AnyImage, name_of, several
from vitjax.data.split_names import split_named
from vitjax.meta.episodic import Episodic
from vitjax.models.protocol import Model
from vitjax.tasks.reading import (
    BATCH,
    Answer,
    OnCorrupt,
    answers,
    hint_about,
    read_ahead,
    some,
    stacked,
)
from vitjax.tasks.tables import TOP, ranked
from vitjax.training import finite

# A folder with a folder of images per class, or by the name of each class its images or folders.
Support = str | os.PathLike[str] | Mapping[str, Sequence[AnyImage]]

READABLE = "support images must all be readable: replace or remove it"


class AdaptedClassifier:
    """Classifies images into the classes of a support set.

    By default inductive: batch normalisation has the statistics that the run's objective names
    (``inductive_statistics``: of the support set, or the running averages of training), and the
    answer for an image does not depend on the others. Transductive: all images of a call are
    normalised by their common statistics, as most few-shot results are reported; they have to be in
    memory together, and their number and their choice change the answers.

    Attributes:
        class_names: the classes, in the order of the support set.
        shots: the number of support images of each class.
        transductive: whether images are classified together.
        support: the support images as the model's data has them, and the class of each by number.
    """

    def __init__(
        self,
        objective: Episodic,
        data: EpisodeData,
        variables: Mapping[str, Any],
        support: Support,
        *,
        transductive: bool = False,
    ):
        """Reads the support set and adapts to it.

        Args:
            objective: the method.
            data: the data of the run, whose transforms images pass through.
            variables: those of the objective, one copy.
            support: see `Support`; any number of images per class.
            transductive: whether images are classified together.

        Raises:
            ConfigError: the run is a regression; there are fewer than two classes, or more than a
                learned head has outputs; a class has no images.
            DataError: an image cannot be read.
        """
        check_classes(data)
        files = support_images(support)
        self.class_names = tuple(files)
        self.shots = {name: len(images) for name, images in files.items()}
        self.transductive = transductive
        self._data, self._mode = data, "transductive" if transductive else "inductive"
        self._objective = objective.for_ways(len(files))
        pictures = [picture for images in files.values() for picture in images]
        hint = hint_about(pictures, READABLE)
        images = stacked(list(read_ahead(data.read_image, pictures, hint=hint)))
        labels = np.repeat(np.arange(len(files), dtype=np.int32), list(self.shots.values()))
        self.support = images, labels
        state = dict(variables)
        params = state.pop("params")
        part = {"input": images, "target": labels, "mask": np.ones(len(labels), bool)}
        adapt = jax.jit(functools.partial(self._objective.adapt_to, mode=self._mode))
        self._adapted = adapt(params, state, part)
        self._initial = params, state, part
        self._logits = jax.jit(self._computed)

    @property
    def described(self) -> dict[str, Any]:
        """The method, the mode and the number of support images of each class, as JSON values."""
        method = type(self._objective).__name__
        return {"method": method, "mode": self._mode, "shots": self.shots}

    def networks(self) -> dict[str, tuple[Model, dict[str, Any]]]:
        """The classifier as models and variables, whose outputs are the logits of the classes.

        Returns:
            ``"adapted"``; before it ``"initial"``, with the weights before the first update, of a
            method that adapts.

        Raises:
            ConfigError: the method answers in a way of its own, or images together (transductive).
        """
        if self.transductive:
            raise ConfigError("a transductive classifier is no function of one image")
        ways = len(self.class_names)
        start = jax.jit(functools.partial(self._objective.before_adaptation, mode=self._mode))
        initial = start(*self._initial)
        found = {} if initial is None else {"initial": self._objective.as_model(initial, ways)}
        return {**found, "adapted": self._objective.as_model(self._adapted, ways)}

    def _computed(self, adapted: Any, images: Any) -> tuple[Any, Any]:
        """Logits and probabilities of a batch; a wider head's further outputs are left out."""
        outputs = self._objective.answer_adapted(adapted, images, self._mode)
        logits = outputs[:, : len(self.class_names)].astype("float32")
        return logits, jax.nn.softmax(logits, axis=-1)

    def logits(self, images: Sequence[AnyImage]) -> Float[np.ndarray, "images ways"]:
        """The logits of images: paths, Pillow images or arrays, transformed as in evaluation."""
        return self._all(images, 0)

    def probabilities(self, images: Sequence[AnyImage]) -> Float[np.ndarray, "images ways"]:
        """The probability of each class for images, as of `logits`."""
        return self._all(images, 1)

    def predict(
        self, images: AnyImage | Sequence[AnyImage], *, top: PositiveInt = TOP
    ) -> list[dict[str, Any]]:
        """The classes and probabilities of images.

        Args:
            images: one or several paths, Pillow images or arrays.
            top: the number of classes of a result.

        Returns:
            As of `vitjax.predict`: for each image ``{"image": name, "predictions": [{"class": ..,
            "probability": ..}, ..]}``, the most probable class first.

        Raises:
            DataError: an image cannot be read.
            ConfigError: no images are given, or ``top`` is below 1.
        """
        check_keywords(self.predict, {"top": top}, where="predict", given=("images",))
        found = self.answers(some(images))
        return [self.result(answer, top) for answer in found]

    def result(self, answer: Answer, top: int) -> dict[str, Any]:
        """The result for an image that was read, as JSON values."""
        return {"image": answer.name, "predictions": ranked(self.class_names, answer.values, top)}

    def answers(
        self,
        images: Sequence[AnyImage],
        *,
        batch_size: int = BATCH,
        on_corrupt: OnCorrupt = "error",
        output: int = 1,
        hint: str = "",
    ) -> Iterator[Answer]:
        """Yields what was computed for each image; threads read ahead.

        Args:
            images: paths, Pillow images or arrays.
            batch_size: the number of images that pass through the model at once; transductive
                answers take all.
            on_corrupt: "skip" to yield an error for an image that cannot be read.
            output: 1 for probabilities, 0 for logits.
            hint: what can be done about one file of several that cannot be read, for the error.

        Raises:
            DataError: an image cannot be read, and is not to be skipped.
            NotFiniteError: the model gives NaN.
        """
        read = self._data.read_image
        if self.transductive:
            # Padding would change the statistics of the batch, and so would unreadable images.
            found = list(read_ahead(read, images, on_corrupt, hint=hint_about(images, hint)))
            readable = [image for image in found if isinstance(image, np.ndarray)]
            rows = iter(self._outputs(stacked(readable), output) if readable else ())
            for number, (picture, image) in enumerate(zip(images, found, strict=True)):
                name = name_of(picture, number)
                if isinstance(image, np.ndarray):
                    yield Answer(name, image, next(rows))
                else:
                    yield Answer(name, error=str(image))
            return
        compute = functools.partial(self._outputs, output=output)
        yield from answers(compute, read, images, batch_size, on_corrupt, hint)

    def _outputs(self, images: np.ndarray, output: int) -> np.ndarray:
        values = np.asarray(self._logits(self._adapted, images)[output])
        finite.check_outputs(values, "the adapted model", self._objective.model)
        return values

    def _all(self, images: Sequence[AnyImage], output: int) -> np.ndarray:
        rows = [answer.values for answer in self.answers(several(images), output=output)]
        return np.asarray(rows, np.float32).reshape(len(rows), len(self.class_names))


def check_classes(data: EpisodeData) -> None:
    """Raises ConfigError for a run without classes."""
    if data.target != "class":
        raise ConfigError(
            "support: the run is a regression of numbers; only classifications adapt to images"
        )


def _below(image: AnyImage) -> Sequence[AnyImage]:
    """The images in a folder; anything else is an image itself."""
    if isinstance(image, str | os.PathLike) and os.path.isdir(image):
        return images_below(image)
    return [image]


def support_images(support: Support) -> dict[str, list[AnyImage]]:
    """The images of each class of a support set.

    Args:
        support: see `Support`.

    Raises:
        ConfigError: it is not a support set, a class has no images, there are fewer than two
            classes, or the classes are splits.
    """
    if isinstance(support, Mapping):
        where = "support"
        files: dict[str, list[AnyImage]] = {}
        for name, images in support.items():
            if str(name) in files:
                raise ConfigError(
                    f"{where}: the class {str(name)!r} is given twice, once as {name!r}; the names"
                    " of classes are text"
                )
            files[str(name)] = [image for given in several(images) for image in _below(given)]
    elif isinstance(support, str | os.PathLike):
        folder = expanded(support)
        where = f"support: {os.fspath(support)}"
        if not os.path.isdir(folder):
            parent = os.path.dirname(os.path.abspath(folder))
            there = subfolders(parent) if os.path.isdir(parent) else []
            near = near_match(os.path.basename(os.path.normpath(folder)), there)
            raise ConfigError(
                f"{where}: no such folder{near}; a support set is a folder with a folder of images"
                " for each class"
            )
        files = {
            name: list(images_below(os.path.join(folder, name))) for name in subfolders(folder)
        }
    else:
        raise ConfigError(
            "support: it must be a folder with a folder of images for each class, or a mapping from"
            f" the name of each class to its images, not {type(support).__name__}"
        )
    if empty := [name for name, images in files.items() if not images]:
        raise ConfigError(f"{where}: no images of {shortened(list(map(repr, empty)))}")
    if files and all(map(split_named, files)):
        raise ConfigError(
            f"{where}: its folders {shortened(list(files))} are splits, not classes; name the one"
            " that holds the classes, such as .../train"
        )
    if len(files) < 2:
        number = counted(len(files), "class", "es")
        raise ConfigError(
            f"{where}: it has {number}, and there must be at least 2: one folder of images for each"
            " class, such as support/daisy/1.jpg and support/lily/1.jpg"
        )
    return files
