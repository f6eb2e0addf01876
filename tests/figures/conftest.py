"""What the tests of figures look at: the figures that were saved, and their texts."""

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text


def when_saved(monkeypatch, look):
    """Calls ``look(figure)`` after each figure is saved."""
    savefig = Figure.savefig

    def spy(figure, *arguments, **keywords):
        savefig(figure, *arguments, **keywords)
        look(figure)

    monkeypatch.setattr(Figure, "savefig", spy)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved during a test."""
    found: list[Figure] = []
    when_saved(monkeypatch, found.append)
    return found


@pytest.fixture
def words(monkeypatch):
    """All texts of the figures that were saved during a test."""
    found: list[str] = []

    def read(figure):
        found.extend(text.get_text() for text in figure.findobj(Text) if text.get_text())

    when_saved(monkeypatch, read)
    return found
