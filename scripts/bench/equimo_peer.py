"""equimo's side (JAX, Equinox) of `training.py` and `inference.py`; serves a `peer.Peer`.

Needs equimo, optax and JAX, but not vitjax. The step is what equimo's documentation shows: ``vmap``
over images, `equinox.filter_jit`, and optax's AdamW; its arguments are donated as in vitjax.
"""

from __future__ import annotations

import importlib.metadata
import time
from typing import Any

import equimo.models as equimo_models
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from networks import MEAN, STD, TIMM_NAMES, Case  # type: ignore[import-not-found]
from peer import received, serve  # type: ignore[import-not-found]


def network(case: Case) -> Any:
    """A ViT of equimo: exact GELU, class token, no registers, as timm's and vitjax's."""
    make = getattr(equimo_models, TIMM_NAMES[case.name])
    return make(
        img_size=case.image_size,
        patch_size=case.patch_size,
        num_classes=case.num_classes,
        act_layer="exactgelu",
        global_pool="token",
        eps=1e-6,
        key=jax.random.key(0),
    )


def outputs(model: Any, images: Any, key: Any, inference: bool) -> Any:
    """Logits of bytes (batch, height, width, 3)."""
    x = ((images.astype(jnp.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    keys = jax.random.split(key, len(x))
    return jax.vmap(lambda image, key: model(image, key=key, inference=inference))(x, keys)


class Training:
    """Steps on one batch.

    Attributes:
        parameters: how many are trained.
        first_loss: that of the first step.
    """

    def __init__(self, case: Case, batch: dict[str, Any]):
        model = network(case)
        params, static = eqx.partition(model, eqx.is_inexact_array)
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
        self.first_loss: float | None = None
        optimizer = optax.adamw(1e-3, weight_decay=0.05)
        images, labels = jnp.asarray(batch["image"]), jnp.asarray(batch["label"])

        def loss(params: Any, key: Any) -> Any:
            logits = outputs(eqx.combine(params, static), images, key, inference=False)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        def step(params: Any, opt_state: Any, key: Any) -> Any:
            key, used = jax.random.split(key)
            value, gradients = jax.value_and_grad(loss)(params, used)
            updates, opt_state = optimizer.update(gradients, opt_state, params)
            return optax.apply_updates(params, updates), opt_state, key, value

        self._step = jax.jit(step, donate_argnums=(0, 1, 2))
        self._state = params, optimizer.init(params), jax.random.key(1)

    def __call__(self, steps: int) -> dict[str, Any]:
        """Takes ``steps`` steps."""
        start = time.perf_counter()
        for _ in range(steps):
            *state, value = self._step(*self._state)
            self._state = state[0], state[1], state[2]
            if self.first_loss is None:
                self.first_loss = float(value)
        jax.block_until_ready((self._state, value))
        return {"seconds": time.perf_counter() - start, "first_loss": self.first_loss}


def _start() -> tuple[dict[str, Any], dict[str, Any]]:
    settings, arrays = received()
    case = Case(**settings["case"])
    versions = {name: importlib.metadata.version(name) for name in ("equimo", "equinox")}
    if settings["train"]:
        training = Training(case, arrays)
        return {"train": training}, {"parameters": training.parameters, "versions": versions}
    model = eqx.nn.inference_mode(network(case))
    size = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))

    @eqx.filter_jit
    def probabilities(model: Any, images: Any) -> Any:
        return jax.nn.softmax(outputs(model, images, jax.random.key(0), inference=True))

    images = list(arrays["image"])

    def predict(steps: int) -> None:
        for _ in range(steps):
            jax.device_get(probabilities(model, np.stack(images)))

    return {"predict": predict}, {"parameters": size, "versions": versions}


if __name__ == "__main__":
    serve(_start)
