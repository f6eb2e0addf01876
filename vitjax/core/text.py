"""Text for messages: near matches and short lists."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence

# Receives progress messages, as `print` does.
Say = Callable[[str], None]


def near_match(word: str, options: Iterable[str]) -> str:
    """Returns ``"; did you mean 'x'?"`` for the option nearest to ``word``, or ``""``."""
    # One wrong letter is half of a word of two.
    cutoff = 0.6 if len(str(word)) > 3 else 0.5
    found = difflib.get_close_matches(str(word), list(options), n=1, cutoff=cutoff)
    return f"; did you mean {found[0]!r}?" if found else ""


def natural_key(text: str) -> list[tuple[int, str]]:
    """A key that sorts ``slice10`` after ``slice9``.

    Only decimal digits are numbers: a superscript, such as that of ``a²``, is a letter.
    """
    parts = re.split(r"(\d+)", text)
    return [(int(part), "") if place % 2 else (-1, part) for place, part in enumerate(parts)]


def duration(seconds: float) -> str:
    """A time in the units that people use: ``"45 s"``, ``"3 min"``, ``"2 h 10 min"``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h" if hours >= 48 else f"{hours} h {rest} min"


def shortened(names: Sequence[object], most: int = 5) -> str:
    """The first ``most`` of ``names``, and ``...`` where there are more."""
    return ", ".join(map(str, names[:most])) + (", ..." if len(names) > most else "")
