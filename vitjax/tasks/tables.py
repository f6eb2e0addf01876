"""Tables of predictions and counts as lines of text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

TOP = 5  # classes of a result


def aligned(rows: Iterable[tuple[str, Mapping[str, float]]]) -> list[str]:
    """Rows of (image, {name: fraction}) as aligned lines."""
    listed: list[tuple[str, Mapping[str, float]]] = list(rows)
    width = max((len(image) for image, _ in listed), default=0)
    lines = []
    for image, values in listed:
        cells = [f"{name} {value:.1%}" for name, value in values.items()]
        lines.append(f"{image:{width}}  " + "  ".join(f"{cell:<14}" for cell in cells).rstrip())
    return lines


def aligned_ranks(predictions: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line per image: its most probable classes."""
    return aligned(
        (each["image"], {p["class"]: p["probability"] for p in each["predictions"]})
        for each in predictions
    )


def ranked_row(prediction: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the most probable classes: ``class``, ``probability``, ``class_2``, ..."""
    row: dict[str, Any] = {"image": prediction["image"]}
    for place, each in enumerate(prediction["predictions"], 1):
        end = "" if place == 1 else f"_{place}"
        row[f"class{end}"], row[f"probability{end}"] = each["class"], each["probability"]
    return row


def ranked(names: Sequence[str], probabilities: Any, top: int) -> list[dict[str, Any]]:
    """The ``top`` most probable classes: ``[{"class": name, "probability": number}, ..]``."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [{"class": names[i], "probability": round(float(probabilities[i]), 6)} for i in order]


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
    width = max(len("class"), *(len(name) for name in names))
    rows: list[tuple[str, Sequence[Any]]] = [
        ("class", list(counts)),
        *((name, [count[name] for count in counts.values()]) for name in names),
        ("all", [sum(count.values()) for count in counts.values()]),
    ]
    for name, cells in rows:
        say(f"{name:{width}}" + "".join(f"{cell:>{space}}" for cell in cells))
