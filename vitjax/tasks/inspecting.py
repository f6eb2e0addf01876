"""What ``vitjax data`` reports of images without decoding them, for every task."""

from __future__ import annotations

from collections.abc import Callable

from vitjax.core.text import printable
from vitjax.data import Dataset
from vitjax.data.comparing import describe_repeats, describe_sizes, repeats, sizes


def say_stored(data: Dataset, say: Callable[[str], None]) -> None:
    """Reports image sizes, and examples that are in two splits, if the source can tell."""
    found = {split: data.stored(split) for split in data.splits}
    stored = {split: held for split, held in found.items() if held is not None}
    lines = describe_sizes({split: sizes(held) for split, held in stored.items()})
    if len(stored) > 1:
        lines += describe_repeats(repeats(stored))
    for line in lines:
        say(printable(line))
