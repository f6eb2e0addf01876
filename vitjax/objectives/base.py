"""The interface of a training method: how it updates the state by a batch, and what it measures."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from vitjax.core.errors import ConfigError
from vitjax.core.registry import Registry
from vitjax.core.validation import validate_fields
from vitjax.data.dataset import Dataset, Target
from vitjax.metrics import Collected, Mean, Measure, Metrics, over_axis
from vitjax.models.protocol import Model
from vitjax.objectives.batches import cut
from vitjax.objectives.state import TrainState, averaged
from vitjax.optim.optimizer import Optimizer, Optimizers

Params = Any
ModelState = dict[str, Any]
Batch = Mapping[str, Any]
Self = TypeVar("Self", bound="Objective")


@dataclasses.dataclass(frozen=True)
class Objective(abc.ABC):
    """A training method: pure functions of parameters, model state, a batch and a key.

    A subclass is a frozen dataclass, registered in `objectives`; its fields are the keys of the
    config's ``objective`` section, and their annotations are checked. The trainer fills in the
    fields ``model``, ``num_classes``, ``num_train_classes``, ``class_names``, ``class_counts``
    (a function that counts the training examples of each class), ``normalize``, ``target`` and
    ``devices``, if the subclass has them.

    A method with one loss and one optimizer defines `inputs`, `loss` and `evaluate`. A method with
    several networks, optimizers or an order of updates of its own defines `update` in place of
    `loss`.

        @objectives.register("regression")
        @dataclasses.dataclass(frozen=True)
        class Regression(Objective):
            targets = ("number",)

            def inputs(self, batch):
                return batch["image"][:1]

            def loss(self, params, model_state, batch, rng):
                outputs = self.model.apply({"params": params}, batch["image"], train=True)
                metrics = self._metrics(outputs, batch)
                return self.average(metrics["loss"]), (model_state, metrics)

            def evaluate(self, variables, batch):
                return self._metrics(self.model.apply(variables, batch["image"]), batch)

            def _metrics(self, outputs, batch):
                errors = jnp.mean((outputs - batch["label"]) ** 2, axis=-1)
                return {"loss": Mean.of(errors, batch["mask"], higher_is_better=False)}

    Attributes:
        task: the name of its `vitjax.training.task.Task`, which evaluates, predicts and draws
            figures. The default reports metrics; it has no predictions and no figures of examples.
        targets: the data it learns from: ``"class"`` (one class per image), ``"mask"`` (one class
            per pixel), ``"number"`` (floats), ...; None for any. The model then has no head, unless
            `model_outputs` returns a number.
        episodic: whether a batch is a batch of few-shot episodes.
        parameter_groups: entries of the parameters that have an optimizer each: the config's
            ``optimizer`` section then has one section per group, and ``schedule`` may have. Empty
            for one optimizer.
        own_collections: collections that the method keeps beside the model's, such as a replay
            buffer. Checkpoints and sharding treat them like any other; the moving average leaves
            them out.
        evaluation_fields: fields that only evaluations read; a run may be resumed with other
            values.
        model: the network.
        axis_name: the mapped axis under ``pmap``, else None; see `over_axis`.
    """

    task: ClassVar[str] = "generic"
    targets: ClassVar[tuple[Target, ...] | None] = None
    episodic: ClassVar[bool] = False
    parameter_groups: ClassVar[tuple[str, ...]] = ()
    own_collections: ClassVar[tuple[str, ...]] = ()
    evaluation_fields: ClassVar[tuple[str, ...]] = ()

    model: Model
    axis_name: str | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        validate_fields(self, "config.objective")

    @classmethod
    def check_section(cls, arguments: Mapping[str, Any]) -> None:
        """Checks, before data is read, what the annotations of the fields cannot say.

        Args:
            arguments: the config's ``objective`` section without its name; each value fits the
                annotation of its field.

        Raises:
            ConfigError: a value cannot be used with any data.
        """
        del arguments

    @property
    def compilation_hint(self) -> str:
        """What shortens a long compilation of the training step, in words; empty for nothing."""
        return ""

    # Variables.

    @abc.abstractmethod
    def inputs(self, batch: Batch) -> Any:
        """The model's inputs in ``batch``, or as many of them as determine the shapes."""

    def init_model(self, rng: PRNGKeyArray, batch: Batch) -> dict[str, Any]:
        """Fresh variables of the model, ``{"params": ..., ...}``, for inputs as in ``batch``."""
        variables: Any = jax.jit(self.model.init)(rng, self.inputs(batch))
        return dict(variables)

    def wrap(self, rng: PRNGKeyArray, variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        """The objective's variables, from the model's ``variables``, which are fresh or loaded.

        A method adds entries of its own to ``params`` or other collections here.
        """
        del rng, batch
        return dict(variables)

    def unwrap(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The model's variables, from those that `wrap` returned: what other programs can use."""
        return {k: v for k, v in variables.items() if k not in self.own_collections}

    def init(self, rng: PRNGKeyArray, batch: Batch) -> dict[str, Any]:
        """The initial variables: `wrap` of `init_model`."""
        return self.wrap(rng, self.init_model(rng, batch), batch)

    def check(
        self, variables: Mapping[str, Any], data: Dataset, trained: Any, *, fresh: bool
    ) -> None:
        """Checks, before training, that the parts of the run are compatible.

        Args:
            variables: the objective's variables, or their shapes.
            data: a `vitjax.data.Dataset`.
            trained: for each parameter, whether an optimizer changes it.
            fresh: whether the run starts from fresh parameters.

        Raises:
            ConfigError: they are not.
        """
        del variables, data, trained, fresh

    def check_training(self) -> None:  # noqa: B027 - nothing to check by default
        """Checks fields that only training reads; evaluations may be on other data.

        Raises:
            ConfigError: a field does not suit the data.
        """

    @classmethod
    def model_outputs(cls, data: Dataset) -> int | None:
        """The number of outputs that the model needs for ``data``; None for one without a head.

        By default the number of the data's classes; None if `targets` is None.
        """
        return None if cls.targets is None else data.num_classes

    @classmethod
    def fewest_outputs(cls, data: Dataset, arguments: Mapping[str, Any]) -> int | None:
        """The smallest ``num_classes`` of the model that is allowed.

        Args:
            data: a `vitjax.data.Dataset`.
            arguments: the config's ``objective`` section.
        """
        del arguments
        return cls.model_outputs(data)

    def layer_groups(self, names: Sequence[str], group: str | None = None) -> list[int]:
        """The layer of each parameter, for the optimizer's ``layer_decay``.

        The default knows the layers of ``model`` alone. A method with parameter groups overrides
        this for those that are networks with an order of layers, for example with
        ``return self.critic.layer_groups(names)``.

        Args:
            names: names of the parameters of one optimizer.
            group: the optimizer's group of parameters; None without groups.

        Raises:
            ConfigError: the layers have no order.
        """
        if group is None:
            return self.model.layer_groups(names)
        raise ConfigError(
            f"the parameters of the group {group!r} have no order of layers:"
            f" {type(self).__name__} declares no layer_groups"
        )

    # Training.

    def loss(
        self, params: Params, model_state: ModelState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], tuple[ModelState, Metrics]]:
        """The training loss of a batch, which `gradients` differentiates.

        A method that overrides `update` or `gradients` needs none.

        Args:
            params: the trained parameters.
            model_state: all other collections.
            batch: the examples of the step, or of one of its micro-batches.
            rng: the key of the step.

        Returns:
            The loss to differentiate, see `average`; the new ``model_state``; and the metrics,
            among them ``"loss"``, a `Mean` whose ``count`` is the weight of the batch: gradients of
            micro-batches are averaged by it.
        """
        raise NotImplementedError(f"{type(self).__name__}.loss")

    def at_step(self: Self, step: Any) -> Self:
        """This objective with the settings it has at ``step``, which may be a traced number."""
        del step
        return self

    def gradients(
        self, params: Params, model_state: ModelState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Params, tuple[ModelState, Metrics]]:
        """The gradient of `loss`, and its other outputs.

        A method with another gradient overrides this.
        """
        gradients, aux = jax.grad(self.loss, has_aux=True)(params, model_state, batch, rng)
        return gradients, aux

    def update(
        self, state: TrainState, batch: Batch, rng: PRNGKeyArray, optimizer: Optimizers
    ) -> tuple[TrainState, Metrics]:
        """One training step: by default one gradient of `loss` and one update of the optimizer.

        A method with several losses, networks or optimizers overrides this; one with
        `parameter_groups` must. It may change all fields of the state except ``step``, ``rng`` and
        ``ema``: the trainer counts the step and updates the moving average afterwards.

        Under ``pmap`` each device runs this on its own part of the batch, and keeps its own copy of
        the state. The copies stay equal only if everything that enters the new state is: pass
        gradients and other values that are computed from ``batch`` or ``rng`` through
        `mean_over_devices`, and the metrics through `vitjax.metrics.over_axis`. In other modes both
        return their argument.

        Args:
            state: the state before the step.
            batch: the examples of the step.
            rng: the key of the step, different on each device under ``pmap``.
            optimizer: the optimizer; with `parameter_groups` one per group.

        Returns:
            The new state, and the metrics: ``"loss"`` is required, and the default adds
            ``"grad_norm"``.
        """
        assert isinstance(optimizer, Optimizer), "parameter_groups without an update"
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
        """Gradients, model state and metrics of a batch, over all micro-batches and devices.

        Args:
            params: the parameters.
            model_state: all other collections.
            batch: cut into ``steps`` micro-batches, which are computed one after the other.
                Gradients are averaged by the weight of each micro-batch, so the result is that of
                the complete batch for every model without batch statistics.
            rng: the key of the step.
            steps: the number of micro-batches.
        """
        if steps == 1:
            gradients, (model_state, metrics) = self.gradients(params, model_state, batch, rng)
        else:

            def micro_step(carry: Any, inputs: Any) -> tuple[Any, Any]:
                model_state, gradients = carry
                index, micro_batch = inputs
                new, (model_state, metrics) = self.gradients(
                    params, model_state, micro_batch, jax.random.fold_in(rng, index)
                )
                weight = self.sum_over_devices(metrics["loss"].count)
                gradients = jax.tree.map(
                    lambda g, n: g + n * weight.astype(n.dtype), gradients, new
                )
                return (model_state, gradients), metrics

            micro_batches = jax.tree.map(lambda x: cut(x, steps), dict(batch))
            first = jax.tree.map(lambda x: x[0], micro_batches)
            shapes, _ = jax.eval_shape(self.gradients, params, model_state, first, rng)
            gradients = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
            (model_state, gradients), parts = jax.lax.scan(
                micro_step, (model_state, gradients), (jnp.arange(steps), micro_batches)
            )
            metrics = {name: metric.over_micro_batches() for name, metric in parts.items()}
            weight = self.sum_over_devices(metrics["loss"].count)
            scale = jnp.where(weight > 0, 1 / jnp.maximum(weight, 1e-30), 0)
            gradients = jax.tree.map(lambda g: g * scale.astype(g.dtype), gradients)
        # Frozen arrays are left out: a mean of equal numbers may differ from them by rounding.
        moving = averaged(model_state, self.own_collections)
        gradients, moving = self.mean_over_devices((gradients, moving))
        return gradients, {**model_state, **moving}, over_axis(metrics, self.axis_name)

    # Evaluation.

    @abc.abstractmethod
    def evaluate(self, variables: Mapping[str, Any], batch: Batch) -> Metrics:
        """The metrics of one batch in evaluation, among them ``"loss"``.

        Examples whose ``mask`` is False, such as padding, do not count. Tracing this function tells
        the direction and the unit of each metric, see `vitjax.metrics.Declaration`.
        """

    def final_metrics(self, variables: Mapping[str, Any], batch: Batch) -> Metrics:
        """Metrics that only the end of a run and ``vitjax evaluate`` compute."""
        del variables, batch
        return {}

    # Devices.

    def average(self, mean: Mean) -> Float[Array, ""]:
        """``mean`` as a loss to differentiate: its total divided by the mean weight of a device.

        Under ``pmap`` the mean of the devices' losses is then the loss of the complete batch,
        whatever fraction of it each device holds. This has to happen before differentiation: batch
        statistics over the axis carry the gradient of each device to the others.
        """
        return Mean(mean.total, self.mean_over_devices(mean.count)).value()

    def mean_over_devices(self, tree: Any) -> Any:
        """The mean over the devices under ``pmap``; ``tree`` itself elsewhere."""
        return tree if self.axis_name is None else jax.lax.pmean(tree, self.axis_name)

    def sum_over_devices(self, tree: Any) -> Any:
        """The sum over the devices under ``pmap``; ``tree`` itself elsewhere."""
        return tree if self.axis_name is None else jax.lax.psum(tree, self.axis_name)

    def over_axis(self: Self, axis_name: str) -> Self:
        """This objective under ``pmap``: batch statistics and weights are those of all devices.

        The default replaces ``model``. An objective with further networks that have batch
        statistics overrides this, and replaces those as well.
        """
        return dataclasses.replace(self, model=self.model.over_axis(axis_name), axis_name=axis_name)


def collect(measures: Mapping[str, Measure], outputs: Callable[[], Any], batch: Batch) -> Metrics:
    """The metrics of ``measures``; ``outputs`` is called only if there are any."""
    if not measures:
        return {}
    found = outputs()
    return {
        name: Collected(measure.collect(found, batch), batch["mask"], measure)
        for name, measure in measures.items()
    }


objectives: Registry[type[Objective]] = Registry(
    "objective", providers=("vitjax.objectives", "vitjax.meta")
)
