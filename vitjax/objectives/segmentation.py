"""Semantic segmentation: a class for every pixel."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match
from vitjax.data.sample import IGNORE
from vitjax.data.transforms.moving import mirrored
from vitjax.losses.segmentation import ACTIVATIONS, Loss, Pixels, combine, probabilities
from vitjax.metrics import Mean, Measure, Metrics, PerClass, create_measures
from vitjax.models.protocol import Model
from vitjax.objectives.base import Batch, ModelState, Params, Target, collect, objectives
from vitjax.objectives.images import ImageObjective


@objectives.register("segmentation")
@dataclasses.dataclass(frozen=True)
class Segmentation(ImageObjective):
    """Gives every pixel of an image a class.

    A batch holds ``image`` (batch, height, width, channels), ``label`` (batch, height, width) as
    class numbers with `IGNORE` where a pixel does not count, ``mask`` (batch,), False where an
    example does not count, and where the data has one ``weight`` (batch, height, width), a map that
    the per-pixel losses are multiplied by.

    A model of unpadded convolutions gives less than it is fed (its ``margin`` in pixels): labels
    are then cropped in training, and images mirrored at their borders in evaluation, so that every
    pixel is predicted.

    Attributes:
        model: maps float images to logits (batch, height, width, classes), in training to a tuple
            of them where it is deeply supervised.
        losses: name -> weight, or name -> ``weight`` and keywords, of
            `vitjax.losses.segmentation`.
        cross_entropy: ``"softmax"`` over classes, or a ``"sigmoid"`` for each; two classes may then
            have a single output, that of class 1. It holds for all losses and for probabilities.
        measures: further metrics at the end of a run and in ``vitjax evaluate``, of
            `vitjax.metrics.MEASURES`: ``"v_rand"``, ``"v_info"``, ``"rand_error"``,
            ``"pixel_error"``.
        foreground: the class whose connected parts are the objects that ``measures`` compare.

    The other attributes are those of `vitjax.objectives.images.ImageObjective`.
    """

    task: ClassVar[str] = "segmentation"
    targets: ClassVar[tuple[Target, ...] | None] = ("mask",)

    losses: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"cross_entropy": 1.0})
    cross_entropy: Literal["softmax", "sigmoid"] = "softmax"
    measures: Sequence[str] = ()
    foreground: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cross_entropy not in ACTIVATIONS:
            raise ConfigError(
                f"objective.cross_entropy is {self.cross_entropy!r}; it can be"
                f" {' or '.join(map(repr, ACTIVATIONS))}"
                f"{near_match(self.cross_entropy, ACTIVATIONS)}"
            )
        if not 0 <= self.foreground < self.num_classes:
            raise ConfigError(
                f"objective.foreground is {self.foreground}; not in 0..{self.num_classes - 1}, the"
                " classes"
            )
        self._measures()
        self._combined()

    @classmethod
    def fewest_outputs(cls, data: Any, arguments: Mapping[str, Any]) -> int:
        """How many outputs the model needs at least; ``arguments`` is the objective's section."""
        single = arguments.get("cross_entropy") == "sigmoid" and data.num_classes == 2
        return 1 if single else data.num_classes

    def loss(
        self, params: Params, model_state: ModelState, batch: Batch, rng: Array
    ) -> tuple[Float[Array, ""], tuple[ModelState, Metrics]]:
        """The combined loss, averaged over the batch's unmasked images, and over deep outputs."""
        logits, model_state = self.forward(params, model_state, self.normalize(batch["image"]), rng)
        supervised = tuple(logits) if isinstance(logits, tuple | list) else (logits,)
        parts = [self.image_losses(each, batch) for each in supervised]
        # The last output is the deepest: that of the whole network.
        metrics = self.metrics(supervised[-1], batch)
        metrics["loss"] = self._mean_loss(jnp.mean(jnp.stack(parts), axis=0), batch)
        return self.average(metrics["loss"]), (model_state, metrics)

    def evaluate(self, variables: Mapping[str, Any], batch: Batch) -> Metrics:
        """The loss, pixel accuracy, and each class's intersection over union and Dice."""
        logits = self._logits(variables, batch["image"])
        metrics = self.metrics(logits, batch)
        metrics["loss"] = self._mean_loss(self.image_losses(logits, batch), batch)
        return metrics

    def final_metrics(self, variables: Mapping[str, Any], batch: Batch) -> Metrics:
        """What `measures` names."""
        return collect(
            self._measures(),
            lambda: self.predict(variables, batch),
            batch["label"],
            batch["mask"],
        )

    def predict(
        self, variables: Mapping[str, Any], batch: Batch
    ) -> Float[Array, "batch height width classes"]:
        """The probability of every class at every pixel of the images."""
        return probabilities(self._logits(variables, batch["image"]), self.cross_entropy)

    def per_pixel(
        self, variables: Mapping[str, Any], images: Array
    ) -> Float[Array, "batch rows columns classes"]:
        """Class probabilities of the pixels that the model's outputs cover, borders as they are."""
        logits = self.outputs(variables, images)
        return probabilities(logits, self.cross_entropy)

    def image_iou(self, variables: Mapping[str, Any], batch: Batch) -> Float[Array, "batch"]:
        """Of each image the mean intersection over union of the classes that occur in it."""
        predicted = decide(self._logits(variables, batch["image"]))
        counts = self._counts(predicted, batch)
        union = counts["predicted"] + counts["truth"] - counts["both"]
        shares = counts["both"] / jnp.maximum(union, 1)
        return jnp.sum(shares, axis=-1) / jnp.maximum(jnp.sum(union > 0, axis=-1), 1)

    def image_losses(
        self, logits: Float[Array, "batch rows columns outputs"], batch: Batch
    ) -> Float[Array, "batch"]:
        """The weighted sum of the losses of each image; labels are cropped to the logits' size."""
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
        )
        total = jnp.zeros(len(logits), dtype)
        for share, loss in self._combined():
            total = total + share * loss(pixels)
        return total

    def metrics(self, logits: Float[Array, "batch rows columns outputs"], batch: Batch) -> Metrics:
        """Pixel accuracy, and ``iou`` and ``dice`` of each class, over all pixels that count."""
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

    def _mean_loss(self, losses: Float[Array, "batch"], batch: Batch) -> Mean:
        counted = batch["mask"] & jnp.any(batch["label"] != IGNORE, axis=(1, 2))
        return Mean.of(losses, counted, higher_is_better=False)

    def _combined(self) -> tuple[tuple[float, Loss], ...]:
        return combine(self.losses, self.num_classes, self.cross_entropy)

    def _logits(self, variables: Mapping[str, Any], images: Array) -> Array:
        """Logits of all pixels of ``images``, mirrored at their borders where the model asks it."""
        size = (images.shape[1], images.shape[2])
        for axis, length in enumerate(size, start=1):
            images = jnp.take(images, _mirrored(self.model, length), axis=axis)
        logits = self.outputs(variables, images)
        return logits[:, : size[0], : size[1]]

    def _counts(
        self, predicted: Int[Array, "batch rows columns"], batch: Batch
    ) -> dict[str, Float[Array, "batch classes"]]:
        """Of each image and class the pixels ``predicted``, in ``truth``, and in ``both``."""
        labels = crop(batch["label"], predicted.shape[1:3])
        counted = (labels != IGNORE) & batch["mask"][:, None, None]
        right = predicted == labels

        def count(classes: Array, where: Array) -> Array:
            hits = [jnp.sum((classes == c) & where, axis=(1, 2)) for c in range(self.num_classes)]
            return jnp.stack(hits, axis=-1).astype(jnp.float32)

        return {
            "predicted": count(predicted, counted),
            "truth": count(labels, counted),
            "both": count(labels, counted & right),
        }


def decide(logits: Float[Array, "*shape outputs"]) -> Int[Array, "*shape"]:
    """The class that is most probable; one output speaks for class 1 where it is positive."""
    if logits.shape[-1] == 1:
        return (logits[..., 0] > 0).astype(jnp.int32)
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def crop(maps: Array, size: Sequence[int]) -> Array:
    """The centre of ``maps`` (batch, height, width, ...) of ``size``."""
    (height, width), (rows, columns) = maps.shape[1:3], size
    top, left = (height - rows) // 2, (width - columns) // 2
    return maps[:, top : top + rows, left : left + columns]


def _mirrored(model: Model, length: int) -> Int[np.ndarray, "places"]:
    """The pixels to feed ``model`` so that its output begins at the first of ``length``."""
    margin = model.margin
    if not margin:
        return np.arange(length)
    before = margin // 2
    return mirrored(-before, model.valid_size(length + margin), length)
