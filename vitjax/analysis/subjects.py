"""What is explained: the model of a run, of a few-shot run with its support set, or of a file."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from vitjax import models, weights
from vitjax.core.errors import ConfigError
from vitjax.core.paths import expanded
from vitjax.core.text import Say, counted, near_match, quoted
from vitjax.data.any_image import AnyImage
from vitjax.data.image_formats import MAX_PIXELS
from vitjax.data.images import read_evaluated
from vitjax.data.normalization import Normalization
from vitjax.data.transforms.pipeline import parse
from vitjax.models.protocol import Model
from vitjax.objectives import Classifier
from vitjax.objectives.interfaces import Segmenter
from vitjax.training.experiment import Experiment
from vitjax.weights.opening import usual_size

# The only network of a subject that has one.
ONLY = ""


@dataclasses.dataclass(frozen=True)
class Subject:
    """Networks whose outputs are explained, and how images become their inputs.

    Attributes:
        networks: models with their variables, by name; the last one chooses the class.
        class_names: the names of the outputs.
        read: the pixels of an image at the size of the model, (height, width, channels).
        normalize: a batch of such images as the model takes it.
        max_pixels: a file with more is an error.
        image_shape: (height, width, channels) of the images that the model was trained on; None if
            it is not known.
    """

    networks: Mapping[str, tuple[Model, Any]]
    class_names: Sequence[str]
    read: Callable[[AnyImage], np.ndarray]
    normalize: Callable[[np.ndarray], Any] = jnp.asarray
    max_pixels: int = MAX_PIXELS
    image_shape: tuple[int, ...] | None = None


def check_source(
    command: str,
    workdir: str | Path | None,
    overrides: Sequence[str],
    model: str | None,
    checkpoint: str | int | None,
) -> None:
    """Checks that a network is either that of a run or a model with the weights of a file.

    Raises:
        ConfigError: it is not.
    """
    if workdir is not None and model is not None:
        raise ConfigError(
            f"{command}: --workdir={workdir} and --model={model} are both given; a run has its"
            " model: give --workdir for a run, or --model and --checkpoint=FILE for a file of"
            " weights"
        )
    if workdir is not None:
        return
    if model is None:
        raise ConfigError(
            f"{command}: give --workdir=DIR for a run, or --model=NAME and --checkpoint=FILE for a"
            " file of weights"
        )
    if checkpoint is None:
        raise ConfigError(f"{command}: --model={model} needs --checkpoint=FILE, a file of weights")
    if overrides:
        raise ConfigError(
            f"{command}: {overrides[0]} is for a run's config; --model={model} has none"
        )


def of_model(
    model: Model,
    variables: Any,
    read: Callable[[AnyImage], np.ndarray],
    class_names: Iterable[str],
    normalize: Callable[[np.ndarray], Any] = jnp.asarray,
) -> Subject:
    """A model of one's own.

    Args:
        model: a classifier, or a segmentation.
        variables: those of the model.
        read: prepares an image, (height, width, channels).
        class_names: the names of the outputs.
        normalize: what happens to a batch of prepared images before the model; without it ``read``
            does all, and figures show the inputs of the model.

    Raises:
        ConfigError: there is not one name for each output.
    """
    names = tuple(class_names)
    if model.num_outputs not in (0, len(names)):
        raise ConfigError(
            f"class_names has {counted(len(names), 'name', 's')}, and the"
            f" {type(model).__name__} {model.num_outputs:,} outputs; each needs a name"
        )
    return Subject({ONLY: (model, variables)}, names, read, normalize)


def of_run(experiment: Experiment, variables: Any, support: Any = None) -> Subject:
    """The model of a run.

    Args:
        experiment: of a classification, a segmentation, or few-shot learning.
        variables: those of its objective, one copy.
        support: of few-shot learning: see `vitjax.tasks.adapted.Support`.

    Raises:
        ConfigError: the run's model has no classes of images, or a support set is missing or too
            many.
        DataError: a support image cannot be read.
    """
    objective, data = experiment.objective, experiment.data
    subject = functools.partial(
        Subject, read=data.read_image, normalize=data.normalize, max_pixels=data.max_pixels
    )
    if support is not None:
        classifier = experiment.task.adapt(variables, support)
        networks = classifier.networks()
        if len(networks) == 1:
            networks = {ONLY: next(iter(networks.values()))}
        return subject(networks, classifier.class_names)
    if not isinstance(objective, Classifier | Segmenter):
        raise ConfigError(
            f"the run's objective {type(objective).__name__} does not classify images or their"
            " pixels"
        )
    network = objective.model, objective.unwrap(variables)
    shape = data.example_batch()["image"].shape[1:]
    return subject({ONLY: network}, experiment.task.class_names, image_shape=shape)


def of_file(
    name: str, source: str | Path, classes: str | Path | None = None, *, say: Say = print
) -> Subject:
    """A registered model with the weights of a file, without a run.

    Images are prepared as the model's paper does: the shorter side is resized to that of the
    model's images, the square in the middle is cut out, and channels are normalised. A mean and a
    standard deviation that the file states count more than those of the paper.

    Args:
        name: one of `vitjax.models.names`.
        source: what `vitjax.weights.load` reads.
        classes: a text file with the name of a class per line; None for numbers.
        say: receives what was loaded.

    Raises:
        ConfigError: no such model, the model takes no images, or ``classes`` has another number of
            lines than the model outputs.
        WeightsError: the file cannot be read, or does not fit.
    """
    if name not in models.names():
        raise ConfigError(
            f"model {quoted(name)} is none of vitjax's{near_match(name, models.names())} (vitjax"
            " models lists them)"
        )
    names = None if classes is None else class_names_in(classes)
    usual = models.input_shape(name)
    if len(usual) != 3:
        raise ConfigError(f"model {quoted(name)} takes vectors, not images")
    opened = weights.open_weights(source, image_size=usual_size(name, None), say=say)
    stated = opened.description.input_shape
    own = usual if stated is None or len(stated) != 3 else stated
    height, width = (b or a for a, b in zip(usual[:2], own[:2], strict=True))
    model = weights.module_of(opened, name, say=say)
    variables = weights.fit(opened, model, image_size=(height, width), say=say)
    shape = opened.shape_at((height, width))
    facts = models.facts(name)
    mean = facts["mean"] if opened.mean is None else opened.mean
    std = facts["std"] if opened.std is None else opened.std
    side = height if height == width else (height, width)
    resize = f"resize({side}, interpolation={facts['interpolation']!r})"
    pipeline = parse(f"{resize} | center_crop({side})")
    normalization = Normalization.of(mean, std, shape[-1])
    read = functools.partial(read_evaluated, pipeline=pipeline, shape=(height, width, shape[-1]))
    if names is not None and not model.num_outputs:
        raise ConfigError(f"classes: the {type(model).__name__} of {source} has no head")
    if names is not None and len(names) != model.num_outputs:
        raise ConfigError(
            f"classes: {classes} names {counted(len(names), 'class', 'es')}, and the model of"
            f" {source} has {model.num_outputs:,} outputs; a line for each is needed"
        )
    say(f"{name} of {source}, images of {height}x{width} pixels")
    class_names = names or tuple(str(number) for number in range(model.num_outputs))
    networks = {ONLY: (model, variables)}
    return Subject(
        networks, class_names, read, normalization, image_shape=(height, width, shape[-1])
    )


def class_names_in(file: str | Path) -> tuple[str, ...]:
    """The names in a text file, one per line; empty lines at the end are ignored.

    Names that occur several times, as "crane" of ImageNet does, have the number of their class
    behind them.

    Raises:
        ConfigError: it cannot be read, or a line is empty.
    """
    path = Path(expanded(file))
    try:
        lines = path.read_text(encoding="utf-8").rstrip().splitlines()
    except OSError as error:
        raise ConfigError(f"classes: {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"classes: {path} is no text in UTF-8; it should have the name of a class per line"
        ) from error
    names = [line.strip() for line in lines]
    if "" in names:
        raise ConfigError(
            f"classes: {path}, line {names.index('') + 1} is empty: it names no class"
        )
    counts = Counter(names)
    return tuple(
        name if counts[name] == 1 else f"{name} ({number})" for number, name in enumerate(names)
    )
