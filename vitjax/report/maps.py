"""Maps of what a run's model looks at, for the images of its page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vitjax.analysis.methods import method
from vitjax.core.errors import UserError
from vitjax.tasks.reading import stacked
from vitjax.training.experiment import Experiment

# In the order of preference: the next one where a model has no such map.
OF_CLASS = ("grad_cam", "saliency")
OVER_TRAINING = ("rollout", *OF_CLASS)


class Maps:
    """Maps by the first method that the model of a run has; each is compiled once."""

    def __init__(self, experiment: Experiment):
        self._experiment = experiment
        self._functions: dict[str, Callable[..., Any]] = {}

    def __call__(
        self, variables: Any, images: Sequence[Any], targets: Sequence[int], names: Sequence[str]
    ) -> tuple[str, Float[np.ndarray, "images height width"]]:
        """The maps of images, and the method that they are of.

        Args:
            variables: placed on the devices, of the objective.
            images: transformed as in evaluation, before normalisation, of one size.
            targets: the class of each.
            names: methods, in the order of preference.

        Raises:
            ConfigError: the model has none of the maps.
        """
        experiment = self._experiment
        model = experiment.objective.model
        own = experiment.objective.unwrap(experiment.parallel.fetch(variables))
        batch = jnp.asarray(experiment.data.normalize(stacked(list(images))))
        classes = jnp.asarray(targets, jnp.int32)
        for name in names:
            if name not in self._functions:
                self._functions[name] = method(name).of(model)
            try:
                found = self._functions[name](own, batch, classes)
            except UserError:
                if name == names[-1]:
                    raise
                continue
            maps = np.asarray(found, np.float32)
            if not method(name).of_class:
                # Attention is nowhere 0: what distinguishes places would not be seen.
                maps = maps - maps.min(axis=(1, 2), keepdims=True)
            return name, maps
        raise AssertionError("no method was given")
