"""Image classification: cross-entropy on hard, smoothed, soft or mixed labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Num, PRNGKeyArray

from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match
from vitjax.metrics import Mean, Measure, Metrics, create_measures
from vitjax.objectives.base import Batch, ModelState, Params, Target, collect, objectives
from vitjax.objectives.images import ImageObjective
from vitjax.objectives.mixing import mix

CROSS_ENTROPIES = ("softmax", "sigmoid")
# Children of a step's key.
_MIX, _DROPOUT = 0, 1


@objectives.register("classification")
@dataclasses.dataclass(frozen=True)
class Classification(ImageObjective):
    """Classifies images.

    A batch holds ``image`` (batch, height, width, channels), ``label`` as class numbers (batch,) or
    as soft labels (batch, classes), and ``mask`` (batch,), False where an example does not count.

    Attributes:
        model: maps float images to logits (batch, classes).
        cross_entropy: ``"softmax"``, or ``"sigmoid"`` for one binary problem per class, added up
            over classes (Beyer et al. 2020, arXiv 2006.07159, Section 4.1).
        label_smoothing: fraction of the label that is spread evenly over all classes (Szegedy et
            al. 2016, arXiv 1512.00567, Section 7).
        mixup: MixUp's alpha; 0 is off.
        cutmix: CutMix's alpha; 0 is off. With both on, each batch gets one of the two.
        mix_probability: fraction of the batches that are mixed.
        measures: further metrics at the end of a run and in ``vitjax evaluate``, of
            `vitjax.metrics.MEASURES`: ``"calibration_error"``, ``"confusion_matrix"``.

    The other attributes are those of `vitjax.objectives.images.ImageObjective`.
    """

    task: ClassVar[str] = "classification"
    targets: ClassVar[tuple[Target, ...] | None] = ("class",)

    cross_entropy: Literal["softmax", "sigmoid"] = "softmax"
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0
    measures: Sequence[str] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._measures()
        if self.cross_entropy not in CROSS_ENTROPIES:
            raise ConfigError(
                f"objective.cross_entropy is {self.cross_entropy!r}; it can be"
                f" {' or '.join(map(repr, CROSS_ENTROPIES))}"
                f"{near_match(self.cross_entropy, CROSS_ENTROPIES)}"
            )
        for name, upper in (
            ("label_smoothing", 1.0),
            ("mix_probability", 1.0),
            ("mixup", float("inf")),
            ("cutmix", float("inf")),
        ):
            if not 0 <= getattr(self, name) <= upper:
                raise ConfigError(f"objective.{name} is {getattr(self, name)}; not in 0..{upper}")

    def prepare(
        self, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, "batch height width channels"], Float[Array, "batch classes"]]:
        """The images and soft labels that a step with key ``rng`` sees: normalised and mixed."""
        images = self.normalize(batch["image"])
        labels = self.soft_labels(batch["label"])
        return mix(
            jax.random.fold_in(rng, _MIX),
            images,
            optax.smooth_labels(labels, self.label_smoothing),
            mixup_alpha=self.mixup,
            cutmix_alpha=self.cutmix,
            probability=self.mix_probability,
        )

    def loss(
        self, params: Params, model_state: ModelState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], tuple[ModelState, Metrics]]:
        """Mean cross-entropy over the batch's unmasked examples."""
        images, labels = self.prepare(batch, rng)
        logits, model_state = self.forward(
            params, model_state, images, jax.random.fold_in(rng, _DROPOUT)
        )
        metrics = self.metrics(logits, labels, self._weights(batch))
        return self.average(metrics["loss"]), (model_state, metrics)

    def evaluate(self, variables: Mapping[str, Any], batch: Batch) -> Metrics:
        """Cross-entropy (no smoothing, no mixing), accuracy and, from six classes on, top-5."""
        logits = self.logits(variables, batch)
        return self.metrics(logits, self.soft_labels(batch["label"]), batch["mask"])

    def final_metrics(self, variables: Mapping[str, Any], batch: Batch) -> Metrics:
        """What `measures` names."""
        labels = batch["label"]
        classes = labels if labels.ndim == 1 else jnp.argmax(labels, axis=-1)
        return collect(
            self._measures(), lambda: self.predict(variables, batch), classes, batch["mask"]
        )

    def predict(self, variables: Mapping[str, Any], batch: Batch) -> Float[Array, "batch classes"]:
        """Class probabilities: softmax, or one sigmoid per class where that was trained."""
        logits = self.logits(variables, batch)
        return jax.nn.softmax(logits) if self.cross_entropy == "softmax" else jax.nn.sigmoid(logits)

    def logits(self, variables: Mapping[str, Any], batch: Batch) -> Float[Array, "batch classes"]:
        """The model's outputs in evaluation."""
        return self.outputs(variables, batch["image"])

    def metrics(
        self,
        logits: Float[Array, "batch classes"],
        labels: Float[Array, "batch classes"],
        weights: Num[Array, "batch"],
    ) -> Metrics:
        """Loss and accuracies of a batch; a soft label counts as its largest class."""
        labels = labels.astype(logits.dtype)
        if self.cross_entropy == "softmax":
            losses = optax.losses.softmax_cross_entropy(logits, labels)
        else:
            losses = optax.losses.sigmoid_binary_cross_entropy(logits, labels).sum(axis=-1)
        truth = jnp.argmax(labels, axis=-1)
        right = {"accuracy": jnp.argmax(logits, axis=-1) == truth}
        if self.num_classes > 5:
            top5 = jax.lax.top_k(logits, 5)[1]
            right["accuracy_top5"] = jnp.any(top5 == truth[:, None], axis=-1)
        accuracies = {
            name: Mean.of(hits * 1.0, weights, higher_is_better=True, unit="fraction")
            for name, hits in right.items()
        }
        loss = Mean.of(losses, weights, higher_is_better=False, unit="nats")
        return {"loss": loss, **accuracies}

    def soft_labels(self, labels: Num[Array, "..."]) -> Float[Array, "batch classes"]:
        """``labels`` as rows over the classes, whether they were class numbers or rows already."""
        if labels.ndim == 1:
            return jax.nn.one_hot(labels, self.num_classes)
        return labels

    def _measures(self) -> dict[str, Measure]:
        return create_measures(
            self.measures, "class", where="config.objective.measures", num_classes=self.num_classes
        )

    def _weights(self, batch: Batch) -> Array:
        # A mixed example is as real as both of its halves.
        mask = batch["mask"]
        return mask & jnp.roll(mask, 1) if self.mixup or self.cutmix else mask
