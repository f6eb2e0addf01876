"""Checks what a method that explains an output is called with, before it computes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from vitjax.core.errors import ConfigError
from vitjax.core.text import quoted
from vitjax.core.validation import check_keywords

Function = TypeVar("Function", bound=Callable[..., Any])
# What all methods take; the others are options.
GIVEN = ("model", "variables", "images", "target", "say")


def checked(function: Function) -> Function:
    """A method that checks its options by their annotations, its images and its classes.

    Out of range they would give maps of zeros or NaN: JAX takes what lies outside an array for NaN,
    and a loop without steps for its start. What is traced is not known and not checked.

    Raises:
        ConfigError: in the method, where an argument cannot be used.
    """
    signature = inspect.signature(function)
    # A method that does not read it has a default.
    of_class = signature.parameters["target"].default is inspect.Parameter.empty

    @functools.wraps(function)
    def call(*values: Any, **keywords: Any) -> Any:
        arguments = signature.bind(*values, **keywords).arguments
        options = {
            name: _plain(value)
            for name, value in arguments.items()
            if name not in GIVEN and not _traced(value)
        }
        check_keywords(function, options, where=function.__name__, given=GIVEN)
        shape = np.shape(arguments["images"])
        if len(shape) != 4 or 0 in shape:
            raise ConfigError(
                f"{function.__name__}: images have the shape {shape}; it must be (batch, height,"
                " width, channels), with at least one image"
            )
        if of_class and not _traced(arguments["target"]):
            _check_target(function.__name__, arguments["target"], arguments["model"], shape[0])
        return function(*values, **keywords)

    return call  # type: ignore[return-value]


def _traced(value: Any) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def _plain(value: Any) -> Any:
    """A number or a list for an array of numbers, which annotations of options know."""
    return value.tolist() if isinstance(value, np.ndarray | jax.Array) else value


def _check_target(name: str, target: Any, model: Any, count: int) -> None:
    try:
        classes = np.asarray(target)
    except ValueError:  # rows of different lengths
        classes = np.array(target, object)
    if not jnp.issubdtype(classes.dtype, jnp.integer) or classes.shape not in ((), (1,), (count,)):
        raise ConfigError(
            f"{name}: target is {quoted(target)}; it must be the number of a class, or one for each"
            f" of {count} images"
        )
    # Of a model without a head what it outputs is not known.
    outputs = model.num_outputs
    wrong = classes[(classes < 0) | (classes >= outputs)]
    if outputs and wrong.size:
        raise ConfigError(
            f"{name}: there is no class {wrong.flat[0]}: the model has {outputs}, from 0 to"
            f" {outputs - 1}"
        )
