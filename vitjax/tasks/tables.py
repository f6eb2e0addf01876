"""Tables of predictions and counts as lines of text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vitjax.core.text import printable, shortened

TOP = 5  # classes of a result


def aligned(rows: Iterable[tuple[str, Mapping[str, float]]]) -> list[str]:
    """Rows of (image, {name: fraction}) as aligned lines."""
    listed = [(printable(image), values) for image, values in rows]
    width = max((len(image) for image, _ in listed), default=0)
    lines = []
    for image, values in listed:
        cells = [f"{printable(name)} {value:.1%}" for name, value in values.items()]
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


def short_name(name: str) -> str:
    """The last part of the name of an example that is a path: its file."""
    return name.rstrip("/").rpartition("/")[2] or name


def class_counts(names: Sequence[str], numbers: Any) -> dict[str, int]:
    """The number of examples of each class, by its name."""
    return dict(zip(names, map(int, numbers), strict=True))


def say_counts(
    counts: Mapping[str, Mapping[str, int]],
    names: Sequence[str],
    say: Callable[[str], None],
    space: int = 10,
) -> None:
    """Reports a table with one row per class, a count and its percentage per split, and sums.

    A line on the imbalance of the first split follows.
    """
    shown = {name: printable(name) for name in names}
    width = max(len("class"), *map(len, shown.values()))
    say(f"{'class':{width}}" + "".join(f"{split:>{space}}{'%':>8}" for split in counts))
    totals = {split: sum(count.values()) for split, count in counts.items()}
    for name, title in shown.items():
        cells = [(count[name], totals[split]) for split, count in counts.items()]
        say(f"{title:{width}}" + "".join(f"{n:>{space}}{_percent(n, of):>8}" for n, of in cells))
    say(
        f"{'all':{width}}"
        + "".join(f"{of:>{space}}{_percent(of, of):>8}" for of in totals.values())
    )
    split, count = next(iter(counts.items()))
    say(f"imbalance of {split}: {imbalance(count)}")


def imbalance(count: Mapping[str, int]) -> str:
    """The largest class over the smallest, in words; "none" if all are equal."""
    largest, smallest = max(count, key=count.__getitem__), min(count, key=count.__getitem__)
    if not count[smallest]:
        empty = [printable(name) for name, number in count.items() if not number]
        return f"no examples of {shortened(empty)}"
    if count[largest] == count[smallest]:
        return "none, all classes are of one size"
    ratio = count[largest] / count[smallest]
    most, least = (f"{printable(name)} {count[name]}" for name in (largest, smallest))
    return f"{ratio:.1f} ({most} / {least})"


def _percent(part: int, of: int) -> str:
    return f"{part / of:.1%}" if of else "-"
