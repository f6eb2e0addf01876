"""Batches of P classes with K images each, for losses over pairs and triplets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitjax.core.errors import ConfigError
from vitjax.core.validation import PositiveInt
from vitjax.data.samplers.base import Sampler, Training, register
from vitjax.data.samplers.streams import Stream, draw_without_replacement
from vitjax.data.share import WHERE


@dataclass(frozen=True, eq=False)
class PByK(Sampler):
    """Batches of P distinct classes with K images each, class by class.

    Images of a class are distinct, unless it has fewer than K: then all of them are repeated.

    Attributes:
        seed: of the draws.
        members: the examples of all classes, class by class, (examples,).
        sizes: how many of them each class has, (classes,); none is 0.
        classes: P.
        images: K.
    """

    seed: int
    members: np.ndarray
    sizes: np.ndarray
    classes: int
    images: int

    def indices(self, positions: range) -> np.ndarray:
        """The examples at ``positions``; each batch is P x K positions in a row."""
        size = self.classes * self.images
        if not positions:  # padding alone
            return np.zeros(0, np.int64)
        batches = range(positions.start // size, -(-positions.stop // size))
        rows = np.concatenate([self._batch(number) for number in batches])
        first = positions.start - batches.start * size
        return rows[first : first + len(positions)]

    def _batch(self, number: int) -> np.ndarray:
        count = self.classes * (1 + self.images)
        drawn = Stream(self.seed, "p_by_k").uniforms(number, 1, count)[0]
        total = np.array([len(self.sizes)])
        chosen = draw_without_replacement(drawn[None, : self.classes], total)[0]
        starts = np.cumsum(self.sizes) - self.sizes
        rows = []
        for kind, uniforms in zip(
            chosen, drawn[self.classes :].reshape(self.classes, self.images), strict=True
        ):
            size = self.sizes[kind : kind + 1]
            distinct = min(self.images, int(size[0]))
            picks = draw_without_replacement(uniforms[None, :distinct], size)[0]
            rows.append(self.members[starts[kind] + np.resize(picks, self.images)])
        return np.concatenate(rows)


@register("p_by_k")
def p_by_k(training: Training, images_per_class: PositiveInt = 4) -> PByK:
    """Batches of P classes with K images each: Hermans et al. 2017, arXiv 1703.07737, section 2.

    P is ``batch_size / images_per_class``.

    Args:
        training: what is sampled.
        images_per_class: K.

    Raises:
        ConfigError: the batch size is not divisible by K, or there are fewer than P classes.
    """
    key = f"{WHERE}.sampler.images_per_class"
    labels = training.classes("p_by_k")
    classes, rest = divmod(training.batch_size, images_per_class)
    if rest:
        raise ConfigError(
            f"{key} is {images_per_class}; it must divide config.data.batch_size,"
            f" {training.batch_size}"
        )
    sizes = np.unique(labels, return_counts=True)[1]
    if classes > len(sizes):
        raise ConfigError(
            f"{key} is {images_per_class}, which makes {classes} classes in a batch of"
            f" {training.batch_size}; the training split has {len(sizes)}"
        )
    members = np.argsort(labels, kind="stable").astype(np.int64)
    return PByK(training.seed, members, sizes, classes, images_per_class)
