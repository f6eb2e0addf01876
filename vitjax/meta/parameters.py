"""Which parameters an inner loop adapts, and what it starts from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Array, Float

from vitjax.core.errors import ConfigError
from vitjax.core.names import matches

# The last layer, as all models of the house call it.
HEAD = r"(^|/)head/"
CONTEXT = r"(^|/)context$"

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
    """Those leaves that match ``adapted`` and not ``fixed``, and the others."""
    moving = {
        name: leaf
        for name, leaf in leaves.items()
        if matches(name, adapted) and not matches(name, fixed)
    }
    return moving, {name: leaf for name, leaf in leaves.items() if name not in moving}


def check_moving(moving: Leaves) -> None:
    """Raises ConfigError if ``moving``, the adapted parameters, are none."""
    if not moving:
        raise ConfigError(
            "config.objective.adapted: nothing is left to adapt; it should match a parameter that"
            " config.objective.fixed does not match, and that no other key keeps from moving"
        )


def head_names(leaves: Leaves) -> tuple[str, str]:
    """The names of the last layer's kernel and bias.

    Raises:
        ConfigError: the model has no such layer.
    """
    kernels = [n for n in leaves if re.search(HEAD + "kernel$", n)]
    biases = [n for n in leaves if re.search(HEAD + "bias$", n)]
    if len(kernels) != 1 or len(biases) != 1:
        raise ConfigError(
            "objective: the model has no layer 'head' with a kernel and a bias (its parameters:"
            f" {', '.join(leaves)})"
        )
    return kernels[0], biases[0]


def class_sums(
    features: Float[Array, "examples width"], onehot: Float[Array, "examples ways"]
) -> tuple[Float[Array, "ways width"], Float[Array, "ways"]]:
    """The sum of each class's features, and how many there were."""
    return onehot.T @ features, jnp.sum(onehot, axis=0)


def prototypes(
    features: Float[Array, "examples width"], onehot: Float[Array, "examples ways"]
) -> Float[Array, "ways width"]:
    """The mean of each class's features (Snell et al. 2017, arXiv:1703.05175, Eq. 1)."""
    sums, counts = class_sums(features, onehot)
    return sums / jnp.maximum(counts, 1)[:, None]


def prototype_head(centers: Float[Array, "ways width"]) -> tuple[Array, Array]:
    """Kernel (width, ways) and bias of the linear layer that compares with ``centers``.

    -|x - c|^2 = 2 c.x - |c|^2 - |x|^2, of which the last term is the same for all classes:
    arXiv:1703.05175, Eq. 8; as the start of an inner loop Triantafillou et al. 2020 (Proto-MAML),
    arXiv:1903.03096, Sec. 3.
    """
    return 2 * centers.T, -jnp.sum(jnp.square(centers), axis=-1)


def replace(leaves: Leaves, change: Callable[[str, Any], Any]) -> Leaves:
    """``leaves`` with each one changed by ``(name, leaf) -> leaf``."""
    return {name: change(name, leaf) for name, leaf in leaves.items()}
