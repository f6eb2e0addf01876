"""The training state: all that a step changes, and all that a checkpoint needs to go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Int, UInt32

from vitjax.objectives.base import FROZEN


class TrainState(struct.PyTreeNode):
    """One pytree of arrays.

    Attributes:
        step: the number of optimizer steps taken.
        rng: the run's key data; every step folds its number into it.
        params: the model's parameters.
        model_state: its other variables, such as ``{"batch_stats": ...}``.
        opt_state: optax's state.
        ema: the moving average of ``{"params": params, **model_state}``, less what is frozen; or
            None.
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
        variables: dict[str, Any],
        optimizer: optax.GradientTransformation,
        *,
        seed: int,
        ema: bool = False,
    ) -> TrainState:
        """The state before the first step, for a model's fresh ``variables``."""
        model_state = {name: tree for name, tree in variables.items() if name != "params"}
        params = variables["params"]
        return cls(
            step=jnp.zeros((), jnp.int32),
            rng=jax.random.key_data(jax.random.key(seed)),
            params=params,
            model_state=model_state,
            opt_state=optimizer.init(params),
            # A copy, since the step donates its buffers and no buffer can be donated twice.
            ema=jax.tree.map(jnp.copy, moving(variables)) if ema else None,
        )

    @property
    def variables(self) -> dict[str, Any]:
        """What is evaluated: the moving average where one is kept, else the trained variables."""
        if self.ema is not None:
            return {**self.model_state, **self.ema}
        return {"params": self.params, **self.model_state}


def moving(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The collections of ``variables`` that steps change."""
    return {name: tree for name, tree in variables.items() if name != FROZEN}
