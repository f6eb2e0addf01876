"""What few-shot methods have to beat: ordinary training on all classes, and little afterwards."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Num, PRNGKeyArray

from vitjax.core.errors import ConfigError
from vitjax.core.names import matches
from vitjax.core.validation import check_choice
from vitjax.meta import parameters
from vitjax.meta.episodic import MODES, Episodic, Task
from vitjax.meta.gradient_based import GradientBased, Learner
from vitjax.meta.network import Network
from vitjax.meta.parameters import Leaves
from vitjax.meta.prototypical import PrototypeBased, unit
from vitjax.metrics.mean import Mean, Metrics
from vitjax.models.protocol import Model
from vitjax.objectives.base import Batch, ModelState, Objective, Params, objectives

TRANSFORMS = ("none", "l2", "center_l2")

_CENTER = "feature_mean"
# Share of the feature mean that a training step keeps.
_KEEP = 0.99

Self = TypeVar("Self", bound="Supervised")


@dataclasses.dataclass(frozen=True)
class Supervised(Episodic):
    """Training as if there were no episodes: one forward pass over all examples of a batch.

    Of a classification, the head has an output for each of the training classes (a quarter turn
    of a class being another class, where the data turns them); the loss is the cross-entropy of
    support and query images alike. Of a regression, the loss is the squared error over the points
    of all tasks, so the model learns the tasks' mean.

    Attributes:
        num_train_classes: how many training classes there are.
    """

    num_train_classes: int = dataclasses.field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task == "regression":
            return
        given = getattr(self.model, "num_classes", None) or 0
        if given == 0:
            model = self.model.clone(num_classes=self.num_train_classes)
            object.__setattr__(self, "model", model)
        elif given < self.num_train_classes:
            raise ConfigError(
                f"config.model.num_classes is {given}; the data has {self.num_train_classes}"
                " training classes, and this objective gives the model a head for them itself"
            )

    @classmethod
    def model_outputs(cls, data: Any) -> int | None:
        """None for a classification, whose head the objective makes."""
        if data.target == "class":
            return None
        return super().model_outputs(data)

    def forward(
        self,
        params: Params,
        model_state: ModelState,
        inputs: Num[Array, "examples *shape"],
        weights: Float[Array, "examples"],
        rng: PRNGKeyArray,
    ) -> tuple[Float[Array, "examples outputs"], ModelState]:
        """The outputs in training, and the state after them."""
        del weights
        network = Network(self.model, self.normalize, self.task == "regression")
        return network.apply(params["model"], model_state, inputs, train=True, rng=rng)

    def loss(
        self, params: Params, model_state: ModelState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], tuple[ModelState, Metrics]]:
        """The mean loss over all examples of all tasks."""
        inputs, targets, weights = self.examples(batch)
        outputs, model_state = self.forward(params, model_state, inputs, weights, rng)
        network = self.network
        metrics = {"loss": Mean.of(network.losses(outputs, targets), weights)}
        if not network.regression:
            metrics["accuracy"] = Mean.of(network.correct(outputs, targets), weights)
        return self.average(metrics["loss"]), (model_state, metrics)

    def gradients(
        self, params: Params, model_state: ModelState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Params, tuple[ModelState, Metrics]]:
        """The gradient of `loss`."""
        return Objective.gradients(self, params, model_state, batch, rng)

    def task_loss(
        self, params: Params, model_state: ModelState, task: Task, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], tuple[ModelState, Metrics]]:
        """`loss` of a batch of this task alone."""
        batch = jax.tree.map(lambda x: x[None], dict(task))
        return self.loss(params, model_state, {**batch, "mask": jnp.ones(1, bool)}, rng)

    def examples(
        self, batch: Batch
    ) -> tuple[Num[Array, "examples *shape"], Num[Array, "examples ..."], Float[Array, "examples"]]:
        """Inputs, targets (global class numbers, or numbers) and weights of all tasks in a row."""
        target = "target" if self.task == "regression" else "class"
        keys = ("input", target, "mask")

        def row(key: str) -> Array:
            both = jnp.concatenate([batch["support"][key], batch["query"][key]], axis=1)
            if key == "mask":
                both = both & batch["mask"][:, None]
            return both.reshape(-1, *both.shape[2:])

        inputs, targets, mask = (row(key) for key in keys)
        return inputs, targets, mask.astype(jnp.float32)

    def over_axis(self: Self, axis_name: str) -> Self:
        """Under ``pmap`` batch statistics are those of all tasks of all devices."""
        return dataclasses.replace(Objective.over_axis(self, axis_name), devices=1)


@objectives.register("nearest_centroid")
@dataclasses.dataclass(frozen=True)
class NearestCentroid(Supervised, PrototypeBased):
    """Ordinary classification, then the nearest class mean: SimpleShot, arXiv:1911.04623, Sec. 2.

    Wang et al. 2019. What is compared is what the head reads.

    Attributes:
        transform_features: ``"none"`` (the paper's UN), ``"l2"`` for features of length one (L2N),
            or ``"center_l2"`` to take the mean feature of the training images away before (CL2N):
            a moving average over the last hundred or so steps, in the model state.
    """

    joint: bool = False
    transform_features: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("objective.transform_features", self.transform_features, TRANSFORMS)

    @property
    def network(self) -> Network:
        """The model without its head."""
        network = super().network
        return dataclasses.replace(network, model=network.model.clone(num_classes=None))

    def wrap(self, rng: PRNGKeyArray, variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        """As for any few-shot objective, and the mean feature where it is wanted."""
        variables = super().wrap(rng, variables, batch)
        if self.transform_features != "center_l2":
            return variables
        kernel = parameters.flatten(variables["params"]["model"])["head/kernel"]
        center = {"total": jnp.zeros(len(kernel), kernel.dtype), "weight": jnp.zeros(())}
        return {**variables, _CENTER: center}

    def unwrap(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The model's own variables."""
        return super().unwrap({k: tree for k, tree in variables.items() if k != _CENTER})

    def forward(
        self,
        params: Params,
        model_state: ModelState,
        inputs: Num[Array, "examples *shape"],
        weights: Float[Array, "examples"],
        rng: PRNGKeyArray,
    ) -> tuple[Float[Array, "examples outputs"], ModelState]:
        """The outputs in training, and the state after them."""
        if self.transform_features != "center_l2":
            return super().forward(params, model_state, inputs, weights, rng)
        body, state = self.body(params, model_state)
        network = Network(self.model.clone(num_classes=None), self.normalize, regression=False)
        features, state = network.apply(body, state, inputs, train=True, rng=rng)
        head, old = params["model"]["head"], model_state[_CENTER]
        mean = weights @ jax.lax.stop_gradient(features) / jnp.maximum(jnp.sum(weights), 1)
        center = {
            "total": (_KEEP * old["total"] + mean).astype(old["total"].dtype),
            "weight": _KEEP * old["weight"] + 1,
        }
        return features @ head["kernel"] + head["bias"], {**state, _CENTER: center}

    def body(self, params: Params, model_state: ModelState) -> tuple[Any, ModelState]:
        """All parameters but the head's."""
        _, rest = parameters.partition(
            parameters.flatten(params["model"]), (parameters.HEAD,), fixed=()
        )
        state = {name: tree for name, tree in model_state.items() if name != _CENTER}
        return parameters.unflatten(rest), state

    def transform(
        self, features: Float[Array, "examples width"], model_state: ModelState
    ) -> Float[Array, "examples width"]:
        """As ``transform_features`` says."""
        if self.transform_features == "none":
            return features
        if self.transform_features == "center_l2":
            center = model_state[_CENTER]
            features = features - center["total"] / jnp.maximum(center["weight"], 1)
        return unit(features)


class _Head(Model):
    """The last layer alone: of the features that the rest of a model gives."""

    outputs: int

    @nn.compact
    def __call__(self, features: Array, train: bool = False) -> Array:
        return nn.Dense(
            self.outputs, name="head", dtype=features.dtype, param_dtype=features.dtype
        )(features)


@objectives.register("fine_tuning")
@dataclasses.dataclass(frozen=True)
class FineTuning(Supervised, GradientBased):
    """Ordinary training, then gradient descent on an episode's support set.

    Of a classification, a new head of zeros is trained on the features (the "Baseline" of Chen et
    al. 2019, arXiv:1904.04232, Sec. 3.2). Of a regression, all of the model is (the baseline
    pretrained on all tasks of Finn et al. 2017, arXiv:1703.03400, Sec. 5.1).

    While the head alone is adapted, images go through the rest of the model once; in inductive
    evaluation support images then are normalised by what normalises queries.

    Attributes:
        adapted: as for any method of gradient descent; where empty, the head of a classification
            and all of a regression.
    """

    test_steps: int | None = 100
    adapted: Sequence[str] = ()
    inductive_statistics: str = "running"
    # There is no inner loop in training.
    inner_steps: int = dataclasses.field(default=1, init=False)
    head: str = dataclasses.field(default="learned", init=False)
    remat: bool = dataclasses.field(default=False, init=False)
    unroll: int | bool = dataclasses.field(default=1, init=False)
    first_order: bool = dataclasses.field(default=True, init=False)

    def __post_init__(self) -> None:
        if not self.adapted:
            default = (r"",) if self.task == "regression" else (parameters.HEAD,)
            object.__setattr__(self, "adapted", default)
        super().__post_init__()
        if self.test_steps is None:
            raise ConfigError("objective.test_steps is None; there are no steps to go by")

    @property
    def network(self) -> Network:
        """The model as episodes adapt it: with a head for their own classes."""
        model = self.model.for_inner_loops()
        if self.task != "regression":
            model = model.clone(num_classes=self.num_classes)
        return Network(model, self.normalize, self.task == "regression")

    def start(self, name: str, leaf: Any) -> Any:
        """Zeros for the head of a classification."""
        if self.task == "regression" or not matches(name, (parameters.HEAD,)):
            return leaf
        return jnp.zeros((*leaf.shape[:-1], self.num_classes), leaf.dtype)

    def observe_task(
        self,
        params: Params,
        model_state: ModelState,
        task: Task,
        see: Callable[[Learner, Leaves, Any], Any],
    ) -> Any:
        """What ``see`` gives before the first of ``test_steps`` updates and after each, stacked."""
        leaves = parameters.flatten(params["model"])
        moving, _ = parameters.partition(leaves, self.adapted, self.fixed)
        head, body = parameters.partition(leaves, (r"^head/(kernel|bias)$",), ())
        if not moving or not head or not set(moving) <= set(head):
            return super().observe_task(params, model_state, task, see)
        observed = {}
        for mode in MODES if model_state else MODES[:1]:
            features = self._features(parameters.unflatten(body), model_state, task, mode)
            network = Network(
                _Head(self.num_classes), lambda inputs: inputs, self.task == "regression"
            )
            learner = Learner(self, network, {"model": parameters.unflatten(head)}, {}, features)
            _, history = learner.adapt(
                int(self.test_steps or 0), observe=functools.partial(see, learner)
            )
            observed[mode] = history.observed[mode]
        return {mode: observed.get(mode, observed[MODES[0]]) for mode in MODES}

    def _features(self, body: Any, state: ModelState, task: Task, mode: str) -> Task:
        """``task`` with what the head reads in place of its inputs."""
        network = self.network.without_regularisers()
        network = dataclasses.replace(network, model=network.model.clone(num_classes=None))
        train = mode == "transductive"
        if not train:
            inputs, how = task["support"]["input"], self.inductive_statistics
            state = network.inductive_state(body, state, inputs, how)
        return {
            part: {
                **task[part],
                "input": network.apply(body, state, task[part]["input"], train=train)[0],
            }
            for part in ("support", "query")
        }
