"""The registry of models: names to constructors, and the facts of each name."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from vitjax.core.errors import ConfigError
from vitjax.core.registry import Registry
from vitjax.core.validation import call
from vitjax.models.counting import check_memory, is_deep, size_of
from vitjax.models.protocol import Model

MODELS: Registry[Callable[..., Model]] = Registry("model")

# Means and standard deviations of the channels, for values in [0, 1].
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CIFAR10 = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)}
SYMMETRIC = {"mean": (0.5,), "std": (0.5,)}


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is registered with a name: the keywords of ``MODELS.register``.

    Attributes:
        paper: a short citation.
        year: of the paper.
        image_size: height and width of the paper's images in pixels; None for other inputs.
        input_shape: of one example, where it is not (image_size, image_size, 3).
        mean: subtracted from values in [0, 1]: one number per channel, or one for all.
        std: what these are then divided by.
        interpolation: how images are resized.
        accuracy: top-1 on ImageNet's validation images in percent, of published weights that the
            model can load; None if it is not known.
        accuracy_source: which weights these are.
    """

    paper: str = ""
    year: int | None = None
    image_size: int | None = None
    input_shape: tuple[int, ...] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    accuracy: float | None = None
    accuracy_source: str = ""


def create(name: str, /, where: str = "", **overrides: Any) -> Model:
    """Returns the model registered under ``name``, with some of its fields overridden.

    Args:
        name: one of `names`.
        where: what errors call the model, such as ``"config.model"``.
        **overrides: fields of the module, such as ``num_classes=10``.

    Raises:
        ConfigError: an unknown model or field, a value that a field cannot have, or a registered
            module that is not a `Model`.
    """
    model = MODELS.create(name, where=where, **overrides)
    if not isinstance(model, Model):
        raise ConfigError(
            f"model {name!r} is a {type(model).__name__}, which should derive from"
            " vitjax.models.Model"
        )
    return model


def names() -> tuple[str, ...]:
    """All names that `create` knows."""
    return MODELS.names()


def tensor_parallel() -> tuple[str, ...]:
    """The names of the models that declare how they are split over a mesh axis ``model``."""

    def declares(made: Any) -> bool:
        made = made.func if isinstance(made, functools.partial) else made
        # A function may be registered too.
        return isinstance(made, type) and issubclass(made, Model) and bool(made.tensor_parallel)

    return tuple(name for name in MODELS if declares(MODELS[name]))


def facts(name: str) -> dict[str, Any]:
    """The facts of a model, as `Facts` lists them.

    Raises:
        ConfigError: an unknown model, or one that is registered with an unknown fact.
    """
    registered = call(Facts, MODELS.facts(name), where=f"the facts of model {name!r}")
    return dataclasses.asdict(registered)


def input_shape(name: str) -> tuple[int, ...]:
    """The shape of one of the paper's examples, mostly (height, width, channels).

    Raises:
        ConfigError: an unknown model, or one that was registered without a size.
    """
    known = facts(name)
    if known["input_shape"] is not None:
        return tuple(known["input_shape"])
    if known["image_size"] is None:
        raise ConfigError(f"model {name!r} is registered without image_size and input_shape")
    return known["image_size"], known["image_size"], 3


def count_parameters(name: str, /, **overrides: Any) -> int:
    """The number of trained scalars of a model, for inputs of the paper's shape.

    Raises:
        ConfigError: an unknown model or field.
    """
    example = jax.ShapeDtypeStruct((1, *input_shape(name)), jnp.float32)
    model = create(name, **overrides)
    if is_deep(model):
        check_memory(size_of(model, example), f"model {name!r}")
    shapes: Any = jax.eval_shape(model.init, jax.random.key(0), example)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
