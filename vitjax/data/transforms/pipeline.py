"""Pipelines of transforms, read from text such as ``"resize(256) | center_crop(224)"``."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitjax.core.errors import ConfigError
from vitjax.core.text import quoted
from vitjax.core.validation import call, keywords_of
from vitjax.data.sample import Sample
from vitjax.data.transforms.base import TRANSFORMS, Size, Transform
from vitjax.data.transforms.geometry import Cut, Resize

_MOST_QUOTED = 600  # characters of a pipeline in an error
# Names of before, and what they are called now.
_RENAMED = {"random_crop": "crop"}


@dataclass(frozen=True)
class Pipeline:
    """Transforms, one after the other.

    Attributes:
        text: what a person wrote.
        steps: the transforms.
    """

    text: str
    steps: tuple[Transform, ...]

    @property
    def random(self) -> bool:
        """Whether the result for one sample can differ from call to call."""
        return any(step.random for step in self.steps)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample after all steps."""
        following = iter((*self.steps[1:], None))
        done = False
        for step in self.steps:
            after = next(following)
            if done:  # with the step before it
                done = False
            elif isinstance(step, Resize) and isinstance(after, Cut) and step.enlarges(sample.size):
                sample, done = step.cut(sample, after, rng), True
            else:
                sample = step(sample, rng)
        return sample

    def fixed(self, image: np.ndarray) -> np.ndarray:
        """An image after all steps, by the same random numbers at every call."""
        return self(Sample(image), np.random.default_rng(0)).image

    def sized(self, size: Size | None) -> Size | None:
        """(height, width) of the result for an image of ``size``; None stands for any size."""
        for step in self.steps:
            size = step.sized(size)
        return size

    def undo(self, maps: np.ndarray, size: Size) -> np.ndarray:
        """Maps of a result at the size of the image; of a pipeline of reversible steps.

        Args:
            maps: floats, (height, width, channels).
            size: (height, width) of the image.
        """
        sizes = [size]
        for step in self.steps:
            after = step.sized(sizes[-1])
            assert after is not None  # as a size was given
            sizes.append(after)
        for step, before in zip(reversed(self.steps), reversed(sizes[:-1]), strict=True):
            maps = step.undo(maps, before)
        return maps


def parse(text: str, where: str = "transforms", *, complete: bool = False) -> Pipeline:
    """Builds the transforms that ``text`` names.

    ``text`` is names of transforms joined by ``|``, each with arguments in brackets if it has any:
    numbers, strings, tuples and the like, no expressions. Nothing in it is evaluated.

    Args:
        text: the pipeline; "" leaves samples as they are.
        where: where a person wrote it, for errors.
        complete: whether every step must be reversible and not random, as in the evaluation of
            masks.

    Raises:
        ConfigError: the text is not a pipeline; a name is unknown, or an argument cannot be used;
            or a step is not allowed. The message quotes the pipeline and names the near match.
    """
    if not isinstance(text, str):
        raise ConfigError(
            f"{where} is {quoted(text)}; it must be a string, such as 'resize(256) | flip'"
        )
    place = f"{where}: in {quoted(text, _MOST_QUOTED)}"
    if not text.strip():
        return Pipeline(text, ())
    try:
        tree = ast.parse(f"({text}\n)", mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = getattr(error, "msg", error)
        raise ConfigError(
            f"{place}: {reason}; a pipeline reads 'resize(256) | center_crop(224) | flip'"
        ) from None
    names, steps = zip(*(_build(node, place) for node in _steps(tree)), strict=True)
    if complete:
        _check_complete(names, steps, place)
    return Pipeline(text, steps)


def _check_complete(names: Sequence[str], steps: Sequence[Transform], place: str) -> None:
    for name, step in zip(names, steps, strict=True):
        if step.random or not step.reversible:
            known = [
                each
                for each, kind in ((each, TRANSFORMS[each]) for each in TRANSFORMS)
                if isinstance(kind, type)
                and issubclass(kind, Transform)
                and kind.reversible
                and not kind.random
            ]
            problem = "is random" if step.random else "does not show the complete image"
            raise ConfigError(
                f"{place}: {name} {problem}, and evaluation takes complete images as they are;"
                f" allowed here: {', '.join(known)}"
            )


def _steps(node: ast.expr) -> list[ast.expr]:
    steps: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        steps.append(node.right)
        node = node.left
    return [node, *reversed(steps)]


def _build(node: ast.expr, place: str) -> tuple[str, Transform]:
    name, positional, keywords = _call_of(node, place)
    if name in _RENAMED:
        raise ConfigError(f"{place}: {name} is called {_RENAMED[name]} now")
    constructor = TRANSFORMS.lookup(name, place)
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
    try:
        step = call(constructor, {**bound, **keywords}, where=f"{place}: {name}")
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:  # of a transform that checks its own values
        raise ConfigError(f"{place}: {name}: {error}") from error
    if not isinstance(step, Transform):
        raise ConfigError(
            f"{place}: {name} is {type(step).__name__}, which is not a Transform; derive it from"
            " vitjax.data.transforms.Photometric if it changes values of images, or from Transform"
            " if it moves pixels"
        )
    return name, step


def _call_of(node: ast.expr, place: str) -> tuple[str, list[Any], dict[str, Any]]:
    """The name, positional and keyword arguments of one step."""
    if isinstance(node, ast.Name):
        return node.id, [], {}
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ConfigError(
            f"{place}: {_shown(node)} is not a transform; steps are names such as flip, or"
            " names with arguments such as resize(256), joined by |"
        )
    positional = [_literal(argument, place, node.func.id) for argument in node.args]
    keywords = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise ConfigError(f"{place}: '**' cannot stand in a pipeline")
        if keyword.arg in keywords:
            raise ConfigError(f"{place}: {node.func.id} is given {keyword.arg!r} twice")
        keywords[keyword.arg] = _literal(keyword.value, place, f"{node.func.id}.{keyword.arg}")
    return node.func.id, positional, keywords


def _literal(node: ast.expr, place: str, name: str) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise ConfigError(
            f"{place}: {name}: the argument {_shown(node)} is not a plain value (a number, quoted"
            " text, True, None, or a tuple of these)"
        ) from None


def _shown(node: ast.expr) -> str:
    """The text of ``node`` in quotes, for an error."""
    try:
        return quoted(ast.unparse(node))
    except RecursionError:
        return "what is nested there"
