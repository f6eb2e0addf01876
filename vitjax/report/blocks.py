"""The blocks of a page as HTML, one function per kind."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup

from vitjax import figures
from vitjax.analysis.methods import METHODS
from vitjax.core.text import printable
from vitjax.data.writing import encoded
from vitjax.metrics import CalibrationError
from vitjax.report import svg
from vitjax.report.maps import OF_CLASS, OVER_TRAINING, Maps
from vitjax.report.numbers import count, name, number, seconds, setting
from vitjax.training.page import (
    Block,
    Charts,
    Colors,
    Confusions,
    Explained,
    Grid,
    Picture,
    Pictures,
    Reliability,
    Watched,
    Words,
)

_LARGEST = 224  # pixels of an image's longer side
_ROWS = 1000  # of a table
_CHECKPOINTS = 6  # that images are shown by
_PIXELATED = 96  # images of fewer pixels are enlarged without blur

templates = jinja2.Environment(
    loader=jinja2.PackageLoader("vitjax.report"),
    autoescape=True,  # of all templates, whatever their suffix
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
templates.filters |= {"name": name, "number": number, "count": count, "seconds": seconds}
templates.filters["setting"] = setting


class Checkpoint(NamedTuple):
    """A checkpoint that is kept.

    Attributes:
        step: its step.
        load: loads its variables, placed on the devices.
    """

    step: int
    load: Callable[[], Any]


class Drawer:
    """Draws blocks.

    Args:
        maps: computes maps of what the model looks at; None draws the images without them.
        variables: those of the checkpoint that is shown, placed on the devices.
        checkpoints: those that are kept, in the order of their steps.
    """

    def __init__(
        self,
        maps: Maps | None = None,
        variables: Any = None,
        checkpoints: Sequence[Checkpoint] = (),
    ):
        self._maps, self._variables, self._checkpoints = maps, variables, checkpoints
        self._ways: Mapping[type[Any], Callable[[Any], Markup]] = {
            Words: words,
            Grid: grid,
            Colors: colors,
            Confusions: confusions,
            Reliability: reliability,
            Pictures: lambda block: pictures(block.heading, [[each] for each in block.pictures]),
            Charts: charts,
            Explained: self._explained,
            Watched: self._watched,
        }

    def __call__(self, block: Block) -> Markup:
        """A block as HTML."""
        return self._ways[type(block)](block)

    def _explained(self, block: Explained) -> Markup:
        if self._maps is None or not block.pictures:
            return pictures("", [[each] for each in block.pictures])
        images = [each.image for each in block.pictures]
        method, found = self._maps(self._variables, images, block.targets, OF_CLASS)
        shown = [
            [each, _over(each, one, method)]
            for each, one in zip(block.pictures, found, strict=True)
        ]
        return pictures(f"right: {_title(method)}", shown)

    def _watched(self, block: Watched) -> Markup:
        if not self._checkpoints:
            return words(Words("The run keeps no checkpoint."))
        chosen = np.unique(
            np.linspace(0, len(self._checkpoints) - 1, _CHECKPOINTS).round().astype(int)
        )
        images = [each.image for each in block.pictures]
        columns, method = [], ""
        for place in chosen.tolist():
            variables = self._checkpoints[place].load()
            if block.draw is not None:
                drawn = block.draw(variables)
                columns.append(
                    [
                        each._replace(image=one)
                        for each, one in zip(block.pictures, drawn, strict=True)
                    ]
                )
                continue
            assert self._maps is not None
            method, found = self._maps(variables, images, block.targets, OVER_TRAINING)
            columns.append(
                [_over(each, one, method) for each, one in zip(block.pictures, found, strict=True)]
            )
        about = ""
        if method:
            of_class = METHODS[method].of_class
            about = f"{'Map of the true class' if of_class else 'Attention'} by {_title(method)}."
        steps = [self._checkpoints[place].step for place in chosen.tolist()]
        rows = [
            {
                "image": _image(each),
                "caption": each.caption,
                "others": [
                    _image(column[i], f", after step {step}")
                    for column, step in zip(columns, steps, strict=True)
                ],
            }
            for i, each in enumerate(block.pictures)
        ]
        return _macro("watched", rows, steps, about, len(self._checkpoints))


def words(block: Words) -> Markup:
    """A paragraph."""
    return Markup("<p>{}</p>").format(printable(block.text))


def grid(block: Grid) -> Markup:
    """A sortable table."""
    fractions = [column in block.fractions for column in block.columns]
    rows = [
        [_cell(value, fraction) for value, fraction in zip(row, fractions, strict=True)]
        for row in block.rows[:_ROWS]
    ]
    numeric = [any(row[place]["number"] for row in rows) for place in range(len(block.columns))]
    columns = list(zip(block.columns, numeric, strict=True))
    return _macro("grid", columns, rows, len(block.rows))


def colors(block: Colors) -> Markup:
    """Names beside their colours."""
    triples = [" ".join(map(str, color)) for color in np.asarray(block.colors).tolist()]
    return _macro("colors", list(zip(block.names, triples, strict=True)))


def confusions(block: Confusions) -> Markup:
    """A sortable matrix."""
    counts = np.asarray(block.counts)
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    errors = totals - np.diag(counts)
    rows = [
        {
            "name": label,
            "total": int(totals[i]),
            "errors": int(errors[i]),
            "cells": list(zip(counts[i].tolist(), shares[i].round(3).tolist(), strict=True)),
        }
        for i, label in enumerate(block.names)
    ]
    return _macro("confusions", rows)


def reliability(block: Reliability) -> Markup:
    """A reliability diagram, and the expected calibration error."""
    if not len(block.right):
        return words(Words("There are no predictions."))
    measure = CalibrationError()
    error = measure.compute({"confidence": block.confidence, "right": block.right})
    mean, right = float(np.mean(block.confidence)), float(np.mean(block.right))
    about = "over-confident" if mean > right else "under-confident"
    return _macro(
        "reliability",
        svg.reliability(block.confidence, block.right, measure.bins),
        error,
        mean,
        right,
        about,
        measure.bins,
    )


def charts(block: Charts) -> Markup:
    """Charts side by side."""
    return Markup("<div class=charts>{}</div>").format(
        Markup("").join(map(svg.chart, block.charts))
    )


def pictures(heading: str, groups: Sequence[Sequence[Picture]]) -> Markup:
    """Images side by side; those of a group share the caption of the first."""
    shown = [
        {"images": [_image(each) for each in group], "caption": group[0].caption}
        for group in groups
    ]
    return _macro("pictures", heading, shown)


def _title(method: str) -> str:
    return {"grad_cam": "Grad-CAM"}.get(method, method.replace("_", " "))


def _over(picture: Picture, one: np.ndarray, method: str) -> Picture:
    """A map over its picture."""
    drawn = figures.explained(picture.image, one)
    return picture._replace(image=drawn, alt=f"{_title(method)} over {picture.alt}")


def _image(picture: Picture, after: str = "") -> dict[str, Any]:
    """What the template needs of an image."""
    drawn = figures.pixels(picture.image)
    # Few colours, as in masks, would be blurred by JPEG.
    exact = (
        len(
            np.unique(
                drawn[::4, ::4].reshape(-1, drawn.shape[-1] if drawn.ndim == 3 else 1), axis=0
            )
        )
        <= 16
    )
    media, content = encoded(drawn, _LARGEST, exact=exact)
    return {
        "uri": f"data:{media};base64,{base64.b64encode(content).decode()}",
        "alt": name(picture.alt + after, 200),
        "small": max(drawn.shape[:2]) <= _PIXELATED,
    }


def _cell(value: Any, fraction: bool) -> dict[str, Any]:
    """What the template needs of a cell; numbers are sorted as such."""
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return {
        "text": number(value, fraction and numeric),
        "number": numeric,
        "sort": repr(float(value)) if numeric else "nan" if value is None else name(value),
    }


def _macro(which: str, *arguments: Any) -> Markup:
    """The HTML of a macro of the template of blocks."""
    made: Markup = getattr(templates.get_template("blocks.html.j2").module, which)(*arguments)
    return made
