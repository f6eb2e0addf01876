"""Which classes, examples, labels and rotations an episode has: pure NumPy, no image is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitjax.data.samplers.streams import Stream, among, draw_without_replacement

TURNS = 4  # a quarter turn each


@dataclass(frozen=True)
class EpisodeSize:
    """How large the episodes of a split are.

    Attributes:
        ways: the fewest and the most classes; drawn uniformly for each episode.
        shots: the fewest and the most support examples per class; one number for all classes of an
            episode.
        queries: query examples per class.
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

    Arrays have the size of the largest episode. In a smaller one, its examples are repeated in the
    places that are left, with their mask False.

    Attributes:
        index: which image: int32, (episodes, places). The numbers of turned images follow those of
            all upright ones, one range for each quarter turn.
        target: the class's label in the episode, int32, (episodes, places).
        classes: the class's number among those of the split, int32, (episodes, places).
        mask: bool, (episodes, places).
    """

    index: np.ndarray
    target: np.ndarray
    classes: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class EpisodeSampler:
    """Draws the episodes of one split.

    A class's label is its place in a draw without replacement, so it is random too and differs from
    episode to episode.

    Attributes:
        size: how large episodes are.
        members: the images of all classes of the split, class by class: int32, (images,).
        sizes: how many of them each class has, int64, (classes,).
        images: the number of images of all splits: the first number of a turned image.
        rotations: None; "classes" for three more classes of each, its images turned; or
            "per_class" for classes that are turned by a random angle in each episode. The numbers
            of turned classes are class + classes * quarter turns.
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
    """Examples where ``ways`` classes with ``examples`` each count, repeated in the other places.

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
