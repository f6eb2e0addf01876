"""Episodes of regression: every task is a function of its own, known by a few points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vitjax.core.errors import ConfigError
from vitjax.core.validation import call
from vitjax.data.checks import WHERE as DATA
from vitjax.data.episodes.batching import Batch, Share
from vitjax.data.episodes.loader import EpisodeData
from vitjax.data.episodes.sampling import EpisodeSize, Stream, among
from vitjax.data.episodes.settings import WHERE, RegressionSettings
from vitjax.data.sources.base import register


class Family(Protocol):
    """Functions of one kind, told apart by parameters that are drawn uniformly for each task.

    Attributes:
        name: what the kind is called.
        inputs: the least and the greatest input.
        parameters: the name of each parameter to its least and greatest value.
    """

    name: str
    inputs: tuple[float, float]
    parameters: Mapping[str, tuple[float, float]]

    def __call__(self, x: np.ndarray, *parameters: np.ndarray) -> np.ndarray:
        """The targets at ``x``; parameters, in order, are of a shape that goes with it."""
        ...


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


@register("sinusoid", target="number", episodic=True)
def sinusoid(
    amplitude: Sequence[float] = (0.1, 5.0),
    phase: Sequence[float] = (0.0, float(np.pi)),
    inputs: Sequence[float] = (-5.0, 5.0),
) -> Sinusoids:
    """Sine waves of random amplitude and phase: the regression of 1703.03400, section 5.1.

    y = amplitude * sin(x - phase), the sign of the phase as in the paper's code (cbfinn/maml); x is
    uniform too. Needs the section ``episodes``, which has no ways here.

    Args:
        amplitude: the least and the greatest.
        phase: the same, in radians.
        inputs: the same of x.

    Raises:
        ConfigError: two numbers are wanted, the second at least as great as the first.
    """
    spans = {}
    for key, value in {"amplitude": amplitude, "phase": phase, "inputs": inputs}.items():
        numbers = [v for v in value if isinstance(v, int | float) and np.isfinite(v)]
        if len(value) != 2 or len(numbers) != 2 or numbers[0] > numbers[1]:
            raise ConfigError(
                f"{DATA}.{key} is {value!r}; it is a pair of numbers, (least, greatest)"
            )
        spans[key] = (float(numbers[0]), float(numbers[1]))
    return Sinusoids(spans.pop("inputs"), spans)


@dataclass(frozen=True)
class RegressionBatches:
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

    def __len__(self) -> int:
        return len(self.share)

    def __getitem__(self, index: int) -> Batch:
        first, episodes = self.share.episodes(index)
        spans = list(self.family.parameters.values())
        known, shots, points = len(spans), self.size.shots[1], self.size.examples
        numbers = self.stream.uniforms(first, episodes, 1 + known + points)
        low, high = np.array([*spans, *[self.family.inputs] * points]).T
        drawn = low + (high - low) * numbers[:, 1:]
        parameters, x = drawn[:, :known], drawn[:, known:]
        mask = np.ones((episodes, points), bool)
        if self.size.shots[0] < shots:
            # The points that are there come again in the places that are left.
            count = among(numbers[:, :1], self.size.shots)
            place = np.arange(shots)
            mask[:, :shots] = place < count
            x[:, :shots] = np.take_along_axis(x, place % count, axis=1)
        y = self.family(x, *(parameters[:, p : p + 1] for p in range(known)))
        whole = {
            "input": x[..., None].astype(np.float32),
            "target": y[..., None].astype(np.float32),
            "class": np.zeros(x.shape, np.int32),
            "mask": mask,
        }
        truth = parameters.astype(np.float32).T
        batch = {
            "support": {key: value[:, :shots] for key, value in whole.items()},
            "query": {key: value[:, shots:] for key, value in whole.items()},
            **dict(zip(self.family.parameters, truth, strict=True)),
        }
        return self.share.padded(index, batch)


class RegressionEpisodes(EpisodeData):
    """Few-shot regression of a family of functions; see `EpisodeData`.

    Batches also hold the parameters of each task's function, float32 (tasks,) under their names.
    Splits differ in nothing but their episodes.

    Attributes:
        family: the functions.
    """

    target = "number"
    splits = ("train", "val", "test")
    num_classes = 1
    num_train_classes = 1
    image_shape = (1,)

    def __init__(
        self,
        source: Family,
        episodes: Mapping[str, Any],
        batch_size: int,
        eval_batch_size: int | None = None,
        seed: int = 0,
    ):
        """Checks everything.

        Args:
            source: the functions.
            episodes: the keywords of `RegressionSettings`.
            batch_size: episodes of the global training batch, over all hosts.
            eval_batch_size: of the global evaluation batch; None means ``batch_size``.
            seed: of the training episodes.

        Raises:
            ConfigError: a value makes no sense.
        """
        settings = call(RegressionSettings, episodes, where=WHERE)
        super().__init__(settings, batch_size, eval_batch_size, 0, seed)
        self.family = source
        self.class_names = (source.name,)

    def labels(self, split: str) -> np.ndarray:
        """The class of each image: there are none, so int32 of shape (0,)."""
        self._check_split(split)
        return np.zeros(0, np.int32)

    def counts(self) -> dict[str, dict[str, int]]:
        """What a source of images has of each split; nothing here."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Nothing: tasks are made from the config alone."""
        return {}

    def example_batch(self, evaluated: bool = False) -> Batch:
        """A batch of one episode: shapes and dtypes as a step or an evaluation is fed."""
        share = Share(1, range(1))
        split = "val" if evaluated else "train"
        return dict(self._batches(split, Stream(0, "example"), share, not evaluated)[0])

    def normalize(self, inputs: Any) -> Any:
        """Inputs as float32, as they are."""
        import jax.numpy as jnp  # not at the top: batches are made without

        return jnp.asarray(inputs, jnp.float32)

    def _batches(
        self, split: str, stream: Stream, share: Share, training: bool
    ) -> RegressionBatches:
        return RegressionBatches(self.family, self.settings.size(split), stream, share)
