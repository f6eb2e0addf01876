"""What can be said of examples without decoding them: their sizes, and which ones are the same."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from vitjax.core.counting import Counting
from vitjax.core.machine import process_cores
from vitjax.data.errors import CorruptImage
from vitjax.data.sources.base import Stored

# The most bytes that are read to compare contents: some seconds.
MOST_BYTES = 2**30
MOST_MEASURED = 1000
_HEAD = 2**14  # bytes
_MOST_THREADS = 16


Example = tuple[str, int]  # its split and its index
Group = tuple[int, list[Example]]  # a number of bytes, and examples of that many


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

    counting, found = Counting("measuring images", len(indices)), []
    with _threads() as threads:
        for each in threads.map(size, indices.tolist()):
            counting.add()
            found += [] if each is None else [each]
    counting.pause()
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

    Only examples whose number of bytes occurs in two splits are read, first their heads and then,
    where these are the same, the rest. If that is more than ``most_bytes``, the smaller ones are
    compared and the others left out. Examples that cannot be read are left out too.
    """
    by_bytes: dict[int, list[Example]] = defaultdict(list)
    for name, split in splits.items():
        for index in range(len(split)):
            try:
                by_bytes[split.stored_bytes(index)].append((name, index))
            except OSError:
                continue
    groups = _shared(sorted(by_bytes.items()))
    left, left_out = most_bytes, 0
    for most in (_HEAD, None):
        done = [(size, examples) for size, examples in groups if most is None and size <= _HEAD]
        chosen = []
        for size, examples in groups:
            if most is None and size <= _HEAD:
                continue
            cost = len(examples) * min(size, most or size)
            if cost > left:
                left_out += len(examples)
            else:
                left -= cost
                chosen.append((size, examples))
        groups = sorted([*done, *_shared(_divided(splits, chosen, most))], key=lambda g: g[0])
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for _, examples in groups:
        places: dict[str, list[int]] = defaultdict(list)
        for name, index in examples:
            places[name].append(index)
        for first, second in combinations([name for name in splits if name in places], 2):
            original = splits[first].name(places[first][0])
            pairs[first, second] += [(original, splits[second].name(i)) for i in places[second]]
    total = sum(map(len, splits.values()))
    return Repeats(dict(pairs), total - left_out, total)


def _shared(groups: Iterable[Group]) -> list[Group]:
    """The groups whose examples are of several splits."""
    return [group for group in groups if len({name for name, _ in group[1]}) > 1]


def _divided(
    splits: Mapping[str, Stored], groups: Sequence[Group], most: int | None
) -> list[Group]:
    """The groups divided by their examples' first ``most`` bytes; None reads all of them."""

    def digest(example: Example) -> bytes | None:
        name, index = example
        try:
            return hashlib.blake2b(splits[name].stored(index, most), digest_size=16).digest()
        except OSError:
            return None

    examples = [example for _, group in groups for example in group]
    counting = Counting("comparing images", len(examples))
    digests: list[bytes | None] = []
    with _threads() as threads:
        for each in threads.map(digest, examples):
            counting.add()
            digests.append(each)
    counting.pause()
    rest = iter(digests)
    divided: list[Group] = []
    for size, group in groups:
        parts: dict[bytes, list[Example]] = defaultdict(list)
        for example, found in zip(group, rest, strict=False):
            if found is not None:
                parts[found].append(example)
        divided += [(size, part) for part in parts.values()]
    return divided


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
