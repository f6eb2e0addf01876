"""Handwriting of invented alphabets: few-shot data without a download."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np

from vitjax.core.machine import check_memory
from vitjax.core.validation import Bounds, NonNegativeInt
from vitjax.data.sources.base import ArraySplit, Source, register

# Strokes are drawn larger by this factor and averaged, which smooths their edges.
_SUPERSAMPLING = 4
# OpenCV takes positions as integers, here in units of 1/16 pixel.
_FRACTION_BITS = 4
_POINTS_PER_PIECE = 10

_TRAIN, _VAL = 0.64, 0.16  # fractions of the classes, as of miniImageNet


@register("glyphs")
def glyphs(
    classes: Annotated[int, Bounds(at_least=5, at_most=10**5)] = 200,
    drawings: Annotated[int, Bounds(at_least=1, at_most=10**5)] = 20,
    image_size: Annotated[int, Bounds(at_least=8, at_most=2**11)] = 28,
    alphabet: NonNegativeInt = 0,
) -> Source:
    """Invented characters, each drawn several times with random variation.

    The same keywords give the same images, and letter 7 does not depend on the number of letters.
    Images are uint8, (image_size, image_size, 1), white on black. 64% of the classes are ``train``,
    16% ``val`` and the rest ``test``, so splits share no class, as few-shot learning needs.

    Args:
        classes: number of letters.
        drawings: images of each.
        image_size: height and width in pixels.
        alphabet: seed of the alphabet.
    """
    check_memory(
        classes * drawings * image_size**2,
        f"config.data.source = 'glyphs': classes = {classes} with drawings = {drawings}",
        "it keeps all images in memory, so fewer or smaller ones are needed",
    )
    ends = [round(classes * _TRAIN), round(classes * (_TRAIN + _VAL)), classes]
    splits = {}
    for name, start, stop in zip(("train", "val", "test"), [0, *ends], ends, strict=False):
        images = np.empty((stop - start, drawings, image_size, image_size, 1), np.uint8)
        for number in range(start, stop):
            rng = np.random.default_rng([alphabet, number])
            letter = Letter.design(rng)
            for drawing in range(drawings):
                images[number - start, drawing, ..., 0] = letter.draw(rng, image_size)
        labels = np.repeat(np.arange(start, stop, dtype=np.int32), drawings)
        splits[name] = ArraySplit(images.reshape(-1, *images.shape[2:]), labels, f"glyphs {name}")
    return Source(splits, tuple(f"glyph {number:03d}" for number in range(classes)))


@dataclass(frozen=True)
class Letter:
    """What all drawings of one character have in common.

    Attributes:
        strokes: the points that each stroke goes through, (points, 2) as x and y, the character's
            box reaching from -1 to 1.
    """

    strokes: tuple[np.ndarray, ...]

    @classmethod
    def design(cls, rng: np.random.Generator) -> Letter:
        """A new character: one to three strokes, which like to begin where another one passed."""
        while True:
            strokes: list[np.ndarray] = []
            for _ in range(rng.choice([1, 2, 3], p=[0.25, 0.45, 0.3])):
                start = rng.uniform(-1, 1, 2)
                if strokes and rng.random() < 0.7:
                    start = rng.choice(np.concatenate(strokes))
                strokes.append(_stroke(start, rng))
            everything = np.concatenate(strokes)
            low, high = everything.min(0), everything.max(0)
            ways = sum(np.linalg.norm(np.diff(points, axis=0), axis=1).sum() for points in strokes)
            # Neither a dash nor a tangle.
            if (high - low).min() > 0.6 and 2.4 < ways < 6:
                break
        # All letters fill a box, though not all the same one.
        room = rng.uniform([0.6, 0.8], 1) / (high - low) * 2
        return cls(tuple((points - (low + high) / 2) * room for points in strokes))

    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """One drawing: uint8 of shape (size, size)."""
        angle, slant = rng.normal(0, 0.1), rng.normal(0, 0.15)
        scale = rng.uniform(0.75, 1.05) * np.exp(rng.normal(0, 0.08, 2))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = turn @ np.array([[1, slant], [0, 1]]) * scale
        shift = rng.normal(0, 0.08, 2)
        large = size * _SUPERSAMPLING
        thickness = max(1, round(large * rng.uniform(0.05, 0.075)))
        canvas = np.zeros((large, large), np.uint8)
        for points in self.strokes:
            unsteady = points + rng.normal(0, 0.07, points.shape)
            path = smooth(unsteady) @ matrix.T * 0.66 + shift
            pixels = (path + 1) / 2 * large * 2**_FRACTION_BITS
            cv2.polylines(
                canvas,
                [np.round(pixels).astype(np.int32)],
                isClosed=False,
                color=255,
                thickness=thickness,
                shift=_FRACTION_BITS,
            )
        return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)


def _stroke(start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Points from ``start`` on, (2 to 6, 2): bends to one side, and a sharp turn now and then."""
    points = [start]
    # Off the edge rather than along it.
    heading = np.arctan2(*-start[::-1]) + rng.normal(0, 1)
    bend = rng.normal(0, 0.8)
    for _ in range(rng.integers(1, 6)):
        step = rng.uniform(0.5, 1) * np.array([np.cos(heading), np.sin(heading)])
        if np.abs(points[-1] + step).max() > 1.1:
            break
        points.append(points[-1] + step)
        if rng.random() < 0.25:
            bend = rng.choice([-1, 1]) * rng.uniform(1.2, 2.2)
        heading += bend
    if len(points) == 1:
        points.append(start * 0.2)
    return np.array(points)


def smooth(points: np.ndarray) -> np.ndarray:
    """A Catmull-Rom spline through ``points``, (n, 2): a curve as (more points, 2)."""
    before = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    p0, p1, p2, p3 = before[:-3], before[1:-2], before[2:-1], before[3:]
    t = np.linspace(0, 1, _POINTS_PER_PIECE)[:, None, None]
    curve = (
        2 * p1
        + (p2 - p0) * t
        + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
        + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    ) / 2
    return curve.transpose(1, 0, 2).reshape(-1, 2)
