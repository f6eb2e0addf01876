"""What a task shows of a run: parts of a page, of blocks of a few kinds.

A task yields numbers and images; how they are drawn is the business of the room ``report``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Words(NamedTuple):
    """A paragraph."""

    text: str


class Grid(NamedTuple):
    """A table that the reader can sort.

    Attributes:
        columns: the name of each column.
        rows: the values of each row: numbers, text, or None for an empty cell.
        fractions: the columns whose numbers are printed as percentages.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    fractions: Sequence[str] = ()


class Colors(NamedTuple):
    """What colours stand for.

    Attributes:
        names: of the classes.
        colors: of each, (classes, 3) uint8.
    """

    names: Sequence[str]
    colors: np.ndarray


class Confusions(NamedTuple):
    """A confusion matrix that the reader can sort.

    Attributes:
        counts: (true classes, predicted classes).
        names: the name of each class.
    """

    counts: np.ndarray
    names: Sequence[str]


class Reliability(NamedTuple):
    """How well probabilities agree with frequencies.

    Attributes:
        confidence: the largest probability of each example, (examples,).
        right: whether its class is right, (examples,).
    """

    confidence: np.ndarray
    right: np.ndarray


class Picture(NamedTuple):
    """An image and what is said of it.

    Attributes:
        image: (height, width[, channels]), as of `vitjax.figures.pixels`.
        caption: the line below it.
        alt: what it shows, for those who do not see it.
    """

    image: Any
    caption: str
    alt: str


class Pictures(NamedTuple):
    """Images side by side.

    Attributes:
        pictures: the images.
        heading: what they have in common.
    """

    pictures: Sequence[Picture]
    heading: str = ""


class Explained(NamedTuple):
    """Images with maps of what the model looks at.

    Attributes:
        pictures: the images, transformed as in evaluation, before normalisation.
        targets: the number of the class that each is explained for.
    """

    pictures: Sequence[Picture]
    targets: Sequence[int]


class Watched(NamedTuple):
    """The same images by each checkpoint that the run keeps.

    Attributes:
        pictures: as of `Explained`.
        targets: as of `Explained`; unused with ``draw``.
        draw: an image for each picture, drawn by the variables of a checkpoint (placed, of the
            objective); None for maps of what the model looks at.
    """

    pictures: Sequence[Picture]
    targets: Sequence[int]
    draw: Callable[[Any], Sequence[Any]] | None = None


class Line(NamedTuple):
    """A line of a chart.

    Attributes:
        name: its name in the legend.
        x: its places.
        y: its values; NaN is a gap.
        half_width: half of an interval around each value; None for no interval.
        group: lines of equal groups have one colour.
    """

    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    half_width: Sequence[float] | np.ndarray | None = None
    group: int | None = None


class Chart(NamedTuple):
    """Lines over one axis.

    Attributes:
        title: what is drawn.
        lines: at least one.
        x: the name of the horizontal axis.
        fraction: whether values are printed as percentages.
        points: a second set of lines, drawn as points alone.
        from_zero: whether the axis is linear and begins at 0; else it fits the values, and is
            logarithmic where they span more than two powers of ten.
        y: the name of the vertical axis, where the title does not say it.
        ends: whether the legend has the last value of each line.
    """

    title: str
    lines: Sequence[Line]
    x: str = "step"
    fraction: bool = False
    points: Sequence[Line] = ()
    from_zero: bool = False
    y: str = ""
    ends: bool = True


class Charts(NamedTuple):
    """Charts side by side."""

    charts: Sequence[Chart]


Block = Words | Grid | Colors | Confusions | Reliability | Pictures | Explained | Watched | Charts


class Part(NamedTuple):
    """A part of the page.

    Attributes:
        title: its heading.
        blocks: computes its blocks.
        slow: whether that compiles, or evaluates a split again: the page that the end of a run
            writes leaves such parts out.
    """

    title: str
    blocks: Callable[[], Iterable[Block]]
    slow: bool = False


class Score(NamedTuple):
    """A final result.

    Attributes:
        name: such as ``"accuracy"``.
        value: the number.
        low: the lower end of its 95% interval; None where it has none.
        high: the upper end.
        fraction: whether it is printed as a percentage.
        interval: how the interval was computed.
        higher_is_better: as of `vitjax.metrics.Declaration`.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    fraction: bool = False
    interval: str = ""
    higher_is_better: bool | None = None
