"""What the pictures share: a figure without a screen, text on it, and a whole file or none."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vitjax.core.atomic import new_file

DPI = 120


def new_figure(width: float, height: float, layout: Any = None) -> Figure:
    """A figure of a size in inches that knows nothing of pyplot and needs no display."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def axes_at(figure: Figure, left: float, above: float, width: float, height: float) -> Axes:
    """Axes placed in inches from the figure's top left corner."""
    total_width, total_height = figure.get_size_inches()
    bottom = total_height - above - height
    return figure.add_axes(
        (left / total_width, bottom / total_height, width / total_width, height / total_height)
    )


def write(figure: Figure, left: float, above: float, text: str, **style: Any) -> None:
    """Text whose foot is placed in inches from the figure's top left corner."""
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - above / height, text, va="bottom", **style)


def write_heading(figure: Figure, heading: str) -> None:
    """One line, centred at the figure's top."""
    height = figure.get_size_inches()[1]
    figure.text(0.5, 1 - 0.08 / height, heading, fontsize=10, ha="center", va="top")


def one_line(text: Any, length: int) -> str:
    """``text`` on one line, at most ``length`` characters, without its middle if it is longer."""
    text = " ".join(str(text).split())
    if len(text) > length:
        head = (length - 1) * 2 // 3
        text = f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"
    # Two dollars would make matplotlib read what stands between them as a formula.
    return text.replace("$", r"\$")


def message(text: str, path: str | Path) -> Path:
    """A picture that says ``text``, for where there is nothing to draw."""
    figure = new_figure(5.0, 1.6)
    figure.text(0.5, 0.5, text, fontsize=11, ha="center", va="center", wrap=True)
    return save(figure, path)


def save(figure: Figure, path: str | Path) -> Path:
    """Writes ``figure`` as a PNG; ``path`` is the old file, or none, until the new one is whole."""
    with new_file(path) as unfinished, warnings.catch_warnings():
        # Class names may be in any script; a box for a letter is no reason to worry anybody.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(unfinished, format="png")
    return Path(path)
