"""What tasks need of objectives over images: the interfaces of classifiers and segmenters."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, PRNGKeyArray, UInt

from vitjax.core.validation import PositiveFloat
from vitjax.data.dataset import Target
from vitjax.data.sample import IGNORE
from vitjax.objectives.base import Batch, Objective


@dataclasses.dataclass(frozen=True)
class ImageObjective(Objective):
    """An objective whose model maps a batch's images to one output per class.

    Attributes:
        num_classes: the number of classes.
        normalize: maps the images of a batch to the inputs of the model.
    """

    num_classes: int
    normalize: Callable[[Array], Array] = lambda images: images

    @property
    def weights_of_classes(self) -> np.ndarray | None:
        """The weight of each class in the training loss, (classes,); None for equal weights."""
        return None

    def inputs(self, batch: Batch) -> Array:
        """One image of the batch; the values do not matter."""
        return self.normalize(batch["image"][:1])

    @abc.abstractmethod
    def predict(
        self, variables: Mapping[str, Any], batch: Batch
    ) -> Float[Array, "batch *pixels classes"]:
        """The probability of each class, per image or per pixel."""


@dataclasses.dataclass(frozen=True)
class Classifier(ImageObjective):
    """Classifies images: what the task ``"classification"`` needs.

    A subclass defines `loss`, `evaluate` and `predict`.

    Attributes:
        accuracies: the metrics of `evaluate` that are the fraction of the examples that are right.
        entropy_threshold: of a recurrent network: the entropy of the softmax, in nats, below which
            an image is decided, see `vitjax.metrics.reaction_times`. It has no best value: Spoerer
            et al. 2020, doi:10.1371/journal.pcbi.1008215, trade speed for accuracy by it.
    """

    task: ClassVar[str] = "classification"
    targets: ClassVar[tuple[Target, ...] | None] = ("class",)
    evaluation_fields: ClassVar[tuple[str, ...]] = ("entropy_threshold",)
    accuracies: ClassVar[tuple[str, ...]] = ("accuracy", "accuracy_top5")

    entropy_threshold: PositiveFloat = dataclasses.field(default=0.5, kw_only=True)

    def prepare(
        self, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, "batch height width channels"], Float[Array, "batch classes"]]:
        """The normalised images and soft labels of the step whose key is ``rng``, for figures.

        A method that mixes images or labels in the step overrides this.
        """
        del rng
        return self.normalize(batch["image"]), self.soft_labels(batch["label"])

    def soft_labels(self, labels: Num[Array, "..."]) -> Float[Array, "batch classes"]:
        """``labels``, which are class numbers or rows over the classes, as rows."""
        if labels.ndim == 1:
            return jax.nn.one_hot(labels, self.num_classes)
        return labels

    @property
    def time_steps(self) -> int:
        """The steps of `logits_over_time`; 0 for none, as where images do not reach the network."""
        return 0 if self.caches_features else self.model.time_steps

    def logits_over_time(
        self, variables: Mapping[str, Any], batch: Batch
    ) -> Float[Array, "time batch classes"]:
        """The logits of each time step in evaluation, of a model that has `time_steps`."""
        images = self.normalize(batch["image"])
        logits: Any = self.model.apply(self.unwrap(variables), images, method="logits_over_time")
        return logits

    @property
    def caches_features(self) -> bool:
        """Whether training runs on `features`, computed once, before the first step."""
        return False

    def features(
        self, variables: Mapping[str, Any], images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch width"]:
        """The features of normalised images, for an objective with `caches_features`."""
        raise NotImplementedError(f"{type(self).__name__} declares no features")


@dataclasses.dataclass(frozen=True)
class Segmenter(ImageObjective):
    """Classifies pixels: what the task ``"segmentation"`` needs."""

    task: ClassVar[str] = "segmentation"
    targets: ClassVar[tuple[Target, ...] | None] = ("mask",)

    @abc.abstractmethod
    def per_pixel(
        self, variables: Mapping[str, Any], images: Array
    ) -> Float[Array, "batch rows columns classes"]:
        """Class probabilities of the pixels that the outputs cover, without mirrored borders."""

    @abc.abstractmethod
    def image_iou(self, variables: Mapping[str, Any], batch: Batch) -> Float[Array, "batch"]:
        """The intersection over union of each image, averaged over the classes that occur in it.

        NaN for an image of which no pixel counts.
        """

    def image_counts(
        self, variables: Mapping[str, Any], batch: Batch
    ) -> dict[str, UInt[Array, "batch classes"]]:
        """The pixels of each image and class: ``predicted``, in ``truth``, and in ``both``.

        Pixels that do not count in the labels count in none of them.
        """
        chosen = jnp.argmax(self.predict(variables, batch), axis=-1)
        labels = batch["label"]
        counted = (labels != IGNORE) & batch["mask"][:, None, None]

        def count(classes: Array, where: Array) -> Array:
            hits = [(classes == c) & where for c in range(self.num_classes)]
            return jnp.stack([jnp.sum(h, (1, 2), dtype=jnp.uint32) for h in hits], axis=-1)

        return {
            "predicted": count(chosen, counted),
            "truth": count(labels, counted),
            "both": count(labels, counted & (chosen == labels)),
        }
