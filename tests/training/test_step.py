import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct
from small_classifiers import batch, objective

from vitjax.metrics import (
    CalibrationError,
    Collected,
    Declaration,
    Metric,
    PerClass,
    merge,
    numbers,
    values,
)
from vitjax.objectives import Classification
from vitjax.objectives.state import TrainState
from vitjax.optim.optimizer import Optimizer
from vitjax.training.step import make_evaluate_step, make_gather_step, make_train_step


def plain(transformation, **arguments):
    return Optimizer(optax.with_extra_args_support(transformation), **arguments)


def start(task, optimizer, ema=False, examples=None):
    variables = task.init(jax.random.key(0), examples or batch())
    return TrainState.create(variables, optimizer.init(variables["params"]), seed=3, ema=ema)


def run(task, optimizer, batches, ema=False, **arguments):
    state = start(task, optimizer, ema=ema)
    step = jax.jit(make_train_step(task, optimizer, **arguments))
    for examples in batches:
        state, metrics = step(state, examples)
    return state, metrics


@pytest.mark.parametrize("pieces", [2, 4])
def test_accumulation_is_the_large_batch_in_float64(pieces):
    with jax.enable_x64(True):
        task, optimizer = objective("float64"), plain(optax.adam(1e-2))
        # Masked examples make the micro-batches weigh differently.
        batches = [batch(16, seed, masked=3) for seed in range(5)]
        whole, whole_metrics = run(task, optimizer, batches)
        cut, cut_metrics = run(task, plain(optax.adam(1e-2), accumulation_steps=pieces), batches)
        for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(cut), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
        assert whole.params["Dense_0"]["kernel"].dtype == jnp.float64
        for name, value in numbers(whole_metrics).items():
            assert numbers(cut_metrics)[name] == pytest.approx(value, rel=1e-6)


@struct.dataclass
class Largest(Metric):
    """The largest of the values: it is no sum."""

    largest: jax.Array

    def merge(self, *others):
        return Largest(np.maximum.reduce([each.largest for each in (self, *others)]))

    def over_axis(self, axis_name):
        return Largest(jax.lax.pmax(self.largest, axis_name))

    def over_micro_batches(self):
        return Largest(jnp.max(self.largest, axis=0))

    def compute(self):
        return float(self.largest)

    def declarations(self, name):
        return {name: Declaration(None)}


@dataclasses.dataclass(frozen=True)
class Measured(Classification):
    """Reports a metric of each kind in training."""

    def metrics(self, logits, labels, weights):
        measure = CalibrationError()
        confidence = jnp.max(jax.nn.softmax(logits), axis=-1)
        classes = jnp.argmax(labels, axis=-1)
        hits = labels * (jnp.argmax(logits, axis=-1) == classes)[:, None]
        return {
            **super().metrics(logits, labels, weights),
            "largest": Largest(jnp.max(jnp.where(weights > 0, confidence, -jnp.inf))),
            "recall": PerClass(weights @ hits, weights @ labels),
            "error": Collected(
                measure.collect(jax.nn.softmax(logits), {"label": classes}), weights > 0, measure
            ),
        }


def test_accumulation_merges_every_kind_of_metric():
    task = Measured(**{f.name: getattr(objective(), f.name) for f in dataclasses.fields(Measured)})
    _, expected = run(task, plain(optax.sgd(0.1)), [batch(16, masked=3)])
    _, found = run(task, plain(optax.sgd(0.1), accumulation_steps=4), [batch(16, masked=3)])
    expected, found = (values(jax.device_get(each)) for each in (expected, found))
    assert found.keys() == expected.keys()
    assert {"largest", "recall_per_class", "error"} <= found.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


def test_masked_examples_change_nothing():
    task, optimizer = objective(), plain(optax.sgd(0.1))
    first, other = batch(16, masked=4), batch(16, masked=4)
    other["image"] = np.where(other["mask"][:, None, None, None], other["image"], np.nan)
    other["image"] = np.nan_to_num(other["image"], nan=1e3)
    a, b = run(task, optimizer, [first])[0], run(task, optimizer, [other])[0]
    for left, right in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-7)


