"""Semantic segmentation: one class per pixel."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt

from vitjax.core.errors import ConfigError
from vitjax.core.validation import NonNegativeInt
from vitjax.data.dataset import Dataset
from vitjax.data.sample import IGNORE
from vitjax.data.transforms.moving import mirrored
from vitjax.losses.segmentation import Loss, Pixels, combine, probabilities
from vitjax.losses.segmentation import check as check_losses
from vitjax.metrics import Mean, Measure, Metrics, PerClass, check_measures, create_measures
from vitjax.models.protocol import Model
from vitjax.objectives.base import Batch, ModelState, Params, collect, objectives
from vitjax.objectives.class_weighted import ClassWeighted
from vitjax.objectives.fine_tuning import FineTunable
from vitjax.objectives.interfaces import Segmenter


@objectives.register("segmentation")
@dataclasses.dataclass(frozen=True)
class Segmentation(FineTunable, ClassWeighted, Segmenter):
    """Classifies each pixel of an image.

    A batch holds ``image`` (batch, height, width, channels); ``label`` (batch, height, width),
    class numbers, with `IGNORE` where a pixel does not count; ``mask`` (batch,), False where an
    example does not count; and, where the data has one, ``weight`` (batch, height, width), a map
    that multiplies the per-pixel losses.

    A model of unpadded convolutions has outputs smaller than its inputs by ``margin`` pixels.
    Labels are then cropped in training, and images mirrored at their borders in evaluation, so that
    each pixel is predicted.

    Attributes:
        model: maps float images to logits (batch, height, width, classes); a deeply supervised
            model returns a tuple of them in training.
        losses: name -> weight, or name -> section of ``weight`` and keywords, see
            `vitjax.losses.segmentation`.
        cross_entropy: ``"softmax"`` over the classes, or one ``"sigmoid"`` per class; two classes
            may then have a single output, that of class 1. It applies to all losses and to
            probabilities.
        measures: names of `vitjax.metrics.MEASURES` that the end of a run and ``vitjax evaluate``
            also compute: ``"v_rand"``, ``"v_info"``, ``"rand_error"``, ``"pixel_error"``.
        foreground: the class whose connected parts are the objects that ``measures`` compare.

    With ``class_weights`` the per-pixel losses (``cross_entropy``, ``focal``) of an image are means
    weighted by the class of each pixel, and the loss of a batch is the mean over its images
    weighted by the mean weight of their pixels. Cross-entropy over images of one size is then that
    of PyTorch's ``CrossEntropyLoss(weight=...)`` over all pixels of the batch.

    The other attributes are those of `vitjax.objectives.fine_tuning.FineTunable` and
    `vitjax.objectives.class_weighted.ClassWeighted`.
    """

    losses: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"cross_entropy": 1.0})
    cross_entropy: Literal["softmax", "sigmoid"] = "softmax"
    measures: Sequence[str] = ()
    foreground: NonNegativeInt = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.foreground >= self.num_classes:
            raise ConfigError(
                f"config.objective.foreground is {self.foreground}; it must be a class, in"
                f" 0..{self.num_classes - 1}"
            )
        self._measures()
        self._combined()

    @classmethod
    def check_section(cls, arguments: Mapping[str, Any]) -> None:
        """Checks ``losses`` and ``measures`` as far as that is possible without the data."""
        super().check_section(arguments)
        check_losses(arguments.get("losses", {}))
        check_measures(arguments.get("measures", ()))

    @classmethod
    def fewest_outputs(cls, data: Dataset, arguments: Mapping[str, Any]) -> int:
        """The number of classes; 1 for the single sigmoid of two classes."""
        single = arguments.get("cross_entropy") == "sigmoid" and data.num_classes == 2
        return 1 if single else data.num_classes

    def loss(
        self, params: Params, model_state: ModelState, batch: Batch, rng: Array
    ) -> tuple[Float[Array, ""], tuple[ModelState, Metrics]]:
        """The combined loss, averaged over the unmasked images of the batch and deep outputs."""
        logits, model_state = self.forward(params, model_state, self.normalize(batch["image"]), rng)
        supervised = tuple(logits) if isinstance(logits, tuple | list) else (logits,)
        classes = self.weights_of_classes
        parts = [self.image_losses(each, batch, classes) for each in supervised]
        # The last output is the deepest, that of the complete network.
        metrics = self.metrics(supervised[-1], batch)
        weights = None if classes is None else _image_weights(classes, supervised[-1], batch)
        metrics["loss"] = self._mean_loss(jnp.mean(jnp.stack(parts), axis=0), batch, weights)
        return self.average(metrics["loss"]), (model_state, metrics)

    def evaluate(self, variables: Mapping[str, Any], batch: Batch) -> Metrics:
        """The loss, pixel accuracy, and intersection over union and Dice per class."""
        logits = self._logits(variables, batch["image"])
        metrics = self.metrics(logits, batch)
        metrics["loss"] = self._mean_loss(self.image_losses(logits, batch), batch)
        return metrics

    def final_metrics(self, variables: Mapping[str, Any], batch: Batch) -> Metrics:
        """The metrics of ``measures``."""
        return collect(self._measures(), lambda: self.predict(variables, batch), batch)

    def predict(
        self, variables: Mapping[str, Any], batch: Batch
    ) -> Float[Array, "batch height width classes"]:
        """The probability of each class at each pixel of the images."""
        return probabilities(self._logits(variables, batch["image"]), self.cross_entropy)

    def per_pixel(
        self, variables: Mapping[str, Any], images: Array
    ) -> Float[Array, "batch rows columns classes"]:
        """Class probabilities of the pixels that the outputs cover, without mirrored borders."""
        logits = self.outputs(variables, images)
        return probabilities(logits, self.cross_entropy)

    def image_iou(self, variables: Mapping[str, Any], batch: Batch) -> Float[Array, "batch"]:
        """As of `Segmenter`, from the counts of pixels."""
        counts = self.image_counts(variables, batch)
        union = counts["predicted"] + counts["truth"] - counts["both"]
        ratios = counts["both"] / jnp.maximum(union, 1)
        occur = jnp.sum(union > 0, axis=-1)
        return jnp.where(occur > 0, jnp.sum(ratios, axis=-1) / jnp.maximum(occur, 1), jnp.nan)

    def image_counts(
        self, variables: Mapping[str, Any], batch: Batch
    ) -> dict[str, UInt[Array, "batch classes"]]:
        """As of `Segmenter`, from the logits."""
        return self._counts(decide(self._logits(variables, batch["image"])), batch)

    def image_losses(
        self,
        logits: Float[Array, "batch rows columns outputs"],
        batch: Batch,
        class_weights: Float[np.ndarray, "classes"] | None = None,
    ) -> Float[Array, "batch"]:
        """The weighted sum of the losses per image; labels are cropped to the logits' size."""
        size = logits.shape[1:3]
        labels = crop(batch["label"], size)
        dtype = logits.dtype
        weight = crop(batch["weight"], size) if "weight" in batch else jnp.ones(labels.shape)
        pixels = Pixels(
            logits=logits,
            truth=jax.nn.one_hot(labels, self.num_classes, dtype=dtype),
            counted=(labels != IGNORE).astype(dtype),
            weight=weight.astype(dtype),
            activation=self.cross_entropy,
            class_weight=(
                None if class_weights is None else jnp.asarray(class_weights, dtype)[labels]
            ),
        )
        total = jnp.zeros(len(logits), dtype)
        for scale, loss in self._combined():
            total = total + scale * loss(pixels)
        return total

    def metrics(self, logits: Float[Array, "batch rows columns outputs"], batch: Batch) -> Metrics:
        """Pixel accuracy, and ``iou`` and ``dice`` per class, over all pixels that count."""
        counts = self._counts(decide(logits), batch)
        counts = {name: jnp.sum(value, axis=0) for name, value in counts.items()}
        both, sizes = counts["both"], counts["predicted"] + counts["truth"]
        declared: dict[str, Any] = {"higher_is_better": True, "unit": "fraction"}
        return {
            "accuracy": Mean(jnp.sum(both), jnp.sum(counts["truth"]), **declared),
            "iou": PerClass(both, sizes - both, **declared),
            "dice": PerClass(2 * both, sizes, **declared),
        }

    def _measures(self) -> dict[str, Measure]:
        return create_measures(
            self.measures, "mask", where="config.objective.measures", foreground=self.foreground
        )

    def _mean_loss(
        self, losses: Float[Array, "batch"], batch: Batch, weights: Array | None = None
    ) -> Mean:
        counted = batch["mask"] & jnp.any(batch["label"] != IGNORE, axis=(1, 2))
        if weights is not None:
            counted = counted * weights
        return Mean.of(losses, counted, higher_is_better=False)

    def _combined(self) -> tuple[tuple[float, Loss], ...]:
        return combine(self.losses, self.num_classes, self.cross_entropy)

    def _logits(self, variables: Mapping[str, Any], images: Array) -> Array:
        """Logits of all pixels of ``images``; borders are mirrored for an unpadded model."""
        size = (images.shape[1], images.shape[2])
        for axis, length in enumerate(size, start=1):
            images = jnp.take(images, _mirrored(self.model, length), axis=axis)
        logits = self.outputs(variables, images)
        return logits[:, : size[0], : size[1]]

    def _counts(
        self, predicted: Int[Array, "batch rows columns"], batch: Batch
    ) -> dict[str, UInt[Array, "batch classes"]]:
        """The number of pixels ``predicted``, in ``truth`` and in ``both``, per image and class.

        They are integers: float32 does not count beyond 2^24 pixels, which a batch may have.
        """
        labels = crop(batch["label"], predicted.shape[1:3])
        counted = (labels != IGNORE) & batch["mask"][:, None, None]
        right = predicted == labels

        def count(classes: Array, where: Array) -> Array:
            hits = [(classes == c) & where for c in range(self.num_classes)]
            return jnp.stack([jnp.sum(h, (1, 2), dtype=jnp.uint32) for h in hits], axis=-1)

        return {
            "predicted": count(predicted, counted),
            "truth": count(labels, counted),
            "both": count(labels, counted & right),
        }


