"""Text for messages: near matches and short lists."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

# Receives progress messages, as `print` does.
Say = Callable[[str], None]

# Control characters, line and paragraph separators, surrogates. Of format characters only the marks
# of direction, which turn around what follows: others are part of words and emoji.
_NOT_SHOWN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
    r"\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]"
)
_LONGEST_WORD = 4096  # which is compared with others; the time grows with the square


def say_nothing(text: str) -> None:
    """A `Say` that drops the message, as on all hosts but the first."""


def near_match(word: object, options: Iterable[str]) -> str:
    """Returns ``"; did you mean 'x'?"`` for the option nearest to ``word``, or ``""``."""
    word = word if isinstance(word, str) else quoted(word)
    # One wrong letter is half of a word of two.
    found = nearest(word, options, 0.6 if len(word) > 3 else 0.5)
    return f"; did you mean {found!r}?" if found is not None else ""


def nearest(word: str, options: Iterable[str], similarity: float) -> str | None:
    """The option nearest to ``word``, if their similarity, in [0, 1], is at least this one."""
    if len(word) > _LONGEST_WORD:
        return None
    found = difflib.get_close_matches(word, list(options), n=1, cutoff=similarity)
    return found[0] if found else None


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


def quoted(value: object, most: int = 200) -> str:
    """``repr(value)`` for a message: on one line, at most about ``most`` characters, of any value.

    Of what is longer, the beginning and ``...`` are shown.
    """
    try:
        text = repr(value[:most] if isinstance(value, str | bytes) else value)
    except Exception:  # an integer of too many digits, or whatever an object of a user raises
        text = f"<{type(value).__name__}>"
    text = printable(text[: most + 1])
    long = len(text) > most or (isinstance(value, str | bytes) and len(value) > most)
    return f"{text[:most]}..." if long else text


def counted(number: int, what: str, plural: str = "s") -> str:
    """A number of things: ``"1 image"``, ``"1,200 images"``; ``plural`` is what many append."""
    return f"{number:,} {what}{'' if number == 1 else plural}"


def shortened(names: Sequence[object], most: int = 5) -> str:
    """The first ``most`` of ``names``, and ``...`` where there are more."""
    return ", ".join(map(str, names[:most])) + (", ..." if len(names) > most else "")


def printable(text: object) -> str:
    r"""``text`` on one line that a terminal shows as it is, for names of files and classes.

    Control characters, line ends and marks of the direction of writing become escapes, ``"\x1b"``,
    and so do surrogates, which stand for the bytes of a file name that is not UTF-8.
    """
    return _NOT_SHOWN.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def is_printable(text: str) -> bool:
    """Whether `printable` leaves ``text`` as it is."""
    return _NOT_SHOWN.search(text) is None


def portable(value: Any) -> Any:
    r"""JSON values for the files of results: surrogates in texts and keys are escapes.

    They stand for the bytes of a name that is not UTF-8, and many readers of JSON refuse them. A
    byte 0xff becomes the text ``\\udcff``, as in the CSV files.
    """
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, Mapping):
        return {portable(key): portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    return value


def printable_lines(text: str) -> str:
    """`printable` of each line of a message."""
    return "\n".join(map(printable, text.split("\n")))
