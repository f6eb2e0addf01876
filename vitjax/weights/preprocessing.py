"""What is written beside an exported file: how images become inputs, and what outputs mean."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitjax.core.atomic import write_json
from vitjax.data.preparation import Preparation
from vitjax.data.transforms.base import TRANSFORMS, Transform
from vitjax.data.transforms.geometry import CenterCrop, Resize
from vitjax.data.transforms.values import pair
from vitjax.weights.errors import WeightsError

NAME = "preprocess.json"
_FILES = "files"


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How images become inputs of an exported model.

    Attributes:
        class_names: of the outputs; None if they have no fixed meaning, as in few-shot learning.
        steps: the transforms of evaluation.
        mean: per channel, where 1 is white.
        std: likewise.
        shape: (height, width, channels) of an input.
        channels: that files are read with.
        any_size: whether inputs may have any height and width.
        sixteen_bits: as in `vitjax.data.preparation.Preparation`.
    """

    class_names: tuple[str, ...] | None
    steps: tuple[Transform, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shape: tuple[int, int, int]
    channels: int
    any_size: bool
    sixteen_bits: bool = False

    @classmethod
    def of(
        cls,
        preparation: Preparation,
        class_names: Sequence[str] | None,
    ) -> Preprocessing:
        """That of a data set."""
        channels = preparation.shape[-1]
        normalization = preparation.normalization
        mean, std = (
            _decimals(np.broadcast_to(values, channels))
            for values in (normalization.mean, normalization.std)
        )
        return cls(
            None if class_names is None else tuple(class_names),
            preparation.pipeline.steps,
            mean,
            std,
            preparation.shape,
            preparation.channels,
            preparation.any_size,
            preparation.sixteen_bits,
        )

    def at(self, size: tuple[int, int]) -> Preprocessing:
        """The same for inputs of another (height, width): sizes in the transforms scale with it."""
        height, width, channels = self.shape
        if self.any_size or size == (height, width):
            return dataclasses.replace(self, shape=(*size, channels))
        factors = size[0] / height, size[1] / width
        steps = tuple(_scaled(step, factors) for step in self.steps)
        return dataclasses.replace(self, steps=steps, shape=(*size, channels))

    @property
    def transforms(self) -> list[dict[str, Any]]:
        """The transforms with all their arguments, by name."""
        return [{"name": _name(step), **_arguments(step)} for step in self.steps]

    @property
    def resize(self) -> Resize | None:
        """The last transform that resizes."""
        return next((s for s in reversed(self.steps) if isinstance(s, Resize)), None)

    @property
    def crop(self) -> CenterCrop | None:
        """The last transform that crops."""
        return next((s for s in reversed(self.steps) if isinstance(s, CenterCrop)), None)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        height, width, channels = self.shape
        resize, crop = self.resize, self.crop
        read = {
            "name": "read",
            "mode": {1: "L", 3: "RGB"}.get(self.channels),
            "orientation": "as EXIF says",
            "transparent": "white",
            "sixteen_bits": "divide by 65535" if self.sixteen_bits else "take the upper 8 bits",
        }
        mean, std = list(self.mean), list(self.std)
        return {
            "class_names": None if self.class_names is None else list(self.class_names),
            "height": None if self.any_size else height,
            "width": None if self.any_size else width,
            "channels": channels,
            "mean": mean,
            "std": std,
            "resize": None if resize is None else _arguments(resize)["size"],
            "crop": None if crop is None else _arguments(crop)["size"],
            "interpolation": None if resize is None else resize.interpolation,
            "steps": [
                read,
                *self.transforms,
                {"name": "divide", "by": 255, "if": "uint8"},
                {"name": "normalize", "mean": mean, "std": std},
            ],
        }


def check(path: Path, preprocessing: Preprocessing) -> dict[str, Any]:
    """What `NAME` beside ``path`` says of other files.

    Raises:
        WeightsError: it describes files of another model, or is something else.
    """
    beside = path.with_name(NAME)
    if not beside.is_file():
        return {}
    try:
        found = json.loads(beside.read_bytes())
        others = {
            name: entry
            for name, entry in found.pop(_FILES).items()
            if name != path.name and beside.with_name(name).is_file()
        }
    except (ValueError, KeyError, AttributeError, OSError) as error:
        raise WeightsError(
            f"{beside} is not a file that vitjax wrote ({type(error).__name__}: {error}), and the"
            f" preprocessing of {path.name} would replace it; choose a folder of its own:"
            f" --output={path.parent / path.stem / path.name}"
        ) from error
    if others and found != json.loads(json.dumps(preprocessing.as_json())):
        raise WeightsError(
            f"{beside} describes the preprocessing of {', '.join(others)}, which is another;"
            f" choose a folder of its own: --output={path.parent / path.stem / path.name}"
        )
    return others


def write(path: Path, preprocessing: Preprocessing, entry: Mapping[str, Any]) -> Path:
    """Writes `NAME` beside ``path``, or adds ``path`` to it.

    Args:
        path: of the exported file.
        preprocessing: of its model.
        entry: what differs between the files of one model.

    Raises:
        WeightsError: as `check`.
    """
    files = {**check(path, preprocessing), path.name: entry}
    beside = path.with_name(NAME)
    write_json(beside, {**preprocessing.as_json(), _FILES: files})
    return beside


def _name(step: Transform) -> str:
    """The registered name of a transform; that of its class if it has none."""
    names = (name for name in TRANSFORMS.names() if TRANSFORMS[name] is type(step))
    return next(names, type(step).__name__)


def _arguments(step: Any) -> dict[str, Any]:
    """The arguments of a transform as JSON values."""
    fields = dataclasses.fields(step) if dataclasses.is_dataclass(step) else ()
    return {field.name: _plain(getattr(step, field.name)) for field in fields}


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | None) else repr(value)


def _scaled(step: Transform, factors: tuple[float, float]) -> Transform:
    """A transform whose sizes in pixels are multiplied by ``factors``, of height and width."""
    if not isinstance(step, Resize | CenterCrop):
        return step
    if isinstance(step, Resize) and isinstance(step.size, int):
        return dataclasses.replace(step, size=round(step.size * max(factors)))
    height, width = (
        round(side * factor) for side, factor in zip(pair(step.size), factors, strict=True)
    )
    return dataclasses.replace(step, size=height if height == width else (height, width))


def _decimals(values: np.ndarray) -> tuple[float, ...]:
    """The shortest decimals that are these numbers in float32."""
    return tuple(float(str(value)) for value in values.astype(np.float32))
