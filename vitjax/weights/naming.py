"""Networks in words: the registered model that a network is, and how it differs from that."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from vitjax import models
from vitjax.core.errors import ConfigError
from vitjax.models.protocol import Model
from vitjax.weights.layouts import Description


@dataclasses.dataclass(frozen=True)
class Named:
    """The registered model that is nearest to a network.

    Attributes:
        name: of the model.
        fields: those of the network that the model has otherwise.
    """

    name: str
    fields: Mapping[str, Any]

    def __str__(self) -> str:
        fields = {key: value for key, value in self.fields.items() if key != "num_classes"}
        return f"{self.name}{' with ' if fields else ''}{', '.join(_pairs(fields))}"

    @property
    def config(self) -> str:
        """The line of a config for the network."""
        # A run adds a head for its own classes to a network without one.
        fields = {k: v for k, v in self.fields.items() if k != "num_classes" or v}
        return f"config.model = dict({', '.join([f'name={self.name!r}', *_pairs(fields)])})"


def nearest(module: Model, unknown: Mapping[str, Any] | None = None) -> Named | None:
    """The registered model nearest to ``module``; None if no model of its class is registered.

    Args:
        module: the network.
        unknown: fields whose values are not known, which are not compared.
    """
    own = module.effective_fields()
    compared = [key for key in own if key not in (unknown or {})]
    best: Named | None = None
    for name, registered in _registered():
        if type(registered) is not type(module):
            continue
        other = registered.effective_fields()
        fields = {key: own[key] for key in compared if other[key] != own[key]}
        if best is None or _structural(fields) < _structural(best.fields):
            best = Named(name, fields)
    return best


def of(description: Description) -> Named | None:
    """The registered model nearest to what a file says of its network."""
    return nearest(described(description), _unknown(description))


def described(description: Description) -> Model:
    """The module of a description, with some values for fields that no array shows."""
    fields = {**description.placeholders, **description.fields}
    try:
        built: Model = description.model(**fields)
    except ConfigError:  # what was assumed is impossible with the sizes
        built = description.model(**{**description.fields, **description.placeholders})
    return built


def differences(description: Description, module: Model) -> dict[str, tuple[Any, Any]]:
    """Fields that the arrays show and that ``module`` has otherwise: (the file's, the model's).

    The number of classes is left out, since another head is made for it.
    """
    there, here = described(description).effective_fields(), module.effective_fields()
    shapeless = [
        key
        for key, rule in module.shapeless_fields.items()
        # Of a value that the parameters do show, the difference is one of arrays.
        if rule.shown is None or rule.shown not in (there.get(key), here.get(key))
    ]
    hidden = (*shapeless, *_unknown(description), "num_classes")
    shown = [key for key in description.fields if key in there and key not in hidden]
    return {
        key: (there[key], here[key])
        for key in shown
        # Of two numbers with a fraction, only that they are there shows.
        if there[key] != here[key] and not isinstance(there[key] and here[key], float)
    }


def _unknown(description: Description) -> dict[str, Any]:
    return {k: v for k, v in description.placeholders.items() if k not in description.fields}


def _registered() -> Iterator[tuple[str, Model]]:
    for name in models.names():
        try:
            yield name, models.create(name)
        except (ConfigError, TypeError):  # a model of a user's own with required fields
            continue


def _structural(fields: Mapping[str, Any]) -> int:
    return len(set(fields) - {"num_classes"})


def _pairs(fields: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value!r}" for key, value in sorted(fields.items())]
