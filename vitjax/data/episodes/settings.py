"""Section ``data.episodes`` of a config, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitjax.core.errors import ConfigError
from vitjax.data.checks import WHERE as DATA
from vitjax.data.checks import whole
from vitjax.data.episodes.sampling import EpisodeSize

WHERE = f"{DATA}.episodes"

Range = int | Sequence[int]

ROTATIONS = ("classes", "per_class")


@dataclass(frozen=True)
class RegressionSettings:
    """What episodes of regression tasks are like; None stands for the evaluation's value.

    Attributes:
        shots: support examples of a task, in evaluation and, unless told otherwise, in training;
            two numbers are the fewest and the most, drawn uniformly for every episode.
        queries: query examples of a task.
        train_shots: ``shots`` of training.
        train_queries: ``queries`` of training.
        val_episodes: how many fixed episodes an evaluation on any split but ``test`` has.
        test_episodes: how many on ``test``.
        eval_seed: decides the fixed episodes; the run's seed does not.
    """

    shots: Range = 1
    queries: int = 15
    train_shots: Range | None = None
    train_queries: int | None = None
    val_episodes: int = 100
    test_episodes: int = 600
    eval_seed: int = 0

    def __post_init__(self) -> None:
        for split in ("train", "val"):
            self.size(split)
        for split in ("val", "test"):
            self.episodes(split)
        whole(self.eval_seed, "episodes.eval_seed", 0)

    def of(self, key: str, split: str) -> Any:
        """The value of ``key`` for ``split``, as it was given."""
        own = getattr(self, f"train_{key}") if split == "train" else None
        return getattr(self, key) if own is None else own

    def name(self, key: str, split: str) -> str:
        """What a person wrote to say the value of ``key`` for ``split``."""
        own = split == "train" and getattr(self, f"train_{key}") is not None
        return f"{WHERE}.{'train_' if own else ''}{key}"

    def episodes(self, split: str) -> int:
        """How many fixed episodes an evaluation on ``split`` has."""
        key = "test_episodes" if split == "test" else "val_episodes"
        return whole(getattr(self, key), f"episodes.{key}", 1)

    def size(self, split: str) -> EpisodeSize:
        """How large the episodes of ``split`` are."""
        return EpisodeSize(
            ways=(1, 1), shots=self._span("shots", split, 1), queries=self._queries(split)
        )

    def protocol(self, split: str) -> dict[str, Any]:
        """How ``split`` is evaluated, as JSON values, for reports."""
        return {
            "shots": _plain(self.of("shots", split)),
            "queries": self.of("queries", split),
            "episodes": self.episodes(split),
        }

    def _queries(self, split: str) -> int:
        key = self.name("queries", split).removeprefix(f"{DATA}.")
        return whole(self.of("queries", split), key, 1)

    def _span(self, key: str, split: str, least: int) -> tuple[int, int]:
        value, name = self.of(key, split), self.name(key, split)
        if not isinstance(value, list | tuple):
            number = whole(value, name.removeprefix(f"{DATA}."), least)
            return number, number
        numbers = [v for v in value if isinstance(v, int) and not isinstance(v, bool)]
        if len(value) != 2 or len(numbers) != 2 or not least <= numbers[0] <= numbers[1]:
            raise ConfigError(
                f"{name} is {value!r}; it is a whole number, at least {least}, or two of them:"
                " (fewest, most)"
            )
        return numbers[0], numbers[1]


@dataclass(frozen=True)
class ImageSettings(RegressionSettings):
    """What episodes of images are like, and which classes are whose.

    Attributes:
        ways: classes of an episode; a number or two as ``shots``, which then are a class's.
        train_ways: ``ways`` of training.
        class_split: which classes are for training, validation and testing: the name of a stored
            split, the path of a JSON file, or the lists themselves; None takes the source's splits.
        rotations: None; "classes" to make three more classes of each by quarter turns of its
            images; "per_class" to turn each class of an episode by a random one of four angles.
        in_memory: whether all images are decoded once and kept as one array; "auto" where that can
            be done and is less than a gibibyte.
    """

    ways: Range = 5
    train_ways: Range | None = None
    class_split: str | Mapping | None = None
    rotations: str | None = None
    in_memory: bool | str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rotations not in (None, *ROTATIONS):
            raise ConfigError(
                f'{WHERE}.rotations is {self.rotations!r}; it is "classes", "per_class" or None'
            )
        if self.in_memory not in (True, False, "auto"):
            raise ConfigError(
                f'{WHERE}.in_memory is {self.in_memory!r}; it is True, False or "auto"'
            )

    def size(self, split: str) -> EpisodeSize:
        """How large the episodes of ``split`` are."""
        return EpisodeSize(
            self._span("ways", split, 2), self._span("shots", split, 1), self._queries(split)
        )

    def protocol(self, split: str) -> dict[str, Any]:
        """How ``split`` is evaluated, as JSON values, for reports."""
        return {"ways": _plain(self.of("ways", split)), **super().protocol(split)}


def _plain(value: Any) -> int | list[int]:
    return list(value) if isinstance(value, list | tuple) else value
