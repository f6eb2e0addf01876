"""From section ``data`` of a config to data: which kind it is, and who reads which key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vitjax.core.errors import ConfigError
from vitjax.core.validation import call, check_keywords, keywords_of
from vitjax.data.checks import WHERE
from vitjax.data.dataset import Dataset
from vitjax.data.episodes.images import ImageEpisodes
from vitjax.data.episodes.regression import RegressionEpisodes
from vitjax.data.loader import Data
from vitjax.data.segmentation.loader import SegmentationData
from vitjax.data.sources.base import SOURCES


def create(seed: int = 0, **section: Any) -> Dataset:
    """Builds the data that section ``data`` of a config describes.

    Args:
        seed: decides the order of training examples and their augmentation; or, of episodes, which
            ones training sees.
        **section: ``source``, the keywords of that source, and the keywords of `Data` (of
            `SegmentationData` for a source of images with masks); or, with a section ``episodes``
            inside, those of `vitjax.data.episodes.ImageEpisodes` (of `RegressionEpisodes` for a
            source of regression tasks).

    Returns:
        `Data`, `SegmentationData`, or with a section ``episodes`` `vitjax.data.EpisodeData`.

    Raises:
        ConfigError: a key that nobody reads, a missing one, an unknown source or transform.
        DataError: the source cannot be read, or its images and a value do not go together.
    """
    kind, constructor, ours, rest = _sorted_out(section)
    check_keywords(kind, ours, where=WHERE, given=("source", "seed"))
    data: Dataset = kind(source=call(constructor, rest, where=WHERE), seed=seed, **ours)
    return data


def recall(description: Mapping[str, Any], seed: int = 0, **section: Any) -> Dataset:
    """The data of a run whose images need not be at hand: sizes, names and transforms, all blank.

    Args:
        description: what ``describe`` of the run's data gave.
        seed: as in `create`.
        **section: as in `create`; the source and its keywords play no part.
    """
    kind, constructor, ours, rest = _sorted_out(section)
    if kind is RegressionEpisodes:  # which needs no files
        return RegressionEpisodes(source=call(constructor, rest, where=WHERE), seed=seed, **ours)
    data: Dataset = kind.blank(description, seed=seed, **ours)
    return data


def _sorted_out(
    section: Mapping[str, Any],
) -> tuple[Any, Callable[..., Any], dict[str, Any], dict[str, Any]]:
    """The class that a section asks for, the source, and the keywords of each."""
    if "source" not in section:
        raise ConfigError(f"{WHERE}: the key 'source' is missing (known: {', '.join(SOURCES)})")
    constructor = SOURCES.lookup(section["source"], f"{WHERE}.source")
    episodic = section.get("episodes") is not None
    kind: Any = ImageEpisodes if episodic else Data
    facts = SOURCES.facts(section["source"])
    if facts.get("episodic"):
        kind = RegressionEpisodes
    elif facts.get("target") == "mask":
        if episodic:
            raise ConfigError(
                f"{WHERE}.episodes: the source {section['source']!r} has masks, and episodes are of"
                " images with one class each; leave the section out"
            )
        kind = SegmentationData
    readable = {key for key in keywords_of(kind) if key not in ("source", "seed")}
    keywords = {k: v for k, v in section.items() if (k, v) != ("episodes", None) and k != "source"}
    check_keywords(constructor, keywords, where=WHERE, also=[*readable, "episodes", "source"])
    ours = {key: value for key, value in keywords.items() if key in readable}
    rest = {key: value for key, value in keywords.items() if key not in readable}
    return kind, constructor, ours, rest
