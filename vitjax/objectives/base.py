"""What the trainer knows of a method: an objective with parameters and a batch gives a loss."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from vitjax.core.registry import Registry
from vitjax.metrics.mean import Mean, Metrics
from vitjax.models.protocol import Model

# The collection of arrays that no step changes, such as another network's: they are in checkpoints,
# and neither an optimizer nor a moving average holds copies of them.
FROZEN = "frozen"

Params = Any
ModelState = dict[str, Any]
Batch = Mapping[str, Any]
Self = TypeVar("Self", bound="Objective")


@dataclasses.dataclass(frozen=True)
class Objective(abc.ABC):
    """A differentiable task: pure functions of parameters, model state and a batch.

    A subclass is a frozen dataclass; its fields are the keys of the config's ``objective`` section.
    Metrics are `Mean` pairs. Those that `loss` gives hold ``"loss"``, whose ``count`` is the weight
    of the batch: the trainer averages the gradients of micro-batches by it.

    Attributes:
        model: the model.
        axis_name: under ``pmap`` the mapped axis, else None; see `over_axis`.
    """

    model: Model
    axis_name: str | None = dataclasses.field(default=None, kw_only=True)

    @abc.abstractmethod
    def inputs(self, batch: Batch) -> Any:
        """What the model is fed of ``batch``, or as much of it as tells its shape."""

    def init_model(self, rng: PRNGKeyArray, batch: Batch) -> dict[str, Any]:
        """The model's fresh variables, ``{"params": ..., ...}``, for inputs as in ``batch``."""
        variables: Any = jax.jit(self.model.init)(rng, self.inputs(batch))
        return dict(variables)

    def wrap(self, rng: PRNGKeyArray, variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        """What is trained and kept, around the model's ``variables``, fresh ones or loaded."""
        del rng, batch
        return dict(variables)

    def unwrap(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The model's own variables within what `wrap` made: what other programs can use."""
        return dict(variables)

    def init(self, rng: PRNGKeyArray, batch: Batch) -> dict[str, Any]:
        """What training starts from: `wrap` around `init_model`."""
        return self.wrap(rng, self.init_model(rng, batch), batch)

    @abc.abstractmethod
    def loss(
        self, params: Params, model_state: ModelState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], tuple[ModelState, Metrics]]:
        """The training loss, and ``(new model_state, metrics)``."""

    @abc.abstractmethod
    def evaluate(self, variables: Mapping[str, Any], batch: Batch) -> Metrics:
        """The metrics of one batch; examples with ``mask`` False, padding, count nothing."""

    @classmethod
    def model_outputs(cls, data: Any) -> int | None:
        """How many outputs the model needs for ``data``; None for a model without a head."""
        outputs: int = data.num_classes
        return outputs

    def at_step(self: Self, step: Any) -> Self:
        """This objective as it is at optimizer step ``step``, which may be traced."""
        del step
        return self

    def gradients(
        self, params: Params, model_state: ModelState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Params, tuple[ModelState, Metrics]]:
        """The gradient of `loss`; a method with a gradient of its own overrides this."""
        gradients, aux = jax.grad(self.loss, has_aux=True)(params, model_state, batch, rng)
        return gradients, aux

    def average(self, mean: Mean) -> Float[Array, ""]:
        """``mean`` as a loss to differentiate: its sum over the devices' average weight.

        Under ``pmap`` the devices' losses then average to the loss of the whole batch, whatever
        share of it each device holds. That has to happen before differentiation: batch statistics
        over the axis carry each device's gradient to the others.
        """
        count = mean.count
        if self.axis_name is not None:
            count = jax.lax.pmean(count, self.axis_name)
        return Mean(mean.total, count).value()

    def over_axis(self: Self, axis_name: str) -> Self:
        """This objective under ``pmap``: batch statistics and weights are those of the axis."""
        model = self.model.over_axis(axis_name)
        return dataclasses.replace(self, model=model, axis_name=axis_name)


objectives: Registry[type[Objective]] = Registry("objective")
