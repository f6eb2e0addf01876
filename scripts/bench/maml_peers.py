"""The peer of `scripts/bench/maml.py` in JAX: the usual code."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

USUAL = "usual jax"
TORCH_PEERS = ("torch autograd", "torch autograd, channels_last", "higher", "torch.func")


class Layers(nn.Module):
    """Conv4 of `flax.linen`'s own layers, with the names of vitjax's."""

    filters: int
    num_classes: int
    dtype: str

    @nn.compact
    def __call__(self, x: Any) -> Any:
        """Logits."""
        for i in range(1, 5):
            x = nn.Conv(self.filters, (3, 3), dtype=self.dtype, name=f"conv{i}")(x)
            x = nn.BatchNorm(
                use_running_average=False, epsilon=1e-3, dtype=self.dtype, name=f"norm{i}"
            )(x)
            x = nn.max_pool(nn.relu(x), (2, 2), (2, 2))
        return nn.Dense(self.num_classes, name="head")(x.reshape(len(x), -1).astype(jnp.float32))


class UsualJax:
    """MAML as in JAX tutorials: ``vmap`` over episodes of flax's layers.

    Args:
        params: of Conv4.
        batch: episodes.
        settings: ``steps`` and ``rate`` of the inner loop, and ``dtype``.
    """

    def __init__(self, params: Any, batch: Any, settings: Mapping[str, Any]):
        kernel, head = params["conv1"]["kernel"], params["head"]["kernel"]
        model = Layers(kernel.shape[-1], head.shape[-1], settings["dtype"])
        optimizer = optax.adam(1e-3)

        def loss(params: Any, part: Any) -> Any:
            variables = {"params": params}
            outputs, _ = model.apply(variables, part["input"], mutable=["batch_stats"])
            losses = optax.losses.softmax_cross_entropy_with_integer_labels
            return losses(outputs, part["target"]).mean()

        def episode_loss(params: Any, support: Any, query: Any) -> Any:
            for _ in range(settings["steps"]):
                gradients = jax.grad(loss)(params, support)
                params = jax.tree.map(lambda p, g: p - settings["rate"] * g, params, gradients)
            return loss(params, query)

        def step(params: Any, opt_state: Any, batch: Any) -> Any:
            def mean(params: Any) -> Any:
                mapped = jax.vmap(episode_loss, (None, 0, 0))
                return mapped(params, batch["support"], batch["query"]).mean()

            value, gradients = jax.value_and_grad(mean)(params)
            updates, opt_state = optimizer.update(gradients, opt_state)
            return optax.apply_updates(params, updates), opt_state, value

        params = jax.device_put(params)
        self._state = params, optimizer.init(params)
        self._batch = jax.device_put(batch)
        jitted = jax.jit(step, donate_argnums=(0, 1))
        self._step = jitted.lower(*self._state, self._batch).compile()

    def run(self, steps: int) -> tuple[float, float]:
        """Takes ``steps`` steps: the seconds they took, and the last one's loss."""
        start = time.perf_counter()
        for _ in range(steps):
            *state, loss = self._step(*self._state, self._batch)
            self._state = state[0], state[1]
        value = float(loss)
        return time.perf_counter() - start, value
