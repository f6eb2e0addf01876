"""Image classification: cross-entropy on hard, smoothed, soft or mixed labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Num, PRNGKeyArray

from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match
from vitjax.core.validation import Fraction, NonNegativeFloat, check_value
from vitjax.metrics import Mean, Measure, Metrics, check_measures, create_measures
from vitjax.objectives.base import Batch, ModelState, Params, collect, objectives
from vitjax.objectives.class_weighted import ClassWeighted
from vitjax.objectives.fine_tuning import FineTunable
from vitjax.objectives.interfaces import Classifier
from vitjax.objectives.mixing import mix

# Children of the key of a step.
_MIX, _DROPOUT = 0, 1
# The collection of `vitjax.models.protocol.Model.auxiliary_logits`.
_AUXILIARY = "auxiliary"


@objectives.register("classification")
@dataclasses.dataclass(frozen=True)
class Classification(FineTunable, ClassWeighted, Classifier):
    """Classifies images.

    A batch holds ``image`` (batch, height, width, channels); ``label``, class numbers (batch,) or
    soft labels (batch, classes); and ``mask`` (batch,), False where an example does not count.

    Attributes:
        model: maps float images to logits (batch, classes).
        cross_entropy: ``"softmax"``, or ``"sigmoid"`` for one binary problem per class, summed over
            classes (Beyer et al. 2020, arXiv 2006.07159, Section 4.1).
        label_smoothing: fraction of the label that is spread evenly over all classes (Szegedy et
            al. 2016, arXiv 1512.00567, Section 7).
        mixup: alpha of MixUp; 0 turns it off.
        cutmix: alpha of CutMix; 0 turns it off. With both on, each batch gets one of the two.
        mix_probability: fraction of the batches that are mixed.
        measures: names of `vitjax.metrics.MEASURES` that the end of a run and ``vitjax evaluate``
            also compute: ``"calibration_error"``, ``"confusion_matrix"``, and for a recurrent
            network ``"accuracy_over_time"``, ``"reaction_time"``.
        auxiliary_weight: the weights of the losses of the model's auxiliary logits, by name; 0
            turns one off. Those that are not named, or all for None, have the model's own.

    A model with `vitjax.models.protocol.Model.auxiliary_logits` is trained on the loss of its
    logits plus the weighted losses of the auxiliary ones, each the same function of the labels
    (Szegedy et al. 2015, arXiv 1409.4842, Section 5). That sum is the metric ``loss`` of training,
    and ``loss_NAME`` are its further terms without their weights. Evaluation reads the logits.

    With ``class_weights`` the training loss is ``sum(l) / sum(w)`` over the examples of a batch, as
    that of PyTorch's ``CrossEntropyLoss(weight=...)``: ``l = -sum_c w_c q_c log p_c`` for the
    smoothed and mixed label q, and w is the weight of the label before it is smoothed, of a mixed
    one the mean weight of its parts. (For probabilities as labels PyTorch divides by the number of
    examples.) With ``"sigmoid"``, l is w times the loss of the example, as in Cui et al. 2019
    (arXiv 1901.05555, Section 4.2).

    The other attributes are those of `vitjax.objectives.fine_tuning.FineTunable`,
    `vitjax.objectives.class_weighted.ClassWeighted` and `vitjax.objectives.interfaces.Classifier`.
    """

    cross_entropy: Literal["softmax", "sigmoid"] = "softmax"
    label_smoothing: Fraction = 0.0
    mixup: NonNegativeFloat = 0.0
    cutmix: NonNegativeFloat = 0.0
    mix_probability: Fraction = 1.0
    measures: Sequence[str] = ()
    auxiliary_weight: Mapping[str, float] | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._measures()
        where, known = "config.objective.auxiliary_weight", self.model.auxiliary_logits
        for name, weight in (self.auxiliary_weight or {}).items():
            if name not in known:
                raise ConfigError(
                    f"{where}: the model {type(self.model).__name__} has no auxiliary logits"
                    f" {name!r}{near_match(name, known)} (known: {', '.join(known) or 'none'})"
                )
            check_value(weight, NonNegativeFloat, f"{where}.{name}")

    @classmethod
    def check_section(cls, arguments: Mapping[str, Any]) -> None:
        """Checks ``class_weights`` and ``measures`` as far as that is possible without the data."""
        super().check_section(arguments)
        check_measures(arguments.get("measures", ()))

    def prepare(
        self, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, "batch height width channels"], Float[Array, "batch classes"]]:
        """The normalised and mixed images and soft labels of the step whose key is ``rng``."""
        images, labels, _ = self.prepare_weighted(batch, rng)
        return images, labels

    def prepare_weighted(
        self, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Array, Float[Array, "batch classes"], Float[Array, "batch"] | None]:
        """The result of `prepare`, and the mixed weight of each example's classes, if they differ.

        Args:
            batch: as of `loss`.
            rng: the key of the step.
        """
        labels, weights = self._smoothed(batch["label"])
        rows = labels if weights is None else jnp.concatenate([labels, weights[:, None]], axis=-1)
        images, rows = mix(
            jax.random.fold_in(rng, _MIX),
            self.normalize(batch["image"]),
            rows,
            mixup_alpha=self.mixup,
            cutmix_alpha=self.cutmix,
            probability=self.mix_probability,
        )
        if weights is None:
            return images, rows, None
        return images, rows[:, : self.num_classes], rows[:, self.num_classes]

    def loss(
        self, params: Params, model_state: ModelState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], tuple[ModelState, Metrics]]:
        """The mean cross-entropy over the unmasked examples, with that of auxiliary logits."""
        images, labels, weights = self.prepare_weighted(batch, rng)
        sown = (_AUXILIARY,) if self.model.auxiliary_logits else ()
        logits, model_state = self.forward(
            params, model_state, images, jax.random.fold_in(rng, _DROPOUT), sown=sown
        )
        auxiliary = model_state.pop(_AUXILIARY, {})
        metrics = self.training_metrics(logits, labels, weights, batch)
        for name, factor in self._auxiliary_weights().items():
            own = self.training_metrics(auxiliary[name], labels, weights, batch)["loss"]
            total = metrics["loss"].total + factor * own.total
            metrics |= {"loss": metrics["loss"].replace(total=total), f"loss_{name}": own}
        return self.average(metrics["loss"]), (model_state, metrics)

    def evaluate(self, variables: Mapping[str, Any], batch: Batch) -> Metrics:
        """Cross-entropy without smoothing and mixing, accuracy and, from six classes on, top-5."""
        logits = self.logits(variables, batch)
        return self.metrics(logits, self.soft_labels(batch["label"]), batch["mask"])

    def final_metrics(self, variables: Mapping[str, Any], batch: Batch) -> Metrics:
        """The metrics of ``measures``."""
        labels = batch["label"]
        classes = labels if labels.ndim == 1 else jnp.argmax(labels, axis=-1)
        batch = {**batch, "label": classes}
        measures = self._measures()
        over_time = {name: measure for name, measure in measures.items() if measure.over_time}
        now = {name: measure for name, measure in measures.items() if not measure.over_time}
        return {
            **collect(now, lambda: self.predict(variables, batch), batch),
            **collect(over_time, lambda: self.logits_over_time(variables, batch), batch),
        }

    def predict(self, variables: Mapping[str, Any], batch: Batch) -> Float[Array, "batch classes"]:
        """Class probabilities: a softmax, or one sigmoid per class with that cross-entropy."""
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
        losses = self._cross_entropies(logits, labels)
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

    def training_metrics(
        self,
        logits: Float[Array, "batch classes"],
        labels: Float[Array, "batch classes"],
        weights: Float[Array, "batch"] | None,
        batch: Batch,
    ) -> Metrics:
        """`metrics` of a training batch; of the metrics, class weights change the loss alone.

        Args:
            logits: the outputs of the model.
            labels: as of `prepare_weighted`.
            weights: as of `prepare_weighted`.
            batch: as of `loss`.
        """
        counted = self._counted(batch)
        metrics = self.metrics(logits, labels, counted)
        classes = self.weights_of_classes
        if weights is not None and classes is not None:
            weights = weights.astype(jnp.result_type(logits, jnp.float32))
            if self.cross_entropy == "softmax":
                losses = self._cross_entropies(logits, (labels * classes).astype(logits.dtype))
            else:
                losses = weights * self._cross_entropies(logits, labels.astype(logits.dtype))
            losses = jnp.where(counted & (weights > 0), losses, 0)
            total = jnp.sum(losses.astype(weights.dtype))
            count = jnp.sum(jnp.where(counted, weights, 0))
            metrics["loss"] = Mean(total, count, higher_is_better=False, unit="nats")
        return metrics

    def _smoothed(self, labels: Array) -> tuple[Array, Array | None]:
        """The smoothed labels, and the weight of each label's classes before that, or None."""
        labels = self.soft_labels(labels)
        weights = self.weights_of_classes
        smoothed = optax.smooth_labels(labels, self.label_smoothing)
        return smoothed, None if weights is None else labels @ weights

    def _cross_entropies(
        self, logits: Float[Array, "batch classes"], labels: Float[Array, "batch classes"]
    ) -> Float[Array, "batch"]:
        if self.cross_entropy == "softmax":
            return optax.losses.softmax_cross_entropy(logits, labels)
        return optax.losses.sigmoid_binary_cross_entropy(logits, labels).sum(axis=-1)

    def _measures(self) -> dict[str, Measure]:
        where = "config.objective.measures"
        made = create_measures(
            self.measures,
            "class",
            where=where,
            num_classes=self.num_classes,
            time_steps=self.time_steps,
            entropy_threshold=self.entropy_threshold,
        )
        for name, measure in made.items():
            if measure.over_time and not self.time_steps:
                raise ConfigError(
                    f"{where}: {name!r} is for a recurrent network, such as bl_net, that is"
                    f" computed in each evaluation; this {type(self.model).__name__} has no logits"
                    " over time"
                )
        return made

    def _auxiliary_weights(self) -> dict[str, float]:
        """The weights of the auxiliary logits that count."""
        weights = {**self.model.auxiliary_logits, **(self.auxiliary_weight or {})}
        return {name: weight for name, weight in weights.items() if weight}

    def _counted(self, batch: Batch) -> Array:
        # A mixed example counts if both of its parts do.
        mask = batch["mask"]
        return mask & jnp.roll(mask, 1) if self.mixup or self.cutmix else mask
