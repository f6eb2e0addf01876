"""What the trainer knows of a method: an objective with parameters and a batch gives a loss."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from vitjax.objectives.metrics import Metrics
from vitjax.registry import Registry

Params = Any
ModelState = dict[str, Any]
Batch = Mapping[str, Array]
Self = TypeVar("Self", bound="Objective")


@dataclasses.dataclass(frozen=True)
class Objective(abc.ABC):
    """A differentiable task: pure functions of parameters, model state and a batch.

    A subclass is a frozen dataclass; its fields are the keys of the config's ``objective`` section.
    Metrics are `Mean` pairs. Those that `loss` gives hold ``"loss"``, whose ``count`` is the weight
    of the batch: the trainer averages gradients of micro-batches and devices by it.

    Attributes:
        model: the Linen module.
    """

    model: nn.Module

    @abc.abstractmethod
    def init(self, rng: PRNGKeyArray, batch: Batch) -> dict[str, Any]:
        """The model's variables: ``{"params": ..., "batch_stats": ..., ...}``."""

    @abc.abstractmethod
    def loss(
        self, params: Params, model_state: ModelState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], tuple[ModelState, Metrics]]:
        """The training loss, and ``(new model_state, metrics)``."""

    @abc.abstractmethod
    def evaluate(self, variables: Mapping[str, Any], batch: Batch) -> Metrics:
        """The metrics of one batch; examples with ``mask`` False, padding, count nothing."""

    def gradients(
        self, params: Params, model_state: ModelState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Params, tuple[ModelState, Metrics]]:
        """The gradient of `loss`; a method with a gradient of its own overrides this."""
        gradients, aux = jax.grad(self.loss, has_aux=True)(params, model_state, batch, rng)
        return gradients, aux

    def over_axis(self: Self, axis_name: str) -> Self:
        """This objective for use under ``pmap``: batch statistics are taken over ``axis_name``."""
        if not hasattr(self.model, "axis_name"):
            return self
        return dataclasses.replace(self, model=self.model.clone(axis_name=axis_name))


objectives: Registry[type[Objective]] = Registry("objective")