def test_randomness_comes_from_seed_and_step_alone():
    task, optimizer = objective(dropout=0.5), plain(optax.sgd(0.1))
    step = jax.jit(make_train_step(task, optimizer))
    state = start(task, optimizer)
    once, _ = step(state, batch())
    again, _ = step(state, batch())
    jax.tree.map(np.testing.assert_array_equal, once, again)
    later, _ = step(state.replace(step=state.step + 1), batch())
    other, _ = step(state.replace(rng=jax.random.key_data(jax.random.key(4))), batch())

    def kernel(s):
        return np.asarray(s.params["Dense_1"]["kernel"])

    assert not np.array_equal(kernel(once), kernel(later))
    assert not np.array_equal(kernel(once), kernel(other))


def test_the_moving_average_follows_its_formula():
    task, optimizer = objective(), plain(optax.sgd(0.5))
    step = jax.jit(make_train_step(task, optimizer, ema_decay=0.3))
    state = start(task, optimizer, ema=True)
    average = np.asarray(state.params["Dense_0"]["kernel"])
    for number in range(8):
        state, _ = step(state, batch(seed=number))
        decay = min(0.3, (1 + number) / (10 + number))
        average = decay * average + (1 - decay) * np.asarray(state.params["Dense_0"]["kernel"])
    np.testing.assert_allclose(state.ema["params"]["Dense_0"]["kernel"], average, rtol=1e-5)
    assert state.variables["params"] is state.ema["params"]


def test_the_gradient_s_norm_is_reported():
    task, optimizer = objective(), plain(optax.sgd(0.1))
    state = start(task, optimizer)
    gradients, _ = task.gradients(state.params, {}, batch(), jax.random.key(0))
    _, metrics = make_train_step(task, optimizer)(state, batch())
    assert numbers(metrics)["grad_norm"] == pytest.approx(float(optax.tree.norm(gradients)))


def test_one_compilation_serves_all_steps():
    task, optimizer = objective(), plain(optax.adamw(0.1))
    state, traced = start(task, optimizer), []
    step = make_train_step(task, optimizer)

    @jax.jit
    def counted(state, examples):
        traced.append(None)
        return step(state, examples)

    for seed in range(4):
        state, _ = counted(state, batch(seed=seed))
    assert len(traced) == 1


def test_evaluation_counts_every_example_once():
    task = objective()
    variables = task.init(jax.random.key(0), batch())
    step = make_evaluate_step(task.evaluate)
    whole = numbers(step(variables, batch(16)))
    first = {name: array[:10] for name, array in batch(16).items()}
    rest = {name: np.zeros_like(array[:10]) for name, array in batch(16).items()}
    for name, array in batch(16).items():
        rest[name][:6] = array[10:]
    both = merge(jax.device_get([step(variables, first), step(variables, rest)]))
    assert both["loss"].count == 16
    for name, value in whole.items():
        assert numbers(both)[name] == pytest.approx(value, rel=1e-5)


def test_a_gather_step_returns_what_is_computed_and_what_counts():
    task, made = objective(), batch(16, masked=2)
    variables = task.init(jax.random.key(0), made)
    found = make_gather_step(task.predict)(variables, made)
    probabilities = np.asarray(task.predict(variables, made))
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(found["values"], probabilities)
    np.testing.assert_array_equal(found["mask"], made["mask"])
    few = make_gather_step(task.predict, first=3)(variables, made)
    np.testing.assert_array_equal(few["values"], probabilities[:3])
    assert few["mask"].shape == (3,)


def test_gradients_of_what_is_frozen_are_neither_counted_nor_computed():
    task, frozen = objective(), {"Dense_0": False, "Dense_1": True}
    variables = task.init(jax.random.key(0), batch())
    trained = {layer: dict.fromkeys(variables["params"][layer], frozen[layer]) for layer in frozen}
    transformation = optax.partition({True: optax.sgd(0.1), False: optax.set_to_zero()}, trained)
    optimizers = {"all": plain(transformation), "some": plain(transformation, trained=trained)}
    opt_state = transformation.init(variables["params"])
    state = TrainState.create(variables, opt_state, seed=0)
    gradients, _ = task.gradients(state.params, {}, batch(), jax.random.key(0))
    flops = {}
    for name, optimizer in optimizers.items():
        step = jax.jit(make_train_step(task, optimizer)).lower(state, batch())
        flops[name] = step.compile().cost_analysis()["flops"]
    _, metrics = make_train_step(task, optimizers["some"])(state, batch())
    expected = float(optax.tree.norm(gradients["Dense_1"]))
    assert numbers(metrics)["grad_norm"] == pytest.approx(expected)
    # Of 16 examples, 48 x 16 weights of the first layer and what is behind them.
    assert flops["all"] - flops["some"] >= 2 * 16 * (48 * 16 + 16 * 7)
