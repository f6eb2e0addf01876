"""Tables of predictions and counts as lines of text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vitjax.core.text import printable


def aligned(rows: Iterable[tuple[str, Mapping[str, float]]]) -> list[str]:
    """Rows of (image, {name: fraction}) as aligned lines."""
    listed = [(printable(image), values) for image, values in rows]
    width = max((len(image) for image, _ in listed), default=0)
    lines = []
    for image, values in listed:
        cells = [f"{printable(name)} {value:.1%}" for name, value in values.items()]
        lines.append(f"{image:{width}}  " + "  ".join(f"{cell:<14}" for cell in cells).rstrip())
    return lines


def class_counts(names: Sequence[str], numbers: Any) -> dict[str, int]:
    """The number of examples of each class, by its name."""
    return dict(zip(names, map(int, numbers), strict=True))


def say_counts(
    counts: Mapping[str, Mapping[str, int]],
    names: Sequence[str],
    say: Callable[[str], None],
    space: int = 10,
) -> None:
    """Reports a table with one row per class, one column per split, and sums."""
    shown = [printable(name) for name in names]
    width = max(len("class"), *(len(name) for name in shown))
    rows: list[tuple[str, Sequence[Any]]] = [
        ("class", list(counts)),
        *(
            (title, [count[name] for count in counts.values()])
            for title, name in zip(shown, names, strict=True)
        ),
        ("all", [sum(count.values()) for count in counts.values()]),
    ]
    for name, cells in rows:
        say(f"{name:{width}}" + "".join(f"{cell:>{space}}" for cell in cells))
