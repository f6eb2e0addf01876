"""The one registry of models: names to constructors of Linen modules."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vitjax.registry import Registry

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
    """The number of trained scalars of a model, for images of the paper's size.

    Raises:
        ConfigError: there is no such model or field.
    """
    height, width = facts(name)["image_size"], facts(name)["image_size"]
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    shapes: Any = jax.eval_shape(create(name, **overrides).init, jax.random.key(0), image)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def facts(name: str) -> Mapping[str, Any]:
    """What is known of a model beside its constructor.

    Returns:
        A mapping with ``image_size``, the height and width in pixels of the images that the paper
        trains on, and ``paper``, a short citation.

    Raises:
        ConfigError: there is no such model.
    """
    return MODELS.facts(name)
