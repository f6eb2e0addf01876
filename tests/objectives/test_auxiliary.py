"""Auxiliary logits: their losses count in training, and nothing else sees them."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict
from small_classifiers import CLASSES, batch

from vitjax import parallel
from vitjax.core.errors import ConfigError
from vitjax.meta.parameters import head_names
from vitjax.metrics import numbers
from vitjax.models.protocol import Model
from vitjax.nn.batch_norm import BatchNorm
from vitjax.objectives import Classification, HeadOnly
from vitjax.objectives.lora import LoRA
from vitjax.objectives.state import FROZEN, TrainState
from vitjax.optim.optimizer import Optimizer
from vitjax.training.step import make_train_step

WEIGHTS = {"first": 0.3, "second": 0.5}


class Deep(Model):
    """Two hidden layers with a head after each, and the main head."""

    auxiliary_heads: ClassVar = {"first_head": ("first_hidden",), "second_head": ()}

    num_classes: int | None = CLASSES
    axis_name: str | None = None
    auxiliary: bool = True
    dtype: str = "float32"
    param_dtype: str = "float32"

    @property
    def auxiliary_logits(self):
        return WEIGHTS if self.auxiliary and self.num_classes else {}

    @nn.compact
    def __call__(self, images, train=False):
        def dense(x, width, name):
            return nn.Dense(width, name=name, **self.dtypes)(x)

        x = nn.tanh(dense(images.reshape(len(images), -1), 6, "layer1"))
        if self.auxiliary_logits and (train or self.is_initializing()):
            self._out("first", dense(dense(x, 5, "first_hidden"), self.num_classes, "first_head"))
        x = nn.tanh(dense(x, 6, "layer2"))
        norm = BatchNorm(not train, axis_name=self.axis_name, **self.dtypes, name="norm")
        x = norm(x)
        if self.auxiliary_logits and (train or self.is_initializing()):
            self._out("second", dense(x, self.num_classes, "second_head"))
        return dense(x, self.num_classes, "head") if self.num_classes else x

    def _out(self, name, logits):
        if not self.is_initializing():
            self.sow("auxiliary", name, logits, lambda _, new: new, lambda: None)


def task(kind=Classification, dtype="float32", **arguments):
    model = Deep(dtype=dtype, param_dtype=dtype)
    return kind(model=model, num_classes=CLASSES, **arguments)


def started(objective, examples):
    variables = dict(objective.init(jax.random.key(0), examples))
    return variables.pop("params"), variables


def double(examples):
    return {**examples, "image": examples["image"].astype(np.float64)}


def cross_entropy(logits, examples, smoothing=0.0):
    labels = optax.smooth_labels(jax.nn.one_hot(examples["label"], CLASSES), smoothing)
    losses = optax.softmax_cross_entropy(logits, labels)
    return jnp.sum(losses * examples["mask"]) / jnp.sum(examples["mask"])


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (None, WEIGHTS),
        ({"first": 2}, {"first": 2, "second": 0.5}),
        ({"first": 0, "second": 1.5}, {"second": 1.5}),
        ({"first": 0.0, "second": 0}, {}),
    ],
)
def test_the_loss_is_the_weighted_sum(given, used):
    with jax.enable_x64(True):
        examples = double(batch(masked=3))
        objective = task(dtype="float64", auxiliary_weight=given, label_smoothing=0.1)
        params, state = started(objective, examples)
        assert set(state) == {"batch_stats"}

        def expected(params):
            logits, sown = objective.model.apply(
                {"params": params, **state},
                examples["image"],
                train=True,
                mutable=["batch_stats", "auxiliary"],
            )
            terms = {n: cross_entropy(x, examples, 0.1) for n, x in sown["auxiliary"].items()}
            main = cross_entropy(logits, examples, 0.1)
            return main + sum(weight * terms[n] for n, weight in used.items()), (main, terms)

        grads, (new, metrics) = jax.jit(objective.gradients)(
            params, state, examples, jax.random.key(1)
        )
        (total, (main, terms)), right = jax.value_and_grad(expected, has_aux=True)(params)
        found = numbers(metrics)
        assert found["loss"] == pytest.approx(float(total), rel=1e-12)
        assert set(found) == {"loss", "accuracy", "accuracy_top5", *(f"loss_{n}" for n in used)}
        for name in used:
            assert found[f"loss_{name}"] == pytest.approx(float(terms[name]), rel=1e-12)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), grads, right)
        for name, entries in {
            "first": ("first_hidden", "first_head"),
            "second": ("second_head",),
        }.items():
            for entry in entries:
                assert bool(np.any(grads[entry]["kernel"])) == (name in used)
        assert set(new) == {"batch_stats"}
        evaluated = numbers(objective.evaluate({"params": params, **state}, examples))
        logits = objective.model.apply({"params": params, **state}, examples["image"])
        assert evaluated["loss"] == pytest.approx(float(cross_entropy(logits, examples)), rel=1e-12)
        assert not any(name.startswith("loss_") for name in evaluated)
        assert main != total or not used


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match=r"Deep has no auxiliary logits 'frist'.*mean 'first'"):
        task(auxiliary_weight={"frist": 1.0})
    with pytest.raises(ConfigError, match=r"auxiliary_weight\.first is -1"):
        task(auxiliary_weight={"first": -1.0})
    with pytest.raises(ConfigError, match="known: none"):
        Classification(Deep(auxiliary=False), CLASSES, auxiliary_weight={"first": 1.0})
    with pytest.raises(ConfigError, match="trains the main head alone"):
        task(HeadOnly, auxiliary_weight={"first": 1.0})


def test_devices_and_micro_batches_give_the_same_step():
    with jax.enable_x64(True):
        examples = double(batch(16, masked=3))
        # Micro-batches have batch statistics of their own, so that these are frozen there.
        for frozen, runs in {
            None: [("jit", 1, 1), ("pmap", 4, 1)],
            "norm": [("jit", 1, 1), ("jit", 1, 4), ("pmap", 4, 2)],
        }.items():
            results = []
            for mode, devices, pieces in runs:
                objective = task(
                    dtype="float64",
                    class_weights=tuple(range(1, 8)),
                    class_names=tuple("abcdefg"),
                    frozen_statistics=frozen,
                )
                sgd = optax.with_extra_args_support(optax.sgd(0.1))
                optimizer = Optimizer(sgd, accumulation_steps=pieces)
                way = parallel.create(mode=mode, devices=devices)
                variables = objective.init(jax.random.key(0), examples)
                state = TrainState.create(variables, optimizer.init(variables["params"]), seed=0)
                over = objective if way.axis_name is None else objective.over_axis(way.axis_name)
                step = way.compile(make_train_step(over, optimizer), state=state)
                state, metrics = step(way.place_state(state), way.place_batch(examples))
                found = numbers(way.to_host(metrics))
                results.append((way.to_host(state.params), found))
            (params, found), *others = results
            for other, values in others:
                jax.tree.map(
                    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), params, other
                )
                assert values == pytest.approx(found, rel=1e-9)


def test_other_methods_do_not_see_them():
    examples = batch()
    model = Deep()
    params, state = started(task(), examples)
    _, new = model.apply(
        {"params": params, **state}, examples["image"], train=True, mutable=["batch_stats"]
    )
    assert set(new) == {"batch_stats"}
    lora = task(lora=LoRA(rank=2, kernels=["layer./kernel"]), frozen_statistics=".")
    wrapped = lora.wrap(jax.random.key(0), {"params": params, **state}, examples)
    assert {*wrapped["params"]} == {"lora", "head", "first_head", "second_head"}
    trained = wrapped.pop("params")
    _, (after, metrics) = lora.loss(trained, wrapped, examples, jax.random.key(1))
    assert after.keys() == wrapped.keys()
    assert "loss_first" in metrics
    names = list(flatten_dict(params, sep="/"))
    assert head_names(dict.fromkeys(names), model) == ("head/kernel", "head/bias")


def test_the_main_head_alone_is_trained():
    examples = batch()
    objective = task(HeadOnly)
    whole = task().init(jax.random.key(0), examples)
    wrapped = objective.wrap(jax.random.key(0), whole, examples)
    assert set(wrapped["params"]) == {"head"}
    assert {"first_hidden", "first_head", "second_head"} <= set(wrapped[FROZEN]["params"])
    jax.tree.map(np.testing.assert_array_equal, dict(objective.unwrap(wrapped)), dict(whole))
    params = wrapped.pop("params")
    features = objective.features(wrapped, examples["image"])
    cached = {"features": features, **{n: examples[n] for n in ("label", "mask")}}
    loss, (_, metrics) = objective.loss(params, wrapped, cached, jax.random.key(1))
    logits = objective.model.apply(whole, examples["image"])
    assert float(loss) == pytest.approx(float(cross_entropy(logits, examples)), rel=1e-5)
    assert not any(name.startswith("loss_") for name in metrics)
    whole_head, _ = objective.model.split_head(whole["params"])
    assert set(whole_head) == {"head", "first_head", "second_head"}
    np.testing.assert_allclose(
        objective.model.only_head(whole_head).apply({"params": whole_head}, features),
        logits,
        rtol=1e-5,
        atol=1e-6,
    )


def test_all_heads_are_replaced():
    model = Deep().with_head(3)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4, 4, 3)))["params"]
    heads = ("head", "first_head", "second_head")
    assert [shapes[n]["kernel"].shape[-1] for n in heads] == [3, 3, 3]
    assert model.head_of("first_hidden/kernel") == "first_head"
    assert model.hidden_in_head("first_hidden/kernel")
    assert not model.hidden_in_head("first_head/kernel")
