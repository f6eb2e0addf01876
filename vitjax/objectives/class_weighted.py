"""The base of objectives whose training loss may weigh classes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vitjax.core.errors import ConfigError
from vitjax.losses.class_weights import ClassWeights, check, resolve
from vitjax.objectives.interfaces import ImageObjective


def _not_counted() -> np.ndarray:
    raise ConfigError(
        "config.objective.class_weights follows from the numbers of examples, which this objective"
        " was not given (class_counts); give one weight per class"
    )


@dataclasses.dataclass(frozen=True)
class ClassWeighted(ImageObjective):
    """An objective over images whose training loss is a weighted mean, with a weight per class.

    Metrics of an evaluation, its loss among them, are not weighted.

    Attributes:
        class_weights: ``"inverse"``; ``"effective"``, or its section with ``beta``; a weight per
            class, in order or by class name; see `vitjax.losses.class_weights`. None: equal ones.
        class_names: the names of the data's classes.
        class_counts: returns the number of examples (pixels) of each class in the training data. No
            image is read for it: those that ``on_corrupt="skip"`` leaves out later count too, but
            not masks that cannot be read.
    """

    class_weights: ClassWeights | None = dataclasses.field(default=None, kw_only=True)
    class_names: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)
    class_counts: Callable[[], np.ndarray] = dataclasses.field(default=_not_counted, kw_only=True)

    @classmethod
    def check_section(cls, arguments: Mapping[str, Any]) -> None:
        """Checks ``class_weights`` as far as that is possible without the classes."""
        super().check_section(arguments)
        if arguments.get("class_weights") is not None:
            check(arguments["class_weights"], None)

    def check_training(self) -> None:
        """Checks that ``class_weights`` has the classes of the data."""
        super().check_training()
        if self.class_weights is not None:
            check(self.class_weights, self.class_names)

    @functools.cached_property
    def weights_of_classes(self) -> np.ndarray | None:
        """The weight of each class in the training loss, float32 of shape (classes,); or None.

        Outputs of the model that are no class of the data have the weight 1.
        """
        if self.class_weights is None:
            return None
        weights = resolve(self.class_weights, self.class_names, self.class_counts)
        more = np.ones(self.num_classes - len(weights), weights.dtype)
        return np.concatenate([weights, more])
