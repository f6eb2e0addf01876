"""What the trainer knows of a method: how it updates a state by a batch, and what it measures."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from vitjax.core.registry import Registry
from vitjax.metrics import Collected, Mean, Measure, Metrics, over_axis
from vitjax.models.protocol import Model
from vitjax.objectives.batches import cut
from vitjax.objectives.state import TrainState, averaged
from vitjax.optim.optimizer import Optimizer, Optimizers

Params = Any
ModelState = dict[str, Any]
Batch = Mapping[str, Any]
Self = TypeVar("Self", bound="Objective")
Target = Literal["class", "mask", "number"]


@dataclasses.dataclass(frozen=True)
class Objective(abc.ABC):
    """A training method: pure functions of parameters, model state, a batch and a key.

    A subclass is a frozen dataclass; its fields are the keys of the config's ``objective`` section.
    The trainer fills in the fields ``model``, ``num_classes``, ``num_train_classes``,
    ``normalize``, ``target`` and ``devices``, as far as the subclass has them.

    `loss` and `evaluate` are enough for a method of one loss and one optimizer. A method of several
    networks or with its own order of updates overrides `update`.

    Attributes:
        task: the name of its `vitjax.training.task.Task`: evaluation, prediction and figures. The
            default reports metrics, and has neither predictions nor figures of examples.
        targets: the data that it learns from: ``"class"`` (one class per image), ``"mask"`` (a
            class per pixel), ``"number"``; None for any.
        episodic: whether a batch is a batch of few-shot episodes.
        parameter_groups: entries of the parameters that have an optimizer each: the config's
            ``optimizer`` section then has one section per group, and ``schedule`` may have. Empty
            for one optimizer.
        own_collections: collections that the method keeps beside the model's, such as a replay
            buffer. Checkpoints and sharding treat them like any other, the moving average leaves
            them out.
        caches_features: whether training runs on features that are computed once, before the first
            step; such an objective has a method ``features(variables, images)``.
        model: the network.
        axis_name: under ``pmap`` the mapped axis, else None; see `over_axis`.
    """

    task: ClassVar[str] = "generic"
    targets: ClassVar[tuple[Target, ...] | None] = None
    episodic: ClassVar[bool] = False
    parameter_groups: ClassVar[tuple[str, ...]] = ()
    own_collections: ClassVar[tuple[str, ...]] = ()

    model: Model
    axis_name: str | None = dataclasses.field(default=None, kw_only=True)

    @property
    def caches_features(self) -> bool:
        """Whether training runs on features that are computed once."""
        return False

    # Variables.

    @abc.abstractmethod
    def inputs(self, batch: Batch) -> Any:
        """What the model receives of ``batch``, or as much of it as determines shapes."""

    def init_model(self, rng: PRNGKeyArray, batch: Batch) -> dict[str, Any]:
        """The model's fresh variables, ``{"params": ..., ...}``, for inputs as in ``batch``."""
        variables: Any = jax.jit(self.model.init)(rng, self.inputs(batch))
        return dict(variables)

    def wrap(self, rng: PRNGKeyArray, variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        """What is trained and kept, around the model's ``variables``, fresh or loaded."""
        del rng, batch
        return dict(variables)

    def unwrap(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The model's own variables within what `wrap` returned: what other programs can use."""
        return {k: v for k, v in variables.items() if k not in self.own_collections}

    def init(self, rng: PRNGKeyArray, batch: Batch) -> dict[str, Any]:
        """The initial variables: `wrap` around `init_model`."""
        return self.wrap(rng, self.init_model(rng, batch), batch)

    def check(self, variables: Mapping[str, Any], data: Any, trained: Any, *, fresh: bool) -> None:
        """Checks, before training, that the parts of the run go together.

        Args:
            variables: the objective's variables, or their shapes.
            data: a `vitjax.data.Dataset`.
            trained: for each parameter, whether an optimizer changes it.
            fresh: whether the run starts from fresh parameters.

        Raises:
            ConfigError: they do not.
        """
        del variables, data, trained, fresh

    @classmethod
    def model_outputs(cls, data: Any) -> int | None:
        """The number of outputs that the model needs for ``data``; None for one without a head."""
        outputs: int = data.num_classes
        return outputs

    @classmethod
    def fewest_outputs(cls, data: Any, arguments: Mapping[str, Any]) -> int | None:
        """The fewest outputs that a config, whose section is ``arguments``, may ask for."""
        del arguments
        return cls.model_outputs(data)

    # Training.

    @abc.abstractmethod
    def loss(
        self, params: Params, model_state: ModelState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], tuple[ModelState, Metrics]]:
        """The training loss, and ``(new model_state, metrics)``.

        The metrics hold ``"loss"``, a `Mean` whose ``count`` is the weight of the batch: gradients
        of micro-batches are averaged by it.
        """

    def at_step(self: Self, step: Any) -> Self:
        """This objective as it is at step ``step``, which may be traced."""
        del step
        return self

    def gradients(
        self, params: Params, model_state: ModelState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Params, tuple[ModelState, Metrics]]:
        """The gradient of `loss`; a method with a gradient of its own overrides this.

        The FLOPs of a step are counted in it.
        """
        gradients, aux = jax.grad(self.loss, has_aux=True)(params, model_state, batch, rng)
        return gradients, aux

    def update(
        self, state: TrainState, batch: Batch, rng: PRNGKeyArray, optimizer: Optimizers
    ) -> tuple[TrainState, Metrics]:
        """One training step: by default one gradient of `loss` and one optimizer's update.

        The trainer counts the step and updates the moving average afterwards. A method with several
        losses, networks or optimizers overrides this, and may change any field but ``step``,
        ``rng`` and ``ema``.

        Args:
            state: before the step.
            batch: what the step sees.
            rng: the key of the step, different on each device under ``pmap``.
            optimizer: the optimizer; with `parameter_groups` one per group.

        Returns:
            The new state and the metrics, ``"loss"`` and ``"grad_norm"`` among them by default;
            ``"loss"`` is required.
        """
        assert isinstance(optimizer, Optimizer)
        gradients, model_state, metrics = self.accumulate(
            state.params, state.model_state, batch, rng, optimizer.accumulation_steps
        )
        params, opt_state, norm = optimizer.apply(
            gradients, state.opt_state, state.params, value=metrics["loss"].value()
        )
        metrics["grad_norm"] = Mean(norm, jnp.ones(()))
        return state.replace(params=params, model_state=model_state, opt_state=opt_state), metrics

    def accumulate(
        self, params: Params, model_state: ModelState, batch: Batch, rng: PRNGKeyArray, steps: int
    ) -> tuple[Params, ModelState, dict[str, Any]]:
        """`gradients`, model state and metrics of a batch, over micro-batches and devices.

        Args:
            params: the parameters.
            model_state: all other collections.
            batch: it is cut into ``steps`` micro-batches, computed one after the other. Gradients
                are averaged by each micro-batch's weight, so the result is that of the complete
                batch for any model without batch statistics.
            rng: the key of the step.
            steps: the number of micro-batches.
        """
        if steps == 1:
            gradients, (model_state, metrics) = self.gradients(params, model_state, batch, rng)
        else:

            def micro_step(carry: Any, inputs: Any) -> tuple[Any, Any]:
                model_state, gradients, sums = carry
                index, micro_batch = inputs
                new, (model_state, metrics) = self.gradients(
                    params, model_state, micro_batch, jax.random.fold_in(rng, index)
                )
                collected, new_sums = _divided(metrics)
                weight = self.sum_over_devices(new_sums["loss"].count)
                gradients = jax.tree.map(
                    lambda g, n: g + n * weight.astype(n.dtype), gradients, new
                )
                return (model_state, gradients, jax.tree.map(jnp.add, sums, new_sums)), collected

            micro_batches = jax.tree.map(lambda x: cut(x, steps), dict(batch))
            first = jax.tree.map(lambda x: x[0], micro_batches)
            shapes = jax.eval_shape(self.gradients, params, model_state, first, rng)
            gradients, (_, metrics) = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
            (model_state, gradients, sums), collected = jax.lax.scan(
                micro_step,
                (model_state, gradients, _divided(metrics)[1]),
                (jnp.arange(steps), micro_batches),
            )
            metrics = {**sums, **jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), collected)}
            weight = self.sum_over_devices(metrics["loss"].count)
            scale = jnp.where(weight > 0, 1 / jnp.maximum(weight, 1e-30), 0)
            gradients = jax.tree.map(lambda g: g * scale.astype(g.dtype), gradients)
        # What is frozen is equal everywhere, and a mean of equal numbers may differ by rounding.
        moving = averaged(model_state, self.own_collections)
        gradients, moving = self.mean_over_devices((gradients, moving))
        return gradients, {**model_state, **moving}, over_axis(metrics, self.axis_name)

    # Evaluation.

    @abc.abstractmethod
    def evaluate(self, variables: Mapping[str, Any], batch: Batch) -> Metrics:
        """The metrics of one batch, ``"loss"`` among them.

        Examples with ``mask`` False, such as padding, count nothing.
        """

    def final_metrics(self, variables: Mapping[str, Any], batch: Batch) -> Metrics:
        """Further metrics, for the end of a run and ``vitjax evaluate`` alone."""
        del variables, batch
        return {}

    # Devices.

    def average(self, mean: Mean) -> Float[Array, ""]:
        """``mean`` as a loss to differentiate: its sum over the devices' average weight.

        Under ``pmap`` the devices' losses then average to the loss of the complete batch, whatever
        fraction of it each device holds. That has to happen before differentiation: batch
        statistics over the axis carry each device's gradient to the others.
        """
        return Mean(mean.total, self.mean_over_devices(mean.count)).value()

    def mean_over_devices(self, tree: Any) -> Any:
        """The mean over the mapped axis under ``pmap``; elsewhere ``tree`` itself."""
        return tree if self.axis_name is None else jax.lax.pmean(tree, self.axis_name)

    def sum_over_devices(self, tree: Any) -> Any:
        """The sum over the mapped axis under ``pmap``; elsewhere ``tree`` itself."""
        return tree if self.axis_name is None else jax.lax.psum(tree, self.axis_name)

    def over_axis(self: Self, axis_name: str) -> Self:
        """This objective under ``pmap``: batch statistics and weights are those of the axis."""
        return dataclasses.replace(self, model=self.model.over_axis(axis_name), axis_name=axis_name)


def collect(
    measures: Mapping[str, Measure],
    probabilities: Callable[[], Array],
    labels: Array,
    mask: Array,
) -> Metrics:
    """The metrics of ``measures``; probabilities are computed where there is one."""
    if not measures:
        return {}
    likely = probabilities()
    return {
        name: Collected(measure.collect(likely, labels), mask, measure)
        for name, measure in measures.items()
    }


def _divided(metrics: Metrics) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics that gather examples, and those that are sums."""
    collected = {name: m for name, m in metrics.items() if isinstance(m, Collected)}
    return collected, {name: m for name, m in metrics.items() if name not in collected}


objectives: Registry[type[Objective]] = Registry(
    "objective", providers=("vitjax.objectives", "vitjax.meta")
)