def decide(logits: Float[Array, "*shape outputs"]) -> Int[Array, "*shape"]:
    """The most probable class; a single output means class 1 where it is positive."""
    if logits.shape[-1] == 1:
        return (logits[..., 0] > 0).astype(jnp.int32)
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def crop(maps: Array, size: Sequence[int]) -> Array:
    """The centre of ``maps`` (batch, height, width, ...), of (rows, columns) ``size``."""
    (height, width), (rows, columns) = maps.shape[1:3], size
    top, left = (height - rows) // 2, (width - columns) // 2
    return maps[:, top : top + rows, left : left + columns]


def _image_weights(
    class_weights: Float[np.ndarray, "classes"],
    logits: Float[Array, "batch rows columns outputs"],
    batch: Batch,
) -> Float[Array, "batch"]:
    """The mean class weight of the pixels of each image that count, cropped to the logits."""
    labels = crop(batch["label"], logits.shape[1:3])
    weights = jnp.where(labels != IGNORE, jnp.asarray(class_weights)[labels], 0)
    counted = jnp.sum(labels != IGNORE, axis=(1, 2))
    return jnp.sum(weights, axis=(1, 2)) / jnp.maximum(counted, 1)


def _mirrored(model: Model, length: int) -> Int[np.ndarray, "places"]:
    """The input pixels for which the output begins at the first of ``length`` pixels."""
    margin = model.margin
    if not margin:
        return np.arange(length)
    before = margin // 2
    return mirrored(-before, model.valid_size(length + margin), length)
