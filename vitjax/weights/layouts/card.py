"""The JSON files beside weights in a repository on Hugging Face, which say what no array shows."""

from __future__ import annotations

import abc
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitjax.weights import sizes
from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import damage, files, limits

CONFIG, PREPROCESSOR = files.BESIDE


@dataclasses.dataclass(frozen=True)
class Card:
    """The JSON files beside the weights; empty if there are none.

    Attributes:
        config: ``config.json``.
        preprocessor: ``preprocessor_config.json``.
    """

    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    preprocessor: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class CardReader(abc.ABC):
    """What one project writes into its cards.

    Attributes:
        key: a key of ``config.json`` that identifies the project.
    """

    key: str

    def knows(self, card: Card) -> bool:
        """Whether this project wrote the card."""
        return self.key in card.config

    @abc.abstractmethod
    def fields(self, card: Card, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Fields of the model that the card states.

        Args:
            card: the card.
            arrays: of the file, prepared by its layout.

        Raises:
            WeightsError: vitjax does not have this network, although its names and shapes fit.
        """

    @abc.abstractmethod
    def sides(self, card: Card, arrays: Mapping[str, np.ndarray]) -> tuple[Any, Any]:
        """The size of images and of patches, as the card states them; None if it does not."""

    @abc.abstractmethod
    def normalization(self, card: Card) -> tuple[Any, Any]:
        """Mean and standard deviation of the training images, on a scale from 0 to 1."""

    def grid(self, card: Card, arrays: Mapping[str, np.ndarray]) -> tuple[int, int] | None:
        """(rows, columns) of patches, if the card states them and they form no square.

        Args:
            card: the card.
            arrays: of the file, prepared by its layout.

        Raises:
            WeightsError: a size is invalid.
        """
        _, patch = self.sides(card, arrays)
        pixels = self.image_size(card, arrays)
        if patch is None or pixels is None:
            return None
        patches = sizes.pair(patch, f"{CONFIG} beside it: patch_size")
        rows, columns = (side // own for side, own in zip(pixels, patches, strict=True))
        return None if rows == columns else (rows, columns)

    def image_size(self, card: Card, arrays: Mapping[str, np.ndarray]) -> tuple[int, int] | None:
        """(height, width) of the images in pixels, if the card states it; see `grid`."""
        size, _ = self.sides(card, arrays)
        return None if size is None else sizes.pair(size, f"{CONFIG} beside it: image_size")


def read(path: Path, say: Callable[[str], None]) -> Card:
    """The card of the weights at ``path``; an empty one if no card is beside them.

    Args:
        path: of the weights.
        say: receives a message about a file that cannot be read.
    """
    if path.name not in files.IN_FOLDERS:
        return Card()  # a config.json beside it describes something else
    return Card(*(_json(path.parent / name, say) for name in files.BESIDE))


def section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of a JSON file; empty if it is missing or no section."""
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def invalid(name: str, value: Any, right: str) -> WeightsError:
    """The error for a value of ``config.json``, with what would be right."""
    shown = json.dumps(value)
    shown = shown if len(shown) < 60 else f"{shown[:60]}..."
    return WeightsError(f"{CONFIG} beside it: {name} is {shown}; it should be {right}")


def numbers(values: Any) -> tuple[float, ...] | None:
    """Numbers of a JSON list; None if it is no such list."""
    if isinstance(values, Sequence) and all(type(value) in (int, float) for value in values):
        return tuple(float(value) for value in values) or None
    return None


def _json(path: Path, say: Callable[[str], None]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        with damage.named(path), damage.blamed("cannot be read"):
            limits.check_parsed(path.stat().st_size, "a card")
            found = json.loads(path.read_bytes())
    except WeightsError as error:
        say(f"{error}; using shapes alone")
        return {}
    return found if isinstance(found, dict) else {}
