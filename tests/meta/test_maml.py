"""MAML and its relatives as objectives: gradients, what is adapted, devices, evaluation."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax.traverse_util import unflatten_dict
from small_problems import (
    DTYPES,
    assert_trees,
    directional,
    episode_of,
    episodes,
    inner,
    mean_loss,
    randomized,
    relative,
)

from vitjax import config as configs
from vitjax import models, parallel
from vitjax.core.errors import ConfigError
from vitjax.meta import Anil, Boil, Cavia, FirstOrderMaml, Maml, MetaSgd, parameters
from vitjax.meta.evaluation import of_ensemble
from vitjax.meta.gradient_based import Learner
from vitjax.meta.network import Network, only
from vitjax.metrics import numbers
from vitjax.models.protocol import Model
from vitjax.nn.batch_norm import BatchNorm
from vitjax.objectives.state import TrainState
from vitjax.optim.optimizer import Optimizer
from vitjax.training.step import make_evaluate_step, make_train_step

FIXTURE = Path(__file__).parent / "fixtures" / "maml_gradient.npz"
CONFIGS = Path(__file__).parents[2] / "configs" / "maml"
SHAPE = (4,)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def identity(inputs):
    return inputs


def mlp(ways=3, norm="batch", **fields):
    return models.create(
        "mlp_sinusoid",
        hidden=(6,),
        num_classes=ways,
        activation="tanh",
        norm=norm,
        **DTYPES,
        **fields,
    )


def conv4(ways=3, **fields):
    small = {"filters": 3, "depth": 2, "activation": "tanh", "num_classes": ways}
    return models.create("conv4", **{**small, **fields}, **DTYPES)


def made(kind=Maml, model=None, shape=SHAPE, *, number=4, seed=0, ways=3, outputs=3, **fields):
    """(objective, parameters, model state, batch), the parameters random."""
    fields = {"inner_steps": 2, "inner_learning_rate": 0.3, **fields}
    objective = kind(model=model or mlp(outputs), num_classes=outputs, normalize=identity, **fields)
    batch = episodes(number, shape, ways=ways, shots=2, queries=3, seed=seed)
    variables = jax.eval_shape(objective.init, jax.random.key(0), batch)
    variables = randomized(variables, scale=0.5)
    return objective, variables.pop("params"), variables, batch


def learner_of(objective, params, state, batch, index=0):
    episode = jax.tree.map(jnp.asarray, episode_of(batch, index))
    return Learner(objective, objective.network, params, state, episode)


# Gradients.


@pytest.mark.parametrize("activation", ["softplus", "relu"])
def test_meta_gradient_is_that_of_pytorch(activation):
    with np.load(FIXTURE) as file:
        arrays = dict(file)
    config = json.loads(str(arrays["config"]))

    def found(prefix):
        flat = {k[len(prefix) + 1 :]: v for k, v in arrays.items() if k.startswith(f"{prefix}/")}
        return unflatten_dict({k: jnp.asarray(v, jnp.float64) for k, v in flat.items()}, sep="/")

    episode = {
        part: {
            "input": jnp.asarray(arrays[f"{part}/input"], jnp.float64),
            "target": jnp.asarray(arrays[f"{part}/target"]),
            "mask": jnp.ones(len(arrays[f"{part}/target"]), bool),
        }
        for part in ("support", "query")
    }
    objective = Maml(
        model=models.Conv4(
            filters=config["filters"],
            num_classes=config["num_classes"],
            activation=activation,
            conv_impl="lax" if activation == "softplus" else "matmul",
            **DTYPES,
        ),
        num_classes=config["num_classes"],
        normalize=identity,
        inner_steps=config["steps"],
        inner_learning_rate=config["rate"],
        unroll=1,
    )
    shapes = jax.eval_shape(objective.model.init, jax.random.key(0), episode["support"]["input"])
    state = {"batch_stats": randomized(shapes["batch_stats"])}
    params, expected = {"model": found(f"{activation}/params")}, found(f"{activation}/gradient")
    assert jax.tree.map(jnp.shape, params["model"]) == jax.tree.map(jnp.shape, shapes["params"])

    def both(params):
        learner = Learner(objective, objective.network, params, state, episode)
        gradients = objective.episode_gradients(params, state, episode, jax.random.key(0))
        return gradients, parameters.unflatten(learner.adapt(config["steps"]))

    (gradients, (_, metrics)), adapted = jax.jit(both)(params)
    np.testing.assert_allclose(metrics["loss"].value(), arrays[f"{activation}/loss"], rtol=1e-10)
    assert_trees(adapted, found(f"{activation}/adapted"), rtol=1e-9, atol=1e-10)
    # The bias of a convolution has no gradient under batch statistics; PyTorch's is rounding.
    size = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(expected))
    assert_trees(gradients["model"], expected, rtol=1e-9, atol=1e-9 * size)
    assert relative(gradients["model"], expected) < 1e-9


@pytest.mark.parametrize("kind", [Maml, FirstOrderMaml])
def test_gradients_of_a_batch_are_the_mean_over_its_episodes(kind):
    objective, params, state, batch = made(kind, number=4)
    # The third episode is padding.
    batch["mask"][2] = False
    key = jax.random.key(3)
    single = jax.jit(objective.episode_gradients)
    rows = [single(params, state, episode_of(batch, i), key) for i in (0, 1, 3)]
    expected = jax.tree.map(lambda *leaves: sum(leaves) / 3, *[row[0] for row in rows])
    states = jax.tree.map(lambda *leaves: sum(leaves) / 3, *[row[1][0] for row in rows])
    losses = [float(row[1][1]["loss"].value()) for row in rows]
    assert np.ptp(losses) > 0.01
    for at_once in (1, 2, 4, None):
        made_of, _, _, _ = made(kind, episodes_at_once=at_once)
        gradients, (new, metrics) = jax.jit(made_of.gradients)(params, state, batch, key)
        assert_trees(gradients, expected)
        assert_trees(new, states)
        np.testing.assert_allclose(metrics["loss"].value(), np.mean(losses))
        assert float(metrics["loss"].count) == 3
    # Only the second-order gradient is that of the loss.
    by_loss = jax.jit(lambda p: jax.grad(lambda p: objective.loss(p, state, batch, key)[0])(p))(
        params
    )
    assert_trees(by_loss, expected)


def test_first_order_is_not_second_order():
    objective, params, state, batch = made(Maml)
    other, *_ = made(FirstOrderMaml)
    episode, key = episode_of(batch, 0), jax.random.key(0)
    second, first = (
        jax.jit(o.episode_gradients)(params, state, episode, key)[0] for o in (objective, other)
    )
    assert relative(first, second) > 0.01


def test_the_inner_loss_is_a_mean_over_the_examples_that_count():
    objective, params, state, batch = made(inner_steps=1, inner_learning_rate=0.7)
    # One example less of the first two classes.
    mask, labels = batch["support"]["mask"][0], batch["support"]["target"][0]
    for way in range(2):
        mask[np.flatnonzero(labels == way)[0]] = False
    learner = learner_of(objective, params, state, batch)
    support = learner.episode["support"]
    found = parameters.unflatten(jax.jit(lambda: learner.adapt(1))())

    def loss(model):
        outputs, _ = objective.model.apply(
            {"params": model, **state}, support["input"], train=True, mutable=["batch_stats"]
        )
        picked = jax.nn.log_softmax(outputs)[jnp.arange(6), support["target"]]
        # Four of six examples count; the paper's code would sum over three ways.
        return -jnp.sum(picked[mask]) / 4

    expected = jax.tree.map(
        lambda p, g: p - 0.7 * g, params["model"], jax.grad(loss)(params["model"])
    )
    assert_trees(found, expected)


def test_a_rate_is_the_published_code_s_times_the_ways():
    # cbfinn/maml's inner loss is the sum over ways of means over shots.
    objective, params, state, batch = made(inner_steps=1, inner_learning_rate=0.6)
    learner = learner_of(objective, params, state, batch)
    support = learner.episode["support"]
    found = parameters.unflatten(jax.jit(lambda: learner.adapt(1))())

    def published(model):
        outputs, _ = objective.model.apply(
            {"params": model, **state}, support["input"], train=True, mutable=["batch_stats"]
        )
        picked = jax.nn.log_softmax(outputs)[jnp.arange(6), support["target"]]
        return sum(-jnp.mean(picked[support["target"] == way]) for way in range(3))

    expected = jax.tree.map(
        lambda p, g: p - 0.2 * g, params["model"], jax.grad(published)(params["model"])
    )
    assert_trees(found, expected)


@pytest.mark.parametrize(
    ("name", "ways", "published"),
    [
        ("omniglot.py:5w1s", 5, 0.4),
        ("omniglot.py:5w5s", 5, 0.4),
        ("omniglot.py:20w1s", 20, 0.1),
        ("omniglot.py:20w5s", 20, 0.1),
        ("miniimagenet.py:5w1s", 5, 0.01),
        ("miniimagenet.py:5w5s", 5, 0.01),
    ],
)
def test_configs_have_the_papers_rates(name, ways, published):
    config = configs.load(CONFIGS / name)
    assert config.data.episodes.ways == ways
    assert config.objective.inner_learning_rate == pytest.approx(ways * published)


def test_rates_of_the_head_and_any_optimizer():
    objective, params, state, batch = made(
        inner_steps=3,
        inner_learning_rate=0.02,
        head_learning_rate=0.1,
        inner_optimizer={"name": "adam", "b1": 0.5, "eps_root": 1e-8},
    )
    learner = learner_of(objective, params, state, batch)
    found = jax.jit(lambda: learner.adapt(3))()
    loss, support = mean_loss(objective.model, state), learner.episode["support"]
    optimizer = optax.adam(1.0, b1=0.5, eps_root=1e-8)
    model = params["model"]
    opt_state = optimizer.init(model)
    for _ in range(3):
        updates, opt_state = optimizer.update(jax.grad(loss)(model, support), opt_state)
        rate = {
            k: jax.tree.map(lambda _, k=k: 0.1 if k == "head" else 0.02, v)
            for k, v in model.items()
        }
        model = jax.tree.map(lambda p, u, r: p + r * u, model, updates, rate)
    assert_trees(parameters.unflatten(found), model)


# Devices.


def train(mode, devices):
    """Three steps of masked episodes, then an evaluation whose last ones are padding."""
    way = parallel.create(mode=mode, devices=devices)
    fields = {"devices": devices} if mode == "jit" else {}
    objective, params, state, _ = made(unroll=1, **fields)
    optimizer = Optimizer(optax.with_extra_args_support(optax.sgd(0.1, momentum=0.9)))
    state = TrainState.create({"params": params, **state}, optimizer.init(params), seed=0)
    before = jax.device_get(state.params)
    state = way.place_state(state)
    over = objective.over_axis(way.axis_name) if way.axis_name else objective
    step = way.compile(make_train_step(over, optimizer), donate=True)
    for number in range(3):
        batch = episodes(16, SHAPE, shots=2, queries=3, seed=number)
        batch["mask"][: number + 1] = False  # a device or two then have fewer episodes
        state, metrics = step(state, way.place_batch(batch))
    batch = episodes(16, SHAPE, shots=2, queries=3, seed=9)
    batch["mask"][-5:] = False
    evaluate = way.compile(make_evaluate_step(over.evaluate, axis_name=way.axis_name))
    evaluated = way.fetch(evaluate(state.variables, way.place_batch(batch)))
    state = jax.device_get(way.fetch(state))
    assert relative(before, state.params) > 0.01
    return state, numbers(way.fetch(metrics)), numbers(evaluated)


def test_many_devices_give_the_numbers_of_one():
    one = train("jit", 1)
    statistics = jax.tree.leaves(one[0].model_state["batch_stats"])
    assert any(np.ptp(leaf) > 0.01 for leaf in statistics)
    for mode in ("jit", "pmap"):
        many = train(mode, 8)
        assert_trees(many, one, rtol=1e-8, atol=1e-10)


# What is adapted.


@pytest.mark.parametrize(
    ("kind", "fields", "moving"),
    [
        (Maml, {}, {"conv1", "conv2", "norm1", "norm2", "head"}),
        (Anil, {}, {"head"}),
        (Boil, {}, {"conv1", "conv2", "norm1", "norm2"}),
        (Cavia, {"model": {"num_context": 3, "context_block": 1}}, {"context"}),
        (Maml, {"adapted": ["^conv", "^norm2/bias"]}, {"conv1", "conv2", "norm2"}),
        (Maml, {"fixed": ["/scale$", "^conv1", "norm1/"]}, {"conv2", "norm2", "head"}),
    ],
)
def test_what_is_adapted(kind, fields, moving):
    fields = dict(fields)
    # Batch statistics would take the gradient of the convolutions' biases away.
    model = conv4(norm="layer", **fields.pop("model", {}))
    objective, params, state, batch = made(kind, model, (8, 8, 2), unroll=1, **fields)
    learner = learner_of(objective, params, state, batch)
    before, after, gradients = jax.jit(
        lambda: (
            learner.leaves(),
            learner.adapt(2),
            objective.episode_gradients(params, state, learner.episode, jax.random.key(0))[0][
                "model"
            ],
        )
    )()
    assert set(before) == set(after) == set(parameters.flatten(params["model"]))
    changed = {name for name in before if np.any(before[name] != after[name])}
    assert {name.partition("/")[0] for name in changed} == moving
    if "/scale$" in fields.get("fixed", ()):
        assert not any("scale" in name for name in changed)
    # All parameters are learned, also those that stay within an episode.
    gradients = parameters.flatten(gradients)
    for name, leaf in gradients.items():
        if kind is Cavia and name == "context":
            # It starts from zeros at each episode, wherever training has put it.
            np.testing.assert_array_equal(before[name], 0)
            np.testing.assert_array_equal(leaf, 0)
        else:
            assert np.abs(leaf).max() > 1e-8, name


def test_meta_sgd_learns_its_rates():
    objective, params, state, batch = made(MetaSgd, fixed=["norm1/scale"])
    assert set(parameters.flatten(params["rates"])) == {
        *("dense1/kernel", "dense1/bias", "norm1/bias", "head/kernel", "head/bias")
    }
    fresh = objective.init(jax.random.key(0), batch)["params"]["rates"]
    assert all((leaf == 0.3).all() for leaf in jax.tree.leaves(fresh))
    episode, key = episode_of(batch, 0), jax.random.key(0)
    gradient, _ = jax.jit(objective.episode_gradients)(params, state, episode, key)

    def loss(rates):
        return objective.episode_loss({**params, "rates": rates}, state, episode, key)[0]

    for along, difference in directional(jax.jit(loss), params["rates"]):
        assert abs(difference) > 1e-4
        np.testing.assert_allclose(inner(gradient["rates"], along), difference, rtol=1e-7)
    # A rate for every scalar: equal ones are MAML's.
    plain, *_ = made(Maml, fixed=["norm1/scale"])
    found = jax.jit(objective.episode_loss)({**params, "rates": fresh}, state, episode, key)[0]
    expected = jax.jit(plain.episode_loss)({"model": params["model"]}, state, episode, key)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_head_of_zeros_starts_undecided():
    objective, params, state, batch = made(head="zeros", test_steps=3)
    assert np.abs(params["model"]["head"]["kernel"]).min() > 0
    measures = jax.jit(objective.measure)({"params": params, **state}, batch)
    for mode in ("transductive", "inductive"):
        assert measures[mode]["loss"].shape == (4, 4)
        np.testing.assert_allclose(measures[mode]["loss"][:, 0], np.log(3), rtol=1e-12)
        assert (measures[mode]["loss"][:, -1] < np.log(3)).any()
    gradient = jax.jit(objective.gradients)(params, state, batch, jax.random.key(0))[0]["model"]
    assert not np.any(gradient["head"]["kernel"])
    assert np.abs(gradient["dense1"]["kernel"]).max() > 1e-4


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_head_of_prototypes_starts_from_distances(norm):
    objective, params, state, batch = made(model=mlp(norm=norm), head="prototypes")
    batch["support"]["mask"][0, 5] = False
    learner = learner_of(objective, params, state, batch)
    support, query = learner.episode["support"], learner.episode["query"]

    @jax.jit
    def outputs():
        leaves = learner.leaves()
        model = parameters.unflatten(leaves)
        logits, _ = objective.network.apply(model, state, query["input"], train=True)
        return logits, {name: learner.features(leaves, learner.episode[name]) for name in parts}

    parts = tuple(learner.episode)
    logits, features = outputs()
    labels = np.where(support["mask"], support["target"], -1)
    centers = jnp.stack([features["support"][labels == way].mean(0) for way in range(3)])
    distances = jnp.sum((features["query"][:, None] - centers[None]) ** 2, axis=-1)
    rest = logits + distances
    np.testing.assert_allclose(rest, np.broadcast_to(rest[:, :1], rest.shape), rtol=1e-12)
    assert np.ptp(distances, axis=1).min() > 1e-3
    # The head is a function of the body, whose gradient goes through it.
    gradient, _ = jax.jit(objective.episode_gradients)(
        params, state, learner.episode, jax.random.key(0)
    )
    assert not np.any(gradient["model"]["head"]["kernel"])

    def loss(model):
        return objective.episode_loss({"model": model}, state, learner.episode, jax.random.key(0))[
            0
        ]

    for along, difference in directional(jax.jit(loss), params["model"], directions=1):
        np.testing.assert_allclose(inner(gradient["model"], along), difference, rtol=1e-6)


# Evaluation.


class Normalized(Model):
    """Two dense layers, each with a batch normalisation of its own momentum."""

    momenta: tuple[float, float]
    ours: bool
    dtype: str

    @nn.compact
    def __call__(self, x, train=False):
        kind = BatchNorm if self.ours else nn.BatchNorm
        for momentum in self.momenta:
            dtypes = {"dtype": self.dtype, "param_dtype": self.dtype}
            x = nn.Dense(5, **dtypes)(x)
            x = nn.tanh(kind(use_running_average=not train, momentum=momentum, **dtypes)(x) + 1)
        return x


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_moments_are_those_of_the_batch(ours, dtype):
    inputs = np.random.default_rng(0).normal(size=(12, 4)).astype(dtype)

    def network(momenta):
        return Network(Normalized(momenta, ours, dtype), identity, False)

    variables = network((0.9, 0.99)).model.init(jax.random.key(0), inputs)
    variables = jax.tree.map(lambda x: x.astype(dtype), randomized(variables))
    params = variables.pop("params")
    found = jax.jit(network((0.9, 0.99)).moments)(params, variables, inputs)
    # With no momentum, the running statistics are the last batch's.
    _, expected = network((0.0, 0.0)).apply(params, variables, inputs, train=True)
    tolerance = 2e-6 if dtype == "float32" else 1e-13
    assert_trees(found, expected, rtol=10 * tolerance, atol=tolerance)
    assert relative(expected, variables) > 0.1
    assert network((0.9, 0.9)).moments(params, {}, inputs) == {}


@pytest.mark.parametrize("statistics", ["support", "running"])
def test_inductive_answers_stand_for_themselves(statistics):
    objective, params, state, batch = made(inductive_statistics=statistics, number=1)
    variables = {"params": params, **state}
    measure = jax.jit(objective.measure)
    whole = measure(variables, batch)
    number = batch["query"]["target"].shape[1]

    def one(index):
        query = jax.tree.map(lambda x: x[:, index : index + 1], batch["query"])
        return measure(variables, {**batch, "query": query})

    alone = [one(index) for index in range(number)]
    for mode in whole:
        mean = sum(row[mode]["loss"] for row in alone) / number
        differs = np.abs(mean - whole[mode]["loss"]).max()
        assert differs > 1e-3 if mode == "transductive" else differs < 1e-10
    metrics = numbers(jax.jit(objective.evaluate)(variables, batch))
    np.testing.assert_allclose(metrics["loss"], whole["transductive"]["loss"][0, -1])
    np.testing.assert_allclose(metrics["loss_inductive"], whole["inductive"]["loss"][0, -1])
    np.testing.assert_allclose(metrics["loss_before"], whole["transductive"]["loss"][0, 0])


def test_statistics_of_the_support_set_are_those_after_adaptation():
    objective, params, state, batch = made(number=1, test_steps=2)
    learner = learner_of(objective, params, state, batch)
    model = parameters.unflatten(jax.jit(lambda: learner.adapt(2, first_order=True))())
    both = jnp.concatenate([learner.episode["support"]["input"]] * 2)
    # Means over a support set twice as large are the same, so only its moments can matter.
    outputs = objective.network.apply(
        model,
        objective.network.moments(model, state, both),
        learner.episode["query"]["input"],
        train=False,
    )[0]
    loss = jnp.mean(objective.network.losses(outputs, learner.episode["query"]["target"]))
    measures = jax.jit(objective.measure)({"params": params, **state}, batch)
    found = measures["inductive"]["loss"][0, -1]
    np.testing.assert_allclose(found, loss, rtol=1e-10)


def test_dropout_is_for_training():
    fields = {"patch_size": 4, "width": 8, "depth": 1, "num_heads": 2, "num_classes": 3}
    model = models.create("vit_ti16", **fields, dropout=0.5, **DTYPES)
    objective, params, state, batch = made(Maml, model, (8, 8, 3), number=2, inner_steps=1)
    loss = jax.jit(lambda key: objective.loss(params, state, batch, key)[0])
    first, second, again = (float(loss(jax.random.key(seed))) for seed in (0, 1, 0))
    assert abs(first - second) > 1e-4
    assert first == again
    plain, *_ = made(Maml, model.clone(dropout=0.0), (8, 8, 3), number=2, inner_steps=1)
    evaluated = [jax.jit(o.evaluate)({"params": params}, batch) for o in (objective, plain)]
    assert_trees(*evaluated)


def test_absent_classes_have_no_probability():
    # Three ways where there may be five; the head would have it that all is the fourth.
    objective, params, state, batch = made(outputs=5, number=2)
    params["model"]["head"]["bias"] = jnp.asarray([0.0, 0, 0, 50, 20])
    learner = learner_of(objective, params, state, batch)
    np.testing.assert_array_equal(learner.present(), [True, True, True, False, False])
    outputs, _ = objective.network.apply(
        params["model"], state, learner.episode["query"]["input"], train=True
    )
    probabilities = jax.nn.softmax(only(outputs, learner.present()))
    np.testing.assert_array_equal(probabilities[:, 3:], 0)
    np.testing.assert_allclose(probabilities[:, :3], jax.nn.softmax(outputs[:, :3]), rtol=1e-12)
    measures = jax.jit(objective.measure)({"params": params, **state}, batch)["transductive"]
    assert (measures["loss"] < 5).all()
    assert (measures["accuracy"] > 0).any()
    gradient, _ = jax.jit(objective.gradients)(params, state, batch, jax.random.key(0))
    np.testing.assert_array_equal(gradient["model"]["head"]["kernel"][:, 3:], 0)
    assert np.abs(gradient["model"]["head"]["kernel"][:, :3]).min() > 0
    # A class of which only padding is there is absent.
    batch["support"]["mask"][0] = batch["support"]["target"][0] != 1
    learner = learner_of(objective, params, state, batch)
    np.testing.assert_array_equal(learner.present(), [True, False, True, False, False])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"head": "prototype"}, "did you mean 'prototypes'"),
        ({"inductive_statistics": "suport"}, "did you mean 'support'"),
        ({"inner_steps": 0}, "objective.inner_steps is 0"),
        ({"inner_learning_rate": -0.1}, "inner_learning_rate is -0.1; it must be .*above 0"),
        ({"episodes_at_once": 0}, "objective.episodes_at_once is 0"),
        ({"unroll": 0}, "objective.unroll is 0"),
        ({"target": "number", "head": "prototypes"}, "prototypes need classes"),
        ({"inner_optimizer": {"name": "adm"}}, r"inner_optimizer.name: .* did you mean 'adam'"),
        ({"inner_optimizer": {"name": "sgd", "momentun": 0.9}}, "did you mean 'momentum'"),
        (
            {"inner_optimizer": {"name": "lbfgs"}},
            "objective.inner_optimizer: .*needs only gradients",
        ),
        (
            {"inner_optimizer": {"name": "adam", "b1": "x"}},
            r"objective.inner_optimizer\.b1 is 'x'",
        ),
        ({"adapted": ["("]}, r"config.objective.adapted: '\(' is not a regular expression"),
        ({"fixed": [3]}, r"config.objective.fixed\[0\] is 3; it must be a string"),
    ],
)
def test_invalid_values_are_errors(fields, words):
    with pytest.raises(ConfigError, match=words):
        Maml(model=mlp(), num_classes=3, normalize=identity, **fields)


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        (Maml, {"adapted": ["^haed"]}, "config.objective.adapted: '.haed' .* did you mean 'head'"),
        (MetaSgd, {"fixed": ["conv9"]}, "config.objective.fixed: 'conv9' matches no parameter"),
        (Maml, {"fixed": [""]}, "config.objective.adapted: nothing is left to adapt"),
        (Maml, {"adapted": []}, "config.objective.adapted: nothing is left to adapt"),
        (Cavia, {}, "config.model.num_context should be above 0"),
    ],
)
def test_patterns_have_to_match_the_model(kind, fields, words):
    objective = kind(model=mlp(), num_classes=3, normalize=identity, **fields)
    batch = episodes(1, SHAPE)
    with pytest.raises(ConfigError, match=words):
        jax.eval_shape(objective.init, jax.random.key(0), batch)


@pytest.mark.parametrize("kind", [Anil, Boil])
def test_a_method_about_the_head_wants_one(kind):
    objective = kind(model=mlp(None), num_classes=3, normalize=identity)
    with pytest.raises(ConfigError, match="matches no parameter"):
        jax.eval_shape(objective.init, jax.random.key(0), episodes(1, SHAPE))


def test_a_query_of_a_class_that_is_not_shown_does_not_count():
    objective, params, state, batch = made(number=1)
    batch["support"]["mask"][0] = batch["support"]["target"][0] != 1
    fewer = jax.tree.map(np.copy, batch)
    fewer["query"]["mask"][0] = fewer["query"]["target"][0] != 1
    gradients = jax.jit(objective.gradients)
    (found, (_, metrics)), (expected, (_, counted)) = (
        gradients(params, state, each, jax.random.key(0)) for each in (batch, fewer)
    )
    assert_trees(found, expected)
    assert_trees(metrics, counted)
    assert float(metrics["accuracy"].count) == 6
    assert float(metrics["loss"].value()) < 10
    variables = {"params": params, **state}
    measured = [jax.jit(objective.measure)(variables, each) for each in (batch, fewer)]
    assert_trees(*measured)
    for mode, worth in of_ensemble(
        jax.device_get(objective.query_probabilities(variables, batch)),
        batch["query"]["target"],
        batch["query"]["mask"],
    ).items():
        for name in ("loss", "accuracy"):
            np.testing.assert_allclose(worth[name], measured[0][mode][name][0, -1], rtol=1e-6)


def test_adam_learns_at_second_order_unless_told_otherwise():
    def gradients(**keywords):
        # An input that is always zero has no gradient.
        fields = {"model": mlp(norm="none"), "inner_optimizer": {"name": "adam", **keywords}}
        objective, params, state, batch = made(Maml, number=1, **fields)
        for part in ("support", "query"):
            batch[part]["input"][..., 0] = 0
        return jax.jit(objective.gradients)(params, state, batch, jax.random.key(0))[0]

    found = gradients()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    assert_trees(found, gradients(eps_root=1e-8))
    # What is given is kept.
    assert np.isnan(gradients(eps_root=0.0)["model"]["dense1"]["kernel"]).any()


def test_inner_loops_have_plain_attention():
    # The fused kernel has no second derivative.
    fields = {"patch_size": 4, "width": 8, "depth": 1, "num_heads": 2, "num_classes": 3}
    model = models.create("vit_ti16", **fields, attention_impl="fused")
    objective = Maml(model=model, num_classes=3, normalize=identity)
    assert objective.network.model == model.clone(attention_impl="plain")
    # On CPUs the fused one warns, which here is an error.
    images = jnp.zeros((1, 8, 8, 3))
    jax.eval_shape(objective.network.model.init, jax.random.key(0), images)
    with pytest.warns(UserWarning, match="fused attention falls back"):
        jax.eval_shape(model.init, jax.random.key(0), images)


def test_the_order_of_fomaml_is_not_a_key():
    with pytest.raises(TypeError, match="first_order"):
        FirstOrderMaml(model=mlp(), num_classes=3, normalize=identity, first_order=False)


@pytest.mark.gpu
@pytest.mark.parametrize("at_once", [None, 1, 2])
@pytest.mark.parametrize("conv_impl", ["auto", "lax"])
def test_the_meta_gradient_of_a_gpu_is_that_of_a_cpu(gpu, at_once, conv_impl):
    fields = {"inner_steps": 2, "episodes_at_once": at_once}
    objective, *arguments = made(model=conv4(conv_impl=conv_impl), shape=(8, 8, 2), **fields)
    found, expected = (
        jax.jit(objective.gradients)(*jax.device_put((*arguments, jax.random.key(0)), device))
        for device in (gpu, jax.devices("cpu")[0])
    )
    assert_trees(jax.device_get(found[0]), jax.device_get(expected[0]), rtol=1e-6)
    assert_trees(jax.device_get(found[1]), jax.device_get(expected[1]), rtol=1e-6)
