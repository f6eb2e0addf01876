"""Episodes of few numbers, and a network for them, that compile in little time."""

import jax
import jax.numpy as jnp
import numpy as np

from vitjax.models.mlp import MLP

WIDTH = 4


def identity(inputs):
    return inputs


def mlp(outputs, norm="none", **arguments):
    return MLP(hidden=(8,), num_classes=outputs, activation="tanh", norm=norm, **arguments)


def episodes(number=2, ways=3, shots=4, queries=2, classes=6, seed=0, spread=1.0, dtype=np.float32):
    """Classes are Gaussian clouds around points of deviation one."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(classes, WIDTH))
    chosen = np.stack([rng.permutation(classes)[:ways] for _ in range(number)])

    def part(examples):
        shown = np.repeat(chosen, examples, axis=1)
        noise = spread * rng.normal(size=(*shown.shape, WIDTH))
        return {
            "input": (centers[shown] + noise).astype(dtype),
            "target": np.tile(np.repeat(np.arange(ways, dtype=np.int32), examples), (number, 1)),
            "class": shown.astype(np.int32),
            "mask": np.ones(shown.shape, bool),
        }

    return {"support": part(shots), "query": part(queries), "mask": np.ones(number, bool)}


def variables(objective, batch, seed=0):
    """Fresh ones, the head included of a deviation that shows: (params, model state)."""
    fresh = objective.init(jax.random.key(seed), batch)
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1].key != "kernel":
            return leaf
        return jnp.asarray(rng.normal(size=leaf.shape) * leaf.shape[0] ** -0.5, leaf.dtype)

    params = jax.tree_util.tree_map_with_path(draw, fresh.pop("params"))
    return params, fresh


def episode(batch, number=0):
    parts = {"support": batch["support"], "query": batch["query"]}
    return jax.tree.map(lambda x: jnp.asarray(x[number]), parts)


def close(left, right, **tolerance):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), left, right)
