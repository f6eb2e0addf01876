"""The module that a file of weights is for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from vitjax import models
from vitjax.core.validation import check_keywords, keywords_of
from vitjax.models.protocol import Model
from vitjax.models.registry import MODELS
from vitjax.weights.errors import WeightsError
from vitjax.weights.opening import Weights


def module_of(
    weights: Weights,
    model: str | None = None,
    *,
    say: Callable[[str], None] = print,
    **fields: Any,
) -> Model:
    """The module that a file's weights are for.

    Args:
        weights: the file.
        model: one of `vitjax.models.names`; None for what the file's shapes say. Of a named model
            only what its name leaves open is taken from the file: classes and options; nothing
            where it is of another class, of which the file's is a part.
        say: is told of what had to be guessed.
        **fields: fields of the module that go before what the file says.

    Raises:
        ConfigError: there is no such model or field, or the field has no such value.
        WeightsError: the file does not tell a field that is needed.
    """
    return module_with(weights, model, fields, say)


def module_with(
    weights: Weights,
    model: str | None,
    fields: Mapping[str, Any],
    say: Callable[[str], None],
) -> Model:
    """As `module_of`, with fields as a person wrote them, whose names may be any."""
    told = dict(weights.description.fields)
    named = weights.description.model if model is None else model
    cls, fixed = class_of(named)
    if not isinstance(named, str):
        # Those that a class needs are asked for below, in better words.
        given = functools.partial(cls, **dict.fromkeys(keywords_of(cls)))
        check_keywords(given, fields, where=cls.__name__)
    if model is None:
        if weights.description.siblings:
            raise WeightsError(
                f"{weights.where}: its names and shapes are those of a {cls.__name__}, but also of"
                f" {weights.description.siblings}. Name the model (model=..., --model), keep the"
                " config.json of its repository beside it or, for a file of another project, name"
                " that (format=..., --read-as)"
            )
        for field, words in weights.description.guessed.items():
            if field in fields:
                continue
            if field not in told:
                raise WeightsError(f"{weights.where}: {words}; say {field}=...")
            say(f"{weights.where}: {words}; {field}=... says otherwise")
    else:
        if cls is not class_of(weights.description.model)[0]:
            told = {}
        told = {k: v for k, v in told.items() if k not in fixed or k == "num_classes"}
        for field, words in weights.description.guessed.items():
            if field in told and field not in fields:
                say(f"{weights.where}: {words}; {field}=... says otherwise")
    if isinstance(named, str):
        return models.create(named, **{**told, **fields})
    return named(**{**told, **fields})


def class_of(model: str | type[Model]) -> tuple[Any, Mapping[str, Any]]:
    """The class that a name of a model, or a class, stands for, and the fields that it decides."""
    constructor = MODELS[model] if isinstance(model, str) else model
    if isinstance(constructor, functools.partial):
        return constructor.func, constructor.keywords
    return constructor, {}
