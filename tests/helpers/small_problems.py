"""Small models, losses and batches of episodes for the tests of few-shot methods."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vitjax import models

DTYPES = {"dtype": "float64", "param_dtype": "float64"}
CONV4 = {"filters": 3, "depth": 2, "downsample": "stride", "activation": "tanh"}
SMOOTH = {
    "mlp": ("mlp_sinusoid", {"activation": "tanh", "hidden": (6, 5), "num_classes": 2}, (3,)),
    "conv4": ("conv4", {**CONV4, "num_classes": 3}, (8, 8, 2)),
    "vit": (
        "vit_ti16",
        {"patch_size": 4, "width": 16, "depth": 1, "num_heads": 2, "num_classes": 3},
        (8, 8, 3),
    ),
}


def smooth_model(kind):
    """A small model whose every derivative exists, and the shape of its inputs."""
    name, fields, shape = SMOOTH[kind]
    return models.create(name, **fields, **DTYPES), shape


def randomized(tree, seed=0, scale=0.3):
    """``tree``'s shapes with random numbers, none of them zero, and variances above one half."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        values = scale * rng.normal(size=leaf.shape)
        name = getattr(path[-1], "key", "")
        return jnp.asarray(1 + np.abs(values) if name in ("scale", "var") else values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, tree)


def part(count, ways, examples, shape, seed, dtype=np.float64):
    """Support or query of ``count`` episodes, with ``examples`` of each class."""
    rng = np.random.default_rng(seed)
    number = ways * examples
    labels = np.stack([rng.permutation(np.repeat(np.arange(ways), examples)) for _ in range(count)])
    # Each label has a mean of its own, so that there is something to learn.
    means = rng.normal(size=(count, ways, *shape))
    inputs = means[np.arange(count)[:, None], labels] + rng.normal(size=(count, number, *shape))
    return {
        "input": inputs.astype(dtype),
        "target": labels.astype(np.int32),
        "class": labels.astype(np.int32),
        "mask": np.ones((count, number), bool),
    }


def episodes(count, shape, *, ways=3, shots=1, queries=2, seed=0, dtype=np.float64):
    """A batch of episodes as the loader gives it."""
    return {
        "support": part(count, ways, shots, shape, 2 * seed, dtype),
        "query": part(count, ways, queries, shape, 2 * seed + 1, dtype),
        "mask": np.ones(count, bool),
    }


def episode_of(batch, index):
    """One episode of a batch, without the leading axis."""
    return jax.tree.map(lambda x: x[index], {k: batch[k] for k in ("support", "query")})


def mean_loss(model, state=None):
    """``(params, {"input", "target"}) -> loss``: cross-entropy, or squares where targets float."""

    def loss(params, batch):
        variables = {"params": params, **(state or {})}
        mutable = list(state or ())
        outputs = model.apply(variables, batch["input"], train=True, mutable=mutable)
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        if jnp.issubdtype(batch["target"].dtype, jnp.floating):
            return jnp.mean(jnp.square(outputs - batch["target"]))
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(outputs, batch["target"])
        return jnp.mean(losses)

    return loss


def problem(kind, seed=0):
    """(loss, parameters, support, query) of one episode for one of `SMOOTH`."""
    model, shape = smooth_model(kind)
    batch = episodes(1, shape, ways=3, shots=2, queries=2, seed=seed)
    support, query = (
        jax.tree.map(jnp.asarray, episode_of(batch, 0)[k]) for k in ("support", "query")
    )
    if kind == "mlp":
        rng = np.random.default_rng(5)
        for each in (support, query):
            each["target"] = jnp.asarray(rng.normal(size=(len(each["input"]), 2)))
    variables = randomized(jax.eval_shape(model.init, jax.random.key(0), support["input"]))
    params = variables.pop("params")
    return mean_loss(model, variables), params, support, query


def directional(function, point, *, directions=3, step=1e-5, seed=0):
    """Derivatives of ``function`` along random directions: pairs of (direction, difference).

    Differences are central, from two widths so that their error is of the fourth order.
    """
    rng = np.random.default_rng(seed)
    for _ in range(directions):
        along = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), point)
        norm = optax.tree.norm(along)
        along = jax.tree.map(lambda x, n=norm: x / n, along)

        def at(distance, along=along):
            return float(function(jax.tree.map(lambda x, d: x + distance * d, point, along)))

        narrow = (at(step) - at(-step)) / (2 * step)
        wide = (at(2 * step) - at(-2 * step)) / (4 * step)
        yield along, (4 * narrow - wide) / 3


def inner(a, b):
    """The inner product of two trees."""
    return float(optax.tree.vdot(a, b))


def assert_trees(found, expected, rtol=1e-9, atol=1e-12):
    """Equal structure and close leaves."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def relative(found, expected):
    """The norm of the difference of two trees over that of the second."""
    difference = jax.tree.map(lambda a, b: a - b, found, expected)
    return float(optax.tree.norm(difference) / optax.tree.norm(expected))
