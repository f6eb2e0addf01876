"""Transforms of image and mask together: what one is, pipelines of them, and mirrored borders."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from vitjax.core.errors import ConfigError
from vitjax.core.registry import Registry
from vitjax.data.segmentation.pairs import IGNORE, Pair
from vitjax.data.transforms.pipeline import Pipeline, parse

Size = tuple[int, int]


class PairTransform:
    """A small picklable callable: ``transform(pair, rng)`` gives another `Pair`.

    One that draws nothing from its generator says so with ``random = False``; evaluation takes no
    others.
    """

    random: ClassVar[bool] = True

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Pair:
        """The transformed pair; the one given is left as it is."""
        raise NotImplementedError

    def sized(self, size: Size | None) -> Size | None:
        """(height, width) of what comes of a pair of ``size``; None stands for any size."""
        return size

    def undo(self, maps: np.ndarray, size: Size) -> np.ndarray:
        """``maps``, floats (height, width, channels) of what came of a pair of ``size``, at that.

        Of a transform that is not random.
        """
        return maps


PAIR_TRANSFORMS: Registry[Callable[..., PairTransform]] = Registry("transform of image and mask")

register = PAIR_TRANSFORMS.register


def parse_pairs(text: str, where: str, evaluated: bool = False) -> Pipeline:
    """As `vitjax.data.transforms.parse`, of the transforms in this file.

    Args:
        text: the pipeline, such as ``"crop(256) | elastic | dihedral"``.
        where: where a person wrote it, for errors.
        evaluated: whether it is for evaluation, which takes images whole and as they are.

    Raises:
        ConfigError: the text is no pipeline of such transforms; or one is random in an evaluation.
    """
    pipeline = parse(text, where, PAIR_TRANSFORMS)
    if evaluated and pipeline.random:
        names = re.findall(r"(\w+)\s*(?=[(|]|$)", text)
        drawn = [n for n, step in zip(names, pipeline.steps, strict=True) if step.random]
        raise ConfigError(
            f"{where}: in {text!r}: {drawn[0]} is random, and evaluation takes whole"
            " images as they are; what can stand here is resize, pad_to_multiple, grayscale,"
            " gray_to_rgb and invert"
        )
    return pipeline


def size_after(pipeline: Pipeline, size: Size | None) -> Size | None:
    """(height, width) of what ``pipeline`` makes of a pair of ``size``; None stands for any."""
    for step in pipeline.steps:
        size = step.sized(size)
    return size


def undone(pipeline: Pipeline, maps: np.ndarray, size: Size) -> np.ndarray:
    """``maps`` of what ``pipeline`` made of a pair, at the size of the pair.

    Args:
        pipeline: without randomness.
        maps: floats, (height, width, channels).
        size: (height, width) of the pair.
    """
    if not pipeline.steps:
        return maps
    first = pipeline.steps[0]
    rest = replace(pipeline, steps=pipeline.steps[1:])
    return first.undo(undone(rest, maps, first.sized(size)), size)


def mirrored(start: int, count: int, length: int) -> np.ndarray:
    """Which of ``length`` pixels stand at ``start``, ``start + 1``, ... when mirrored at both ends.

    Any distance outside will do: -1 is pixel 1, ``length`` is pixel ``length - 2``.
    """
    if length == 1:
        return np.zeros(count, np.int64)
    place = np.arange(start, start + count) % (2 * length - 2)
    return np.minimum(place, 2 * length - 2 - place)


def each_array(pair: Pair, function: Callable[[np.ndarray], np.ndarray]) -> Pair:
    """The pair after moving whole pixels of all its arrays."""
    arrays = {
        key: None if array is None else np.ascontiguousarray(function(array))
        for key, array in vars(pair).items()
    }
    return Pair(**arrays)  # type: ignore[arg-type]


def window(pair: Pair, top: int, left: int, size: Size) -> Pair:
    """The part of ``size`` whose first pixel is (top, left), mirrored where it reaches outside."""
    rows = mirrored(top, size[0], pair.label.shape[0])
    columns = mirrored(left, size[1], pair.label.shape[1])
    return each_array(pair, lambda array: array[rows][:, columns])


def padded(pair: Pair, size: Size) -> Pair:
    """The pair with mirrored pixels below and to the right, which count nowhere."""
    height, width = pair.label.shape
    if (height, width) == size:
        return pair
    larger = window(pair, 0, 0, size)
    larger.label[height:] = IGNORE
    larger.label[:, width:] = IGNORE
    return larger
