"""Episodes of regression: each is a function of its own, known by a few points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from vitjax.core.validation import call
from vitjax.data.episodes.batching import drawn, filled
from vitjax.data.episodes.loader import EpisodeData, Family
from vitjax.data.episodes.settings import FunctionSettings
from vitjax.data.iterator import Batch
from vitjax.data.samplers.episodes import EpisodeSize
from vitjax.data.samplers.streams import Stream, among
from vitjax.data.share import WHERE, Share
from vitjax.data.sources.base import register
from vitjax.data.transforms.values import Ascending


@dataclass(frozen=True)
class Sinusoids:
    """y = amplitude * sin(x - phase).

    Attributes:
        inputs: as `Family`.
        parameters: as `Family`: of ``amplitude`` and ``phase``.
    """

    inputs: tuple[float, float]
    parameters: Mapping[str, tuple[float, float]]
    name: str = "sinusoid"

    def __call__(self, x: np.ndarray, *parameters: np.ndarray) -> np.ndarray:
        """The targets at ``x``, of its shape."""
        amplitude, phase = parameters
        return amplitude * np.sin(x - phase)


Interval = Annotated[tuple[float, float], Ascending()]


@register("sinusoid", target="number", episodic=True)
def sinusoid(
    amplitude: Interval = (0.1, 5.0),
    phase: Interval = (0.0, float(np.pi)),
    inputs: Interval = (-5.0, 5.0),
) -> Sinusoids:
    """Sine waves of random amplitude and phase: Finn et al. 2017, arXiv 1703.03400, section 5.1.

    y = amplitude * sin(x - phase), the sign of the phase as in the paper's code (cbfinn/maml); x is
    uniform too. Needs the section ``episodes``, which has no ways here.

    Args:
        amplitude: (least, greatest).
        phase: the same, in radians.
        inputs: the same for x.
    """
    return Sinusoids(
        _interval(inputs), {"amplitude": _interval(amplitude), "phase": _interval(phase)}
    )


def _interval(value: tuple[float, float]) -> tuple[float, float]:
    low, high = value
    return float(low), float(high)


@dataclass(frozen=True)
class FunctionBatches:
    """Batches of episodes of a family of functions.

    Attributes:
        family: the functions.
        size: how large episodes are.
        stream: the randomness.
        share: this host's part.
    """

    family: Family
    size: EpisodeSize
    stream: Stream
    share: Share
    cheap: ClassVar[bool] = True

    def __len__(self) -> int:
        return len(self.share)

    def __getitem__(self, index: int) -> Batch:
        first, episodes = drawn(self.share, index)
        spans = list(self.family.parameters.values())
        known, shots, points = len(spans), self.size.shots[1], self.size.examples
        numbers = self.stream.uniforms(first, episodes, 1 + known + points)
        low, high = np.array([*spans, *[self.family.inputs] * points]).T
        values = low + (high - low) * numbers[:, 1:]
        parameters, x = values[:, :known], values[:, known:]
        mask = np.ones((episodes, points), bool)
        if self.size.shots[0] < shots:
            # The points are repeated in the places that are left.
            count = among(numbers[:, :1], self.size.shots)
            place = np.arange(shots)
            mask[:, :shots] = place < count
            x[:, :shots] = np.take_along_axis(x, place % count, axis=1)
        y = self.family(x, *(parameters[:, p : p + 1] for p in range(known)))
        points_ = {
            "input": x[..., None].astype(np.float32),
            "target": y[..., None].astype(np.float32),
            "class": np.zeros(x.shape, np.int32),
            "mask": mask,
        }
        truth = parameters.astype(np.float32).T
        batch = {
            "support": {key: value[:, :shots] for key, value in points_.items()},
            "query": {key: value[:, shots:] for key, value in points_.items()},
            **dict(zip(self.family.parameters, truth, strict=True)),
        }
        return filled(self.share, index, batch)


class FunctionEpisodes(EpisodeData):
    """Few-shot regression of a family of functions; see `EpisodeData`.

    Batches also hold the parameters of each function, float32 (episodes,) under their names. Splits
    differ only in their episodes.

    Attributes:
        family: the functions.
    """

    target = "number"
    splits = ("train", "val", "test")
    num_classes = 1
    num_train_classes = 1
    image_shape = (1,)
    family: Family

    settings_class: ClassVar[type[FunctionSettings]] = FunctionSettings

    def __init__(self, source: Family, seed: int = 0, **keywords: Any):
        """Checks everything.

        Args:
            source: the functions.
            seed: of the training episodes.
            **keywords: the fields of `FunctionSettings`.

        Raises:
            ConfigError: a value cannot be used.
        """
        section = call(FunctionSettings, keywords, where=WHERE)
        super().__init__(section, section.episodes, seed)
        self.family = source
        self.class_names = (source.name,)

    def counts(self) -> dict[str, dict[str, int]]:
        """Classes and images of each split: nothing, as there are none."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Nothing: episodes are made from the config alone."""
        return {}

    def example_batch(self, evaluated: bool = False) -> Batch:
        """A batch of one episode: the shapes and dtypes of training, or of evaluation."""
        share = Share(1, range(1))
        split = "val" if evaluated else "train"
        return dict(self._batches(split, Stream(0, "example"), share, not evaluated)[0])

    def normalize(self, inputs: Any) -> Any:
        """Inputs as float32, as they are."""
        import jax.numpy as jnp  # not at the top: making batches does not need JAX

        return jnp.asarray(inputs, jnp.float32)

    def _batches(self, split: str, stream: Stream, share: Share, training: bool) -> FunctionBatches:
        return FunctionBatches(self.family, self.settings.size(split), stream, share)
