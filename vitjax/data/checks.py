"""Checks of single values of section ``data``, for all kinds of data."""

from __future__ import annotations

from typing import Any

import numpy as np

from vitjax.core.errors import ConfigError

WHERE = "config.data"


def whole(value: Any, key: str, least: int) -> int:
    """``value`` of ``key`` if it is a whole number of at least ``least``.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ConfigError(f"{WHERE}.{key} is {value!r}; it is a whole number, at least {least}")
    return int(value)


def skips_corrupt(on_corrupt: Any) -> bool:
    """Whether ``on_corrupt`` asks to skip corrupt images.

    Raises:
        ConfigError: it is neither "error" nor "skip".
    """
    if on_corrupt not in ("error", "skip"):
        raise ConfigError(f'{WHERE}.on_corrupt is {on_corrupt!r}; it is "error" or "skip"')
    return on_corrupt == "skip"


def rows_of(batch_size: int, process_index: int, process_count: int, key: str) -> range:
    """The rows of a global batch that belong to one host.

    Raises:
        ConfigError: the hosts cannot share ``batch_size``, the value of ``key``, evenly.
    """
    if batch_size % process_count:
        raise ConfigError(
            f"{WHERE}.{key} is {batch_size}, which {process_count} hosts cannot share evenly;"
            f" {-(-batch_size // process_count) * process_count} would do"
        )
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index {process_index} of {process_count} processes")
    share = batch_size // process_count
    return range(process_index * share, (process_index + 1) * share)
