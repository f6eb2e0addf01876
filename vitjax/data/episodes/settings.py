"""Section ``data.episodes`` of a config, and section ``data`` around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from vitjax.core.validation import Bounds, Episodes, NonNegativeInt
from vitjax.data.samplers.episodes import EpisodeSize
from vitjax.data.settings import ImageFileSettings, LoaderSettings
from vitjax.data.share import WHERE as DATA
from vitjax.data.transforms.values import Ascending

WHERE = f"{DATA}.episodes"

# An episode is an array in memory.
_Count = Annotated[int, Bounds(at_least=1, at_most=10**6)]
_Ways = Annotated[int, Bounds(at_least=2, at_most=10**6)]
Shots = _Count | Annotated[tuple[_Count, _Count], Ascending()]
Ways = _Ways | Annotated[tuple[_Ways, _Ways], Ascending()]


@dataclass(frozen=True)
class FunctionEpisodeSettings:
    """What episodes of regression are like; for training, None stands for the evaluation's value.

    Attributes:
        shots: support examples per episode; two numbers are the fewest and the most, drawn
            uniformly for each episode.
        queries: query examples per episode.
        train_shots: ``shots`` of training.
        train_queries: ``queries`` of training.
        val_episodes: number of fixed episodes that a split other than ``test`` is evaluated on.
        test_episodes: number of fixed episodes of ``test``.
        eval_seed: selects the fixed episodes; the run's seed does not change them.
    """

    shots: Shots = 1
    queries: _Count = 15
    train_shots: Shots | None = None
    train_queries: _Count | None = None
    val_episodes: Episodes = 100
    test_episodes: Episodes = 600
    eval_seed: NonNegativeInt = 0

    def of(self, key: str, split: str) -> Any:
        """The value of ``key`` for ``split``, as it was given."""
        own = getattr(self, f"train_{key}") if split == "train" else None
        return getattr(self, key) if own is None else own

    def name(self, key: str, split: str) -> str:
        """The config's key that gives the value of ``key`` for ``split``."""
        own = split == "train" and getattr(self, f"train_{key}") is not None
        return f"{WHERE}.{'train_' if own else ''}{key}"

    def episodes(self, split: str) -> int:
        """The number of fixed episodes that ``split`` is evaluated on."""
        return self.test_episodes if split == "test" else self.val_episodes

    def size(self, split: str) -> EpisodeSize:
        """How large the episodes of ``split`` are."""
        shots = _span(self.of("shots", split))
        return EpisodeSize(ways=(1, 1), shots=shots, queries=self.of("queries", split))

    def protocol(self, split: str) -> dict[str, Any]:
        """How ``split`` is evaluated, as JSON values, for reports."""
        return {
            "shots": _plain(self.of("shots", split)),
            "queries": self.of("queries", split),
            "episodes": self.episodes(split),
        }


@dataclass(frozen=True)
class ImageEpisodeSettings(FunctionEpisodeSettings):
    """What episodes of images are like, and which split each class belongs to.

    Attributes:
        ways: classes of an episode, a number or two as ``shots``, which are per class here.
        train_ways: ``ways`` of training.
        class_split: the classes of training, validation and testing: name of a stored split, path
            of a JSON file, or the lists themselves; None takes the source's splits.
        rotations: None; "classes" to make three more classes of each by quarter turns of its
            images; "per_class" to turn each class of an episode by a random one of four angles.
        in_memory: whether all images are decoded once and kept as one array; "auto" if that is
            possible and takes less than a gibibyte.
    """

    ways: Ways = 5
    train_ways: Ways | None = None
    class_split: str | Mapping[str, Any] | None = None
    rotations: Literal["classes", "per_class"] | None = None
    in_memory: bool | Literal["auto"] = "auto"

    def size(self, split: str) -> EpisodeSize:
        """How large the episodes of ``split`` are."""
        return EpisodeSize(
            _span(self.of("ways", split)),
            _span(self.of("shots", split)),
            self.of("queries", split),
        )

    def protocol(self, split: str) -> dict[str, Any]:
        """How ``split`` is evaluated, as JSON values, for reports."""
        return {"ways": _plain(self.of("ways", split)), **super().protocol(split)}


@dataclass(frozen=True, kw_only=True)
class FunctionSettings(LoaderSettings):
    """Section ``data`` for episodes of regression.

    Attributes:
        episodes: what they are like.
    """

    episodes: FunctionEpisodeSettings


@dataclass(frozen=True, kw_only=True)
class ImageSettings(ImageFileSettings):
    """Section ``data`` for episodes of images.

    Attributes:
        episodes: what they are like.
    """

    episodes: ImageEpisodeSettings


def _span(value: Any) -> tuple[int, int]:
    low, high = value if isinstance(value, list | tuple) else (value, value)
    return low, high


def _plain(value: Any) -> int | list[int]:
    return list(value) if isinstance(value, list | tuple) else value
