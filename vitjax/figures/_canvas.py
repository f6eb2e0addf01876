"""What all figures share: a canvas without a display, text, and the PNG file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vitjax.core.atomic import new_file

DPI = 120
# Of networks, chosen to be distinguishable by colour-blind people; repeated with other marks.
_COLORS = ("#4c72b0", "#dd8452", "#2e8b57", "#8c6bb1", "#555555", "#b5507a")
_MARKS = ("o", "s", "^", "D")
_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"
# A name may have letters of any script, and be long.
_IGNORED_WARNINGS = (r"Glyph .* missing from", r"constrained_layout not applied")


def new_figure(width: float, height: float, layout: Any = None) -> Figure:
    """A figure of a size in inches that needs neither pyplot nor a display."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def axes_at(figure: Figure, left: float, above: float, width: float, height: float) -> Axes:
    """Axes at a position in inches from the figure's top left corner."""
    total_width, total_height = figure.get_size_inches()
    bottom = total_height - above - height
    return figure.add_axes(
        (left / total_width, bottom / total_height, width / total_width, height / total_height)
    )


def write(figure: Figure, left: float, above: float, text: str, **style: Any) -> None:
    """Text whose bottom is at a position in inches from the figure's top left corner."""
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - above / height, text, va="bottom", **style)


def write_heading(figure: Figure, heading: str) -> None:
    """Text centred at the figure's top."""
    height = figure.get_size_inches()[1]
    figure.text(0.5, 1 - 0.08 / height, heading, fontsize=10, ha="center", va="top")


def one_line(text: Any, length: int) -> str:
    """``text`` as matplotlib can draw it: one line of at most ``length`` characters.

    White space becomes single spaces, characters that cannot be printed (such as those of a file
    name that cannot be decoded) become U+FFFD, the middle of a longer text becomes an ellipsis, and
    dollar signs, which would delimit a formula, are escaped.
    """
    text = " ".join(str(text).split())
    text = "".join(letter if letter.isprintable() else _UNPRINTABLE for letter in text)
    if len(text) > length:
        head = (length - 1) * 2 // 3
        text = f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"
    return text.replace("$", r"\$")


def label(text: Any, length: int) -> str:
    """`one_line` for a legend, which omits labels that start with an underscore."""
    line = one_line(text, length)
    return f" {line}" if line.startswith("_") else line


def network_style(number: int) -> tuple[str, str]:
    """The colour and the mark of a network by its number; both together repeat after 24."""
    color = _COLORS[number % len(_COLORS)]
    return color, _MARKS[(number + number // len(_COLORS)) % len(_MARKS)]


def message(text: str, path: str | Path) -> Path:
    """A figure that consists of ``text``, for a run without data to draw."""
    figure = new_figure(5.0, 1.6)
    figure.text(0.5, 0.5, text, fontsize=11, ha="center", va="center", wrap=True)
    return save(figure, path)


def save(figure: Figure, path: str | Path) -> Path:
    """Writes ``figure`` as a PNG file, which replaces an existing one when it is complete."""
    with new_file(path) as unfinished, warnings.catch_warnings():
        for pattern in _IGNORED_WARNINGS:
            warnings.filterwarnings("ignore", message=pattern, category=UserWarning)
        figure.savefig(unfinished, format="png")
    return Path(path)
