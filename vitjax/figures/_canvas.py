"""What all figures share: a canvas without a display, text, and the PNG file."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from vitjax.core.atomic import new_file

DPI = 120
# Of networks, chosen to be distinguishable by colour-blind people; repeated with other marks.
_COLORS = ("#4c72b0", "#dd8452", "#2e8b57", "#8c6bb1", "#555555", "#b5507a")
_MARKS = ("o", "s", "^", "D")
_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"
# A name may have letters of any script, and be long.
_IGNORED_WARNINGS = (r"Glyph .* missing from", r"constrained_layout not applied")
_HEADING, _LINE = 10, 0.17  # points, inches
_LEGEND = 9  # points
_LONGEST_HEADING = 160  # characters of each line
_MARGIN = 0.08  # inches


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


def heading_lines(heading: str | None, width: float) -> list[str]:
    """The lines of a heading in a figure of a width in inches; none if it is empty."""
    if not heading:
        return []
    lines = [one_line(line, _LONGEST_HEADING) for line in heading.split("\n")]
    return [
        part for line in lines for part in wrapped(line, width - 2 * _MARGIN, _HEADING).split("\n")
    ]


def heading_height(lines: list[str]) -> float:
    """The inches at a figure's top that a heading takes, with the space below it."""
    return 0.28 + _LINE * len(lines) if lines else 0.1


def write_heading(figure: Figure, lines: list[str]) -> None:
    """Lines of `heading_lines`, centred at the figure's top."""
    if lines:
        above = 1 - _MARGIN / figure.get_size_inches()[1]
        figure.text(0.5, above, "\n".join(lines), fontsize=_HEADING, ha="center", va="top")


def title(figure: Figure, heading: str) -> None:
    """A heading above a constrained layout; the figure grows by its lines."""
    width, height = figure.get_size_inches()
    lines = heading_lines(heading, width)
    if lines:
        figure.set_size_inches(width, height + _LINE * (len(lines) - 1))
        figure.suptitle("\n".join(lines), fontsize=_HEADING)


def legend_below(
    figure: Figure, handles: Sequence[Any], labels: Sequence[str], columns: int = 3
) -> None:
    """A legend below a constrained layout, of the columns that the width has room for.

    The figure grows by its lines.
    """
    # A mark, its distance from the text, and the distance of columns, in units of the font size.
    beside = 5.0 * _LEGEND / 72
    widest = max(text_width(label, _LEGEND) for label in labels) + beside
    width, height = figure.get_size_inches()
    columns = max(1, min(len(labels), columns, int((width - 2 * _MARGIN) / widest)))
    figure.set_size_inches(width, height + 0.2 * (-(-len(labels) // columns) - 1))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        fontsize=_LEGEND,
        frameon=False,
    )


def wrapped(text: str, inches: float, fontsize: float) -> str:
    """A line, as of `one_line`, on as many lines as it needs to be at most ``inches`` wide.

    Lines end between words, or within a word that is wider than a line.
    """
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if not line or text_width(longer, fontsize) <= inches:
            line = longer
        else:
            lines.append(line)
            line = word
        while text_width(line, fontsize) > inches and len(line) > 1:
            fitting = (n for n in range(len(line) - 1, 0, -1) if not line[:n].endswith("\\"))
            end = next((n for n in fitting if text_width(line[:n], fontsize) <= inches), 0)
            if not end:
                break
            lines.append(line[:end])
            line = line[end:]
    return "\n".join([*lines, line])


def text_width(text: str, fontsize: float) -> float:
    """The width of a line of text in inches."""
    figure = _measuring_figure()
    with _without_warnings():
        extent = Text(text=text, fontsize=fontsize, figure=figure).get_window_extent()
    return float(extent.width) / DPI


@functools.cache
def _measuring_figure() -> Figure:
    return new_figure(1.0, 1.0)


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
    with new_file(path) as unfinished, _without_warnings():
        figure.savefig(unfinished, format="png")
    return Path(path)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignores the warnings that names of any script and of any length cause."""
    with warnings.catch_warnings():
        for pattern in _IGNORED_WARNINGS:
            warnings.filterwarnings("ignore", message=pattern, category=UserWarning)
        yield
