"""The one registry of models: names to constructors of Linen modules."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

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


def facts(name: str) -> Mapping[str, Any]:
    """What is known of a model beside its constructor.

    Returns:
        A mapping with ``image_size``, the height and width in pixels of the images that the paper
        trains on, and ``paper``, a short citation.

    Raises:
        ConfigError: there is no such model.
    """
    return MODELS.facts(name)
