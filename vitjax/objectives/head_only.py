"""Transfer by training the head alone; the rest of the network is frozen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxtyping import Array, Float, PRNGKeyArray

from vitjax.core.errors import ConfigError
from vitjax.data.dataset import Dataset
from vitjax.metrics import Metrics
from vitjax.objectives.base import Batch, ModelState, Params, objectives
from vitjax.objectives.classification import Classification
from vitjax.objectives.state import FROZEN


@objectives.register("head_only")
@dataclasses.dataclass(frozen=True)
class HeadOnly(Classification):
    """Classifies images by a head that is trained on a frozen network.

    The network stays in evaluation mode: dropout is off, and batch normalisation uses its running
    statistics without changing them. An image therefore has the same features in every epoch. With
    ``cache_features`` they are computed once, before the first step; batches then hold ``features``
    (batch, width) instead of ``image``. Evaluation accepts either. Auxiliary heads are not trained.

    Attributes:
        cache_features: False computes the features in every step, from images that are augmented
            and mixed differently each time.

    The other attributes are those of `Classification`.
    """

    cache_features: bool = dataclasses.field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.auxiliary_weight is not None:
            raise ConfigError(
                "config.objective.auxiliary_weight: the objective 'head_only' trains the main head"
                " alone; auxiliary_weight is for the objective 'classification'"
            )
        for name in ("lora", "frozen_statistics"):
            if getattr(self, name) is not None:
                raise ConfigError(
                    f"config.objective.{name}: the objective 'head_only' already freezes all but"
                    f" the head; {name} is for the objective 'classification'"
                )
        if self.cache_features and (self.mixup or self.cutmix):
            raise ConfigError(
                f"config.objective.{'mixup' if self.mixup else 'cutmix'} mixes images in each step,"
                " but their features are computed once; remove it, or set"
                " config.objective.cache_features = False to compute features in each step"
            )

    def wrap(self, rng: PRNGKeyArray, variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        """The head as ``params``, and the rest of the model under `FROZEN`.

        Raises:
            ConfigError: the model does not have exactly one head.
        """
        del rng, batch
        heads, rest = self.model.split_head(variables["params"])
        head = self.model.main_head(heads)
        if len(head) != 1:
            raise ConfigError(
                "config.objective 'head_only' trains one head, and the model"
                f" {type(self.model).__name__} has {len(head) or 'none'} (its entries:"
                f" {', '.join(variables['params'])})"
            )
        auxiliary = {name: tree for name, tree in heads.items() if name not in head}
        return {"params": head, FROZEN: {**variables, "params": {**rest, **auxiliary}}}

    def unwrap(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The variables of the complete network."""
        frozen = variables[FROZEN]
        return {**frozen, "params": {**frozen["params"], **variables["params"]}}

    def check(
        self, variables: Mapping[str, Any], data: Dataset, trained: Any, *, fresh: bool
    ) -> None:
        """Checks that the network is pretrained, and that its features do not change.

        Raises:
            ConfigError: the network would be random; or features are computed once although images
                are augmented.
        """
        super().check(variables, data, trained, fresh=fresh)
        if fresh:
            raise ConfigError(
                "config.objective 'head_only' trains a head on a pretrained network, but this"
                " network would be random; set config.init.from_checkpoint to its weights"
            )
        if self.cache_features and data.augments:
            raise ConfigError(
                "config.data.train_transforms: the objective 'head_only' computes the features of"
                " each image once, as in evaluation, but training would augment images. Set it to"
                " the value of eval_transforms, or set config.objective.cache_features = False to"
                " compute features in every step"
            )

    @property
    def caches_features(self) -> bool:
        """The field ``cache_features``."""
        return self.cache_features

    def features(
        self, variables: Mapping[str, Any], images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch width"]:
        """The inputs of the head for normalised images."""
        features: Any = self.model.headless().apply(variables[FROZEN], images, train=False)
        return features

    def loss(
        self, params: Params, model_state: ModelState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], tuple[ModelState, Metrics]]:
        """The mean cross-entropy over the unmasked examples of the batch."""
        if "features" in batch:
            features = batch["features"]
            labels, weights = self._smoothed(batch["label"])
        else:
            images, labels, weights = self.prepare_weighted(batch, rng)
            features = self.features(model_state, images)
        metrics = self.training_metrics(self._head(params, features), labels, weights, batch)
        return self.average(metrics["loss"]), (model_state, metrics)

    def logits(self, variables: Mapping[str, Any], batch: Batch) -> Float[Array, "batch classes"]:
        """The outputs of the network in evaluation, for a batch of features or images."""
        if "features" in batch:
            return self._head(variables["params"], batch["features"])
        return super().logits(variables, batch)

    def _head(
        self, params: Mapping[str, Any], features: Float[Array, "batch width"]
    ) -> Float[Array, "batch classes"]:
        logits: Any = self.model.only_head(params).apply({"params": params}, features)
        return logits
