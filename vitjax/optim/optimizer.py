"""The optimizer of a run, or of one group of its parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import optax
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optax transformation, with what a step has to know beside it.

    Attributes:
        transformation: gradients to updates.
        learning_rate: step -> learning rate, for reports.
        trained: a tree like the parameters of booleans: which of them ``transformation`` changes.
            The gradients of the others are not part of the reported norm, so that the compiler
            leaves them out; None for all.
        accumulation_steps: the number of micro-batches that a batch is divided into, computed one
            after the other to save memory.
    """

    transformation: optax.GradientTransformationExtraArgs
    learning_rate: optax.Schedule = lambda step: 0.0
    trained: Any = None
    accumulation_steps: int = 1

    def init(self, params: Any) -> Any:
        """The optimizer's state before the first step."""
        return self.transformation.init(params)

    def apply(
        self, gradients: Any, opt_state: Any, params: Any, *, value: Any
    ) -> tuple[Any, Any, Float[Array, ""]]:
        """One step.

        Args:
            gradients: of all parameters.
            opt_state: the optimizer's state.
            params: what is changed.
            value: the loss, which some optimizers use.

        Returns:
            The new parameters, the new state, and the global norm of the trained parameters'
            gradients.
        """
        updates, opt_state = self.transformation.update(gradients, opt_state, params, value=value)
        params = optax.apply_updates(params, updates)
        if self.trained is not None:
            pairs = zip(jax.tree.leaves(gradients), jax.tree.leaves(self.trained), strict=True)
            gradients = [gradient for gradient, counts in pairs if counts]
        return params, opt_state, optax.tree.norm(gradients)


# One optimizer for all parameters; or for an objective with groups of parameters one for each.
Optimizers = Optimizer | Mapping[str, Optimizer]


def init(optimizers: Optimizers, params: Any) -> Any:
    """The state of one optimizer, or the state of each by the name of its group."""
    if isinstance(optimizers, Optimizer):
        return optimizers.init(params)
    return {name: optimizer.init(params[name]) for name, optimizer in optimizers.items()}


def learning_rates(optimizers: Optimizers, step: int) -> dict[str, float]:
    """What is reported: ``learning_rate``, or ``learning_rate_<group>`` of each group."""
    if isinstance(optimizers, Optimizer):
        return {"learning_rate": float(optimizers.learning_rate(step))}
    return {
        f"learning_rate_{name}": float(optimizer.learning_rate(step))
        for name, optimizer in optimizers.items()
    }
