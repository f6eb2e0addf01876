"""A class split of one's own: a source's classes dealt out to training, validation and testing."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from vitjax.core.atomic import write_json
from vitjax.core.errors import ConfigError
from vitjax.core.paths import expanded
from vitjax.core.validation import call
from vitjax.data.sources.base import SOURCES

FRACTIONS = (0.64, 0.16)  # of miniImageNet's 100 classes for training and validation


def deal(names: Sequence[str], counts: Sequence[int], seed: int) -> dict[str, list[str]]:
    """The names of each split, sorted.

    Args:
        names: of all classes; sorted, then shuffled by ``random.Random(seed)``.
        counts: how many go to training, validation and testing.
        seed: of the shuffle.

    Raises:
        ConfigError: a count is negative, training has none, or there are fewer names.
    """
    if sum(counts) > len(names) or min(counts) < 0 or not counts[0]:
        raise ConfigError(f"counts are {list(counts)}, and there are {len(names)} classes")
    shuffled = sorted(names)
    random.Random(seed).shuffle(shuffled)
    ends = [0, counts[0], counts[0] + counts[1], sum(counts)]
    parts = [sorted(shuffled[start:end]) for start, end in pairwise(ends)]
    return dict(zip(("train", "val", "test"), parts, strict=True))


def write(
    path: str | Path,
    section: Mapping[str, Any],
    *,
    counts: Sequence[int] | None = None,
    seed: int = 0,
) -> dict[str, list[str]]:
    """Deals a source's classes out and writes what ``config.data.episodes.class_split`` takes.

    Args:
        path: the JSON file.
        section: ``source`` and the source's own keywords, as in section ``data`` of a config.
        counts: see `deal`; None: `FRACTIONS` of the classes, and the rest for testing.
        seed: see `deal`.

    Returns:
        The split, as `deal` returns it.
    """
    constructor, keywords = SOURCES.from_section(expanded(section), "data", key="source")
    names = list(call(constructor, keywords, where="data").class_names)
    if counts is None:
        counts = [round(fraction * len(names)) for fraction in FRACTIONS]
        counts = [*counts, len(names) - sum(counts)]
    split = deal(names, counts, seed)
    about = f"{len(names)} classes, sorted, shuffled by random.Random({seed})"
    write_json(Path(expanded(path)), {"about": about, **split})
    return split
