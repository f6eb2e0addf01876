"""The training state: everything that a step changes and a checkpoint holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int, UInt32

# The collection of arrays that no step changes, such as the parameters of another network.
# Checkpoints hold it; the optimizer and the moving average have no copy of it.
FROZEN = "frozen"


class TrainState(struct.PyTreeNode):
    """The state of a run, as one pytree of arrays.

    Attributes:
        step: the number of steps taken.
        rng: the run's key data; every step folds its number into it.
        params: the trained parameters.
        model_state: all other collections: the model's, such as ``batch_stats``, and the
            objective's own, such as a teacher or a replay buffer.
        opt_state: the optimizer's state; a dict by group where an objective has groups.
        ema: the moving average of ``{"params": params, **model_state}`` without the collections
            that are not averaged; or None.
    """

    step: Int[Array, ""]
    rng: UInt32[Array, "words"]
    params: Any
    model_state: dict[str, Any]
    opt_state: Any
    ema: dict[str, Any] | None

    @classmethod
    def create(
        cls,
        variables: Mapping[str, Any],
        opt_state: Any,
        *,
        seed: int,
        ema: bool = False,
        own: Iterable[str] = (),
    ) -> TrainState:
        """The state before the first step.

        Args:
            variables: the objective's initial variables, with ``params`` among them.
            opt_state: the optimizer's initial state for them.
            seed: the seed of the run.
            ema: whether to keep a moving average.
            own: the objective's own collections, which are not averaged.
        """
        return cls(
            step=jnp.zeros((), jnp.int32),
            rng=jax.random.key_data(jax.random.key(seed)),
            params=variables["params"],
            model_state={name: tree for name, tree in variables.items() if name != "params"},
            opt_state=opt_state,
            # A copy, since the step donates its buffers, and a buffer cannot be donated twice.
            ema=jax.tree.map(jnp.copy, averaged(variables, own)) if ema else None,
        )

    @property
    def variables(self) -> dict[str, Any]:
        """The variables to evaluate: the moving average if one is kept, else the trained ones."""
        if self.ema is not None:
            return {**self.model_state, **self.ema}
        return {"params": self.params, **self.model_state}


def averaged(variables: Mapping[str, Any], own: Iterable[str] = ()) -> dict[str, Any]:
    """The collections that a moving average holds: neither frozen nor the objective's own."""
    left_out = {FROZEN, *own}
    return {name: tree for name, tree in variables.items() if name not in left_out}
