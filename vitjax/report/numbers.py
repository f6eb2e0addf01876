"""Numbers and names as a page shows them."""

from __future__ import annotations

import json
import math
from typing import Any

from vitjax.core.text import duration, printable

_NAME = 120  # characters


def name(text: Any, most: int = _NAME) -> str:
    """``text`` on one line of at most ``most`` characters."""
    line = printable(text)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def number(value: Any, fraction: bool = False) -> str:
    """A number: ``"98.33%"`` of a fraction, else four digits; a dash for NaN and None."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return name(value)
    if fraction:
        return f"{value:.2%}"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}"


def spread(value: float, half: float, fraction: bool = False) -> str:
    """A number with half of the width of its interval, if there is one: ``"98.3% ± 0.4%"``."""
    if math.isnan(half):
        return number(value, fraction)
    if fraction:
        return f"{value:.2%} ± {half:.2%}"
    return f"{value:.4g} ± {half:.2g}"


def count(value: float) -> str:
    """A large number: ``"1.23 M"``."""
    for power, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= power:
            return f"{value / power:.3g} {unit}"
    return f"{value:.4g}"


def seconds(value: float) -> str:
    """A time; short ones with two digits."""
    return f"{value:.2g} s" if value < 10 else duration(value)


def setting(value: Any) -> str:
    """A value of a config as JSON, shortened."""
    return name(json.dumps(value, ensure_ascii=False, default=str), 400)
