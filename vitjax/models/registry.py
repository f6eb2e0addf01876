"""The one registry of models: names to constructors of Linen modules."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vitjax.core.registry import Registry

MODELS: Registry[Callable[..., nn.Module]] = Registry("model")


def create(name: str, /, **overrides: Any) -> nn.Module:
    """Returns the model registered under ``name``, with some of its fields overridden.

    Args:
        name: one of `names`.
        **overrides: fields of the module, such as ``num_classes=10``.

    Raises:
        ConfigError: there is no such model or field, or a field's value cannot be used.
    """
    return MODELS.create(name, **overrides)


def names() -> tuple[str, ...]:
    """All names that `create` knows."""
    return MODELS.names()


def count_parameters(name: str, /, **overrides: Any) -> int:
    """The number of trained scalars of a model, for inputs of the paper's shape.

    Raises:
        ConfigError: there is no such model or field.
    """
    example = jax.ShapeDtypeStruct((1, *input_shape(name)), jnp.float32)
    shapes: Any = jax.eval_shape(create(name, **overrides).init, jax.random.key(0), example)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def input_shape(name: str) -> tuple[int, ...]:
    """The shape of one of the paper's examples: (height, width, channels), mostly.

    Raises:
        ConfigError: there is no such model.
    """
    known = facts(name)
    return known.get("input_shape", (known["image_size"], known["image_size"], 3))


def facts(name: str) -> Mapping[str, Any]:
    """What is known of a model beside its constructor.

    Returns:
        A mapping with ``image_size``, the height and width in pixels of the images that the paper
        trains on (None for a model of plain numbers), and ``paper``, a short citation.

    Raises:
        ConfigError: there is no such model.
    """
    return MODELS.facts(name)
