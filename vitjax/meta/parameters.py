"""Which parameters an inner loop adapts, and their initial values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Array, Float

from vitjax.core.errors import ConfigError
from vitjax.core.names import matches
from vitjax.models.protocol import Model

Leaves = dict[str, Any]


def flatten(tree: Mapping[str, Any]) -> Leaves:
    """Nested parameters as ``{"conv1/kernel": array, ...}``."""
    return traverse_util.flatten_dict(dict(tree), sep="/")


def unflatten(leaves: Leaves) -> dict[str, Any]:
    """The inverse of `flatten`."""
    return traverse_util.unflatten_dict(leaves, sep="/")


def partition(
    leaves: Leaves, adapted: Sequence[str], fixed: Sequence[str]
) -> tuple[Leaves, Leaves]:
    """The leaves that match ``adapted`` but not ``fixed``, and the others."""
    moving = {
        name: leaf
        for name, leaf in leaves.items()
        if matches(name, adapted) and not matches(name, fixed)
    }
    return moving, {name: leaf for name, leaf in leaves.items() if name not in moving}


def check_moving(moving: Leaves) -> None:
    """Raises ConfigError if ``moving``, the adapted parameters, is empty."""
    if not moving:
        raise ConfigError(
            "config.objective.adapted: nothing is left to adapt; it should match a parameter that"
            " config.objective.fixed does not match and that no other key keeps fixed"
        )


def head_names(leaves: Leaves, model: Model) -> tuple[str, str]:
    """The names of the kernel and the bias of the last layer of ``model``.

    Raises:
        ConfigError: the model has no such layer.
    """
    main = model.main_head({name.partition("/")[0]: None for name in leaves})
    own = [n for n in leaves if n.partition("/")[0] in main]
    kernels = [n for n in own if re.search(model.head_pattern + "kernel$", n)]
    biases = [n for n in own if re.search(model.head_pattern + "bias$", n)]
    if len(kernels) != 1 or len(biases) != 1:
        raise ConfigError(
            f"objective: the model has no last layer {model.head_name!r} with a kernel and a bias"
            f" (its parameters: {', '.join(leaves)})"
        )
    return kernels[0], biases[0]


def prototypes(
    features: Float[Array, "examples width"], onehot: Float[Array, "examples ways"]
) -> Float[Array, "ways width"]:
    """The mean feature of each class (Snell et al. 2017, arXiv:1703.05175, Eq. 1).

    The features of a class without examples are zeros.
    """
    sums = onehot.T @ features
    return sums / jnp.maximum(jnp.sum(onehot, axis=0), 1)[:, None]


def prototype_head(centers: Float[Array, "ways width"]) -> tuple[Array, Array]:
    """Kernel (width, ways) and bias of the linear layer that is equivalent to ``centers``.

    -|x - c|^2 = 2 c.x - |c|^2 - |x|^2, where the last term is the same for all classes
    (arXiv:1703.05175, Eq. 8). As the initial head of an inner loop it is Proto-MAML (Triantafillou
    et al. 2020, arXiv:1903.03096, Sec. 3).
    """
    return 2 * centers.T, -jnp.sum(jnp.square(centers), axis=-1)
