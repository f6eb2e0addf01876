"""What can be said of examples without decoding them: their sizes, and which ones are the same."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from vitjax.core.machine import process_cores
from vitjax.data.errors import CorruptImage
from vitjax.data.sources.base import Stored

# The most bytes that are read to compare contents: some seconds.
MOST_BYTES = 2**30
MOST_MEASURED = 1000
_MOST_THREADS = 16


@dataclass(frozen=True)
class Sizes:
    """The sizes of the images of a split, or of a sample of them.

    Attributes:
        heights: in pixels, sorted.
        widths: the same.
        total: the number of images in the split.
    """

    heights: np.ndarray
    widths: np.ndarray
    total: int


def sizes(split: Stored, most: int = MOST_MEASURED) -> Sizes:
    """Measures up to ``most`` images, spread evenly over the split; corrupt ones are left out."""
    indices = np.unique(np.linspace(0, len(split) - 1, min(most, len(split))).astype(np.int64))

    def size(index: int) -> tuple[int, int] | None:
        try:
            return split.size(index)
        except CorruptImage:
            return None

    with _threads() as threads:
        found = [each for each in threads.map(size, indices.tolist()) if each is not None]
    heights, widths = np.sort(np.asarray(found, np.int64).reshape(-1, 2), axis=0).T
    return Sizes(heights, widths, len(split))


@dataclass(frozen=True)
class Repeats:
    """Examples whose stored bytes occur in two splits.

    Attributes:
        pairs: two splits to the examples of the second that are in the first as well, each with the
            name of one of those.
        compared: the number of examples that were compared with all others.
        total: the number of examples.
    """

    pairs: dict[tuple[str, str], list[tuple[str, str]]] = field(default_factory=dict)
    compared: int = 0
    total: int = 0


def repeats(splits: Mapping[str, Stored], most_bytes: int = MOST_BYTES) -> Repeats:
    """Finds examples that occur in two splits.

    Only examples whose number of bytes occurs in two splits are read. If these are more than
    ``most_bytes`` together, those of fewer bytes are compared and the others left out. Examples
    that cannot be read are left out too.
    """
    by_bytes: dict[int, list[tuple[str, int]]] = defaultdict(list)
    total = 0
    for name, split in splits.items():
        total += len(split)
        for index in range(len(split)):
            try:
                by_bytes[split.stored_bytes(index)].append((name, index))
            except OSError:
                continue
    left, chosen, left_out = most_bytes, [], 0
    for size, examples in sorted(by_bytes.items()):
        if len({name for name, _ in examples}) < 2:
            continue
        if size * len(examples) > left:
            left_out += len(examples)
            continue
        left -= size * len(examples)
        chosen += examples
    with _threads() as threads:
        digests = list(threads.map(lambda example: _digest(splits, *example), chosen))
    held: dict[bytes, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for digest, (name, index) in zip(digests, chosen, strict=True):
        if digest is not None:
            held[digest][name].append(index)
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for places in held.values():
        for first, second in combinations([name for name in splits if name in places], 2):
            original = splits[first].name(places[first][0])
            pairs[first, second] += [(original, splits[second].name(i)) for i in places[second]]
    return Repeats(dict(pairs), total - left_out, total)


def _digest(splits: Mapping[str, Stored], name: str, index: int) -> bytes | None:
    try:
        return hashlib.blake2b(splits[name].stored(index), digest_size=16).digest()
    except OSError:
        return None


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(_MOST_THREADS, 2 * process_cores()))


def describe_sizes(found: Mapping[str, Sizes]) -> list[str]:
    """Sizes in words, a line per split."""
    lines = []
    for name, each in found.items():
        if len(each.heights):
            sampled = len(each.heights)
            of = f"{sampled:,} of {each.total:,}" if sampled < each.total else f"{each.total:,}"
            heights, widths = _range(each.heights), _range(each.widths)
            lines.append(
                f"sizes in {name} (smallest / median / largest): height {heights}, width {widths};"
                f" of {of} images"
            )
    return lines


def describe_repeats(found: Repeats, shown: int = 3) -> list[str]:
    """Repeats in words; one line if there are none."""
    lines = []
    for (first, second), pairs in found.pairs.items():
        examples = ", ".join(f"{other} = {original}" for original, other in pairs[:shown])
        lines.append(
            f"warning: {len(pairs):,} examples of {second} are in {first} as well, byte for byte:"
            f" {examples}{', ...' if len(pairs) > shown else ''}"
        )
    some = found.compared < found.total
    of = f"{found.compared:,} of {found.total:,}" if some else f"{found.total:,}"
    if not lines:
        lines.append(f"no example is in two splits ({of} compared byte for byte)")
    elif some:
        lines.append(f"compared: {of} examples, the smaller files")
    return lines


def _range(values: Sequence[int] | np.ndarray) -> str:
    return f"{values[0]} / {values[len(values) // 2]} / {values[-1]}"
