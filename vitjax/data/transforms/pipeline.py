"""Pipelines of transforms, read from text such as ``"resize(256) | center_crop(224)"``."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np

from vitjax.core.errors import ConfigError
from vitjax.core.registry import Registry
from vitjax.core.validation import check_keywords, keywords_of

# The loader runs a transform per thread or worker process; threads of OpenCV's own on top of these
# would only fight them for the cores.
cv2.setNumThreads(0)


T = TypeVar("T")


class Transform(Protocol):
    """A small picklable callable.

    One that draws nothing from its generator may say so with a class attribute ``random = False``:
    a pipeline of such transforms makes the same of an image each time, so that results can be kept.
    """

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The transformed image; the one given is left as it is.

        Args:
            image: uint8, or float32 where the source has floats, (height, width, channels).
            rng: all randomness comes from here.
        """
        ...


TRANSFORMS: Registry[Callable[..., Transform]] = Registry("transform")

register = TRANSFORMS.register


@dataclass(frozen=True)
class Pipeline:
    """Transforms, one after the other.

    Attributes:
        text: what a person wrote.
        steps: the transforms.
    """

    text: str
    steps: tuple[Any, ...]

    @property
    def random(self) -> bool:
        """Whether the same image may come out differently: a step does not say that it is not."""
        return any(getattr(step, "random", True) for step in self.steps)

    def __call__(self, image: T, rng: np.random.Generator) -> T:
        """The image (or whatever it is that the steps take and give) after all steps."""
        for step in self.steps:
            image = step(image, rng)
        return image


def parse(text: str, where: str = "transforms", registry: Registry[Any] | None = None) -> Pipeline:
    """Builds the transforms that ``text`` names.

    ``text`` is names of transforms joined by ``|``, each with its arguments in brackets if it has
    any: numbers, text, tuples and the like, no expressions. Nothing in it is ever evaluated.

    Args:
        text: the pipeline; "" leaves images as they are.
        where: where a person wrote it, for errors.
        registry: what the names stand for; None means `TRANSFORMS`, those of single images.

    Raises:
        ConfigError: the text is no such pipeline, or a name or argument is not known or makes no
            sense; the message quotes the pipeline and names the near match.
    """
    if not isinstance(text, str):
        raise ConfigError(f"{where}: {text!r} is no text; a pipeline reads 'resize(256) | flip'")
    place = f"{where}: in {text!r}"
    if not text.strip():
        return Pipeline(text, ())
    try:
        tree = ast.parse(f"({text}\n)", mode="eval").body
    except (SyntaxError, ValueError) as error:
        reason = getattr(error, "msg", error)
        raise ConfigError(
            f"{place}: {reason}; a pipeline reads 'resize(256) | center_crop(224) | flip'"
        ) from None
    known = TRANSFORMS if registry is None else registry
    return Pipeline(text, tuple(_build(node, place, known) for node in _steps(tree)))


def _steps(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_steps(node.left), *_steps(node.right)]
    return [node]


def _build(node: ast.expr, place: str, registry: Registry[Any]) -> Any:
    name, positional, keywords = _call_of(node, place)
    try:
        constructor = registry[name]
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None
    parameters = list(keywords_of(constructor))
    if len(positional) > len(parameters):
        raise ConfigError(
            f"{place}: {name} takes at most {len(parameters)} arguments"
            f" ({', '.join(parameters) or 'none'}), not {len(positional)}"
        )
    bound = dict(zip(parameters, positional, strict=False))
    for key in keywords:
        if key in bound:
            raise ConfigError(f"{place}: {name} is given {key!r} twice")
    arguments = {**bound, **keywords}
    check_keywords(constructor, arguments, where=f"{place}: {name}")
    try:
        return constructor(**arguments)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{place}: {name}: {error}") from error


def _call_of(node: ast.expr, place: str) -> tuple[str, list[Any], dict[str, Any]]:
    """The name, positional and keyword arguments of one step."""
    if isinstance(node, ast.Name):
        return node.id, [], {}
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ConfigError(
            f"{place}: {ast.unparse(node)!r} is no transform; steps are names such as flip, or"
            " names with arguments such as resize(256), joined by |"
        )
    positional = [_literal(argument, place) for argument in node.args]
    keywords = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise ConfigError(f"{place}: '**' cannot stand in a pipeline")
        if keyword.arg in keywords:
            raise ConfigError(f"{place}: {node.func.id} is given {keyword.arg!r} twice")
        keywords[keyword.arg] = _literal(keyword.value, place)
    return node.func.id, positional, keywords


def _literal(node: ast.expr, place: str) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        raise ConfigError(
            f"{place}: the argument {ast.unparse(node)!r} is no plain value (a number, quoted"
            " text, True, None, or a tuple of these)"
        ) from None
