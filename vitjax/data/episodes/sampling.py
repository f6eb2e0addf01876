"""Which classes, examples, labels and rotations an episode has: pure NumPy, no image is touched.

The random numbers of all episodes of a split are one stream of a counter-based generator, cut into
stretches of one length: episode i has stretch i. So an episode follows from (seed, split, i) alone,
and those of a whole batch are drawn at once, by a single call.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

_PHILOX_BLOCK = 4  # numbers that one step of the counter gives

TURNS = 4  # a quarter turn each


@dataclass(frozen=True)
class Stream:
    """Uniform random numbers of endlessly many episodes.

    Attributes:
        seed: a whole number from 0.
        purpose: what the episodes are for, such as "train" or "evaluate test". Streams of
            different purposes have nothing to do with one another.
    """

    seed: int
    purpose: str

    def key(self) -> np.ndarray:
        """128 bits as uint64 of shape (2,), from the seed and the purpose."""
        words = [self.seed, zlib.crc32(self.purpose.encode())]
        return np.random.SeedSequence(words).generate_state(2, np.uint64)

    def uniforms(self, first: int, episodes: int, count: int) -> np.ndarray:
        """The numbers of episodes ``first`` to ``first + episodes - 1``.

        Args:
            first: the first episode.
            episodes: how many episodes.
            count: how many numbers an episode has, the same at every call.

        Returns:
            float64 in [0, 1) of shape (episodes, count).
        """
        blocks = -(-count // _PHILOX_BLOCK)
        bits = np.random.Philox(key=self.key(), counter=first * blocks)
        numbers = np.random.Generator(bits).random((episodes, blocks * _PHILOX_BLOCK))
        return numbers[:, :count]


def among(uniforms: np.ndarray, span: tuple[int, int]) -> np.ndarray:
    """Whole numbers from ``span[0]`` to ``span[1]``, both included, int64 of the same shape."""
    low, high = span
    return low + (uniforms * (high - low + 1)).astype(np.int64)


def draw_without_replacement(uniforms: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Ordered draws from ``range(size)``, every order of every subset as likely as the others.

    The first steps of a Fisher-Yates shuffle, for all rows at once.

    Args:
        uniforms: one number in [0, 1) for each draw, (rows, draws).
        sizes: of each row, at least ``draws``, (rows,).

    Returns:
        int32 of shape (rows, draws); no number comes twice in a row.
    """
    rows, draws = uniforms.shape
    cards = np.tile(np.arange(sizes.max(), dtype=np.int32), (rows, 1))
    row = np.arange(rows)
    for place in range(draws):
        other = place + (uniforms[:, place] * (sizes - place)).astype(np.int64)
        drawn = cards[row, other]
        cards[row, other] = cards[:, place]
        cards[:, place] = drawn
    return cards[:, :draws]


@dataclass(frozen=True)
class EpisodeSize:
    """How large the episodes of a split are.

    Attributes:
        ways: the fewest and the most classes; drawn uniformly for every episode.
        shots: the fewest and the most support examples of a class; one number for all classes of
            an episode.
        queries: query examples of a class.
    """

    ways: tuple[int, int]
    shots: tuple[int, int]
    queries: int

    @property
    def examples(self) -> int:
        """The most examples of one class that an episode takes, support and query."""
        return self.shots[1] + self.queries


@dataclass(frozen=True)
class Chosen:
    """The support or the query examples of several episodes, classes one after the other.

    Arrays have the size of the largest episode. In a smaller one, examples that are there already
    come again in the places that are left, with their mask False.

    Attributes:
        index: which image, and behind all of them once more for each quarter turn: int32,
            (episodes, places).
        target: the class's label in the episode, int32, (episodes, places).
        classes: the class's number among those of the split, int32, (episodes, places).
        mask: bool, (episodes, places).
    """

    index: np.ndarray
    target: np.ndarray
    classes: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Sampler:
    """Draws the episodes of one split.

    A class's label is its place in a draw without replacement, so it is random too, and anew in
    every episode.

    Attributes:
        size: how large episodes are.
        members: the images of all classes of the split, class by class: int32, (images,).
        sizes: how many of them each class has, int64, (classes,).
        images: how many there are in all, in all splits: the first number of a turned image.
        rotations: None; "classes" for three more classes of each, its images turned; or
            "per_class" for classes that are turned by a random angle in each episode. Turned
            classes are numbered behind the upright ones: class + classes * quarter turns.
        stream: the randomness.
    """

    size: EpisodeSize
    members: np.ndarray
    sizes: np.ndarray
    images: int
    rotations: str | None
    stream: Stream

    def draw(self, first: int, episodes: int) -> tuple[Chosen, Chosen]:
        """Support and query of the episodes ``first`` to ``first + episodes - 1``."""
        ways, shots = self.size.ways[1], self.size.shots[1]
        per_class, classes = self.size.examples, len(self.sizes)
        numbers = self.stream.uniforms(first, episodes, 2 + ways * (2 + per_class))
        of_classes, of_turns, of_images = np.split(numbers[:, 2:], [ways, 2 * ways], axis=1)

        kinds = classes * (TURNS if self.rotations == "classes" else 1)
        kind = draw_without_replacement(of_classes, np.full(episodes, kinds))
        turn, upright = np.divmod(kind, classes)
        if self.rotations == "per_class":
            turn = among(of_turns, (0, TURNS - 1))
        picks = draw_without_replacement(
            of_images.reshape(episodes * ways, per_class), self.sizes[upright].ravel()
        )
        starts = np.cumsum(self.sizes) - self.sizes
        picks = picks.reshape(episodes, ways, per_class) + starts[upright][..., None]
        index = self.members[picks] + self.images * turn[..., None]
        number = upright + classes * turn

        count_ways = among(numbers[:, 0], self.size.ways)
        count_shots = among(numbers[:, 1], self.size.shots)
        count_queries = np.full(episodes, self.size.queries)
        parts = ((index[..., :shots], count_shots), (index[..., shots:], count_queries))
        support, query = (_filled(part, number, count_ways, count) for part, count in parts)
        return support, query


def _filled(
    index: np.ndarray, number: np.ndarray, ways: np.ndarray, examples: np.ndarray
) -> Chosen:
    """Examples of which ``ways`` classes with ``examples`` each count; these fill the other places.

    Args:
        index: which image, (episodes, ways, examples).
        number: of the class in the split, (episodes, ways).
        ways: (episodes,).
        examples: (episodes,).
    """
    episodes, most_ways, most_examples = index.shape
    way, example = np.arange(most_ways), np.arange(most_examples)
    mask = (way < ways[:, None])[..., None] & (example < examples[:, None])[:, None]
    label = np.broadcast_to(way, (episodes, most_ways))
    if not mask.all():
        label = way % ways[:, None]
        repeated = example % examples[:, None]
        episode = np.arange(episodes)
        index = index[episode[:, None, None], label[..., None], repeated[:, None]]
        number = np.take_along_axis(number, label, axis=1)
    places = (episodes, most_ways * most_examples)
    return Chosen(
        index=index.reshape(places).astype(np.int32),
        target=np.repeat(label, most_examples, axis=1).astype(np.int32),
        classes=np.repeat(number, most_examples, axis=1).astype(np.int32),
        mask=mask.reshape(places),
    )
