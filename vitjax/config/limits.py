"""What a config may hold at all, before anything copies, compares or prints it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections
from ml_collections.config_dict import RequiredValueError

from vitjax.core.errors import ConfigError
from vitjax.core.text import quoted

MOST_VALUES = 10**6
MOST_CHARACTERS = 10**5  # of one text
MOST_OF_KEY = 500  # characters
MOST_LEVELS = 40  # of sections and lists within each other
MOST_BITS = 2048  # of an integer


def check(config: Any, where: str = "config") -> None:
    """Checks keys and sizes of a config, whatever its values are for.

    Args:
        config: a ConfigDict, or plain sections.
        where: its name, for errors.

    Raises:
        ConfigError: a key is no string or has a dot, a value contains itself or is nested too deep,
            a text or an integer is too long, or there are too many values.
    """
    count = 1
    left: list[tuple[str, int, Any]] = [(where, 0, config)]
    while left:
        path, level, value = left.pop()
        if isinstance(value, str) and len(value) > MOST_CHARACTERS:
            raise ConfigError(
                f"{path} is a text of {len(value):,} characters, {quoted(value, 40)}; it must have"
                f" at most {MOST_CHARACTERS:,}"
            )
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise ConfigError(
                f"{path} is an integer of {value.bit_length():,} bits; it must have at most"
                f" {MOST_BITS:,}"
            )
        if isinstance(value, Mapping | ml_collections.ConfigDict | list | tuple):
            if level == MOST_LEVELS:
                inner = path.removeprefix(where)
                shown = inner if len(inner) <= 40 else f"{inner[:40]}..."
                raise ConfigError(
                    f"{where}{shown}: sections and lists are nested more than {MOST_LEVELS} deep,"
                    " or one contains itself"
                )
            for name, inner in _within(path, value):
                count += 1
                if count > MOST_VALUES:
                    raise ConfigError(
                        f"{path}: the config has more than {MOST_VALUES:,} values; longer lists"
                        " belong into a file"
                    )
                left.append((name, level + 1, inner))


def _within(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The names and the values of what a section or a list holds."""
    if isinstance(value, list | tuple):
        name = f"{path}[...]"  # one for all: texts would need more memory than a long list
        yield from ((name, item) for item in value)
        return
    try:
        keys = list(value)
    except TypeError as error:  # a ConfigDict sorts its keys
        raise ConfigError(
            f"{path}: the keys of a section must be strings, and some are not ({error})"
        ) from None
    for key in keys:
        if not isinstance(key, str) or "." in key or len(key) > MOST_OF_KEY:
            raise ConfigError(
                f"{path}: {quoted(key)} cannot be a key; the keys of a section must be strings"
                f" without a dot, of at most {MOST_OF_KEY} characters"
            )
        try:
            yield f"{path}.{key}", value[key]
        except RequiredValueError:  # a placeholder, which the command line may still fill
            continue
