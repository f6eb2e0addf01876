import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vitjax.core.errors import ConfigError
from vitjax.meta.imaml import ImplicitMaml
from vitjax.models.mlp import MLP
from vitjax.objectives.state import TrainState
from vitjax.optim.optimizer import Optimizer
from vitjax.training.step import make_train_step

WAYS, WIDTH = 3, 4


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def build(outputs=WAYS, hidden=(5,), norm="none", **keywords):
    model = MLP(
        hidden=hidden,
        num_classes=outputs,
        activation="tanh",
        norm=norm,
        weight_init="uniform",
        dtype="float64",
        param_dtype="float64",
    )
    return ImplicitMaml(
        model=model, num_classes=outputs, normalize=lambda inputs: inputs, **keywords
    )


def episodes(number=2, regression=False):
    rng = np.random.default_rng(0)

    def part(examples):
        shape = (number, WAYS * examples)
        labels = np.tile(np.repeat(np.arange(WAYS), examples), (number, 1))
        return {
            "input": rng.normal(size=(*shape, WIDTH)),
            "target": rng.normal(size=(*shape, 1)) if regression else labels,
            "mask": np.ones(shape, bool),
        }

    return jax.tree.map(
        jnp.asarray, {"support": part(2), "query": part(4), "mask": np.ones(number, bool)}
    )


def one_episode(**keywords):
    batch = episodes(1, **keywords)
    return {name: {k: v[0] for k, v in batch[name].items()} for name in ("support", "query")}


def start(objective, batch):
    variables = objective.init(jax.random.key(0), batch)
    return variables.pop("params"), variables


def gradients(objective, params, state, episode):
    """Gradient, state and metrics of one episode."""
    function = jax.jit(objective.episode_gradients)
    gradient, (state, metrics) = function(params, state, episode, jax.random.key(1))
    return gradient, state, metrics


def by_differences(objective, params, state, episode, directions=3):
    """Checks the gradient against the bilevel loss along a few random directions."""
    key = jax.random.key(1)
    loss = jax.jit(lambda params: objective.episode_loss(params, state, episode, key)[0])
    gradient = gradients(objective, params, state, episode)[0]
    rng = np.random.default_rng(3)
    for _ in range(directions):
        along = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)
        plus, minus = (
            loss(jax.tree.map(lambda p, d, s=sign: p + s * 1e-4 * d, params, along))
            for sign in (1, -1)
        )
        slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, along)))
        np.testing.assert_allclose(slope, (plus - minus) / 2e-4, rtol=1e-5, atol=1e-8)


CONVERGED = {"inner_steps": 400, "cg_steps": 60, "inner_learning_rate": 0.1}


def ridge(**keywords):
    """Only the head is adapted: the inner problem is ridge regression towards the start."""
    return build(1, target="number", adapted=("head",), **CONVERGED, **keywords)


def head_of(params):
    head = params["model"]["head"]
    return jnp.concatenate([head["kernel"], head["bias"][None]])


def features_of(params, part):
    dense = params["model"]["dense1"]
    hidden = jnp.tanh(part["input"] @ dense["kernel"] + dense["bias"])
    return jnp.concatenate([hidden, jnp.ones((len(hidden), 1))], axis=1)


def test_ridge_regression_has_the_gradient_of_its_closed_form():
    objective, episode = ridge(), one_episode(regression=True)
    params, state = start(objective, episodes(regression=True))

    def loss(params):
        x, y = features_of(params, episode["support"]), episode["support"]["target"]
        curvature = 2 * x.T @ x / len(x) + objective.proximal * jnp.eye(x.shape[1])
        pulled = 2 * x.T @ y / len(x) + objective.proximal * head_of(params)
        outputs = features_of(params, episode["query"]) @ jnp.linalg.solve(curvature, pulled)
        return jnp.mean(jnp.square(outputs - episode["query"]["target"]))

    gradient, _, metrics = gradients(objective, params, state, episode)
    np.testing.assert_allclose(metrics["loss"].value(), loss(params), rtol=1e-10)
    expected = jax.jit(jax.grad(loss))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), gradient, expected)
    # With damping it solves ((1 + damping) I + H / lambda) x = g for the same g.
    x = features_of(params, episode["support"])
    system = jnp.eye(x.shape[1]) + 2 * x.T @ x / len(x) / objective.proximal
    damped = gradients(ridge(cg_damping=0.5), params, state, episode)[0]
    left = (system + 0.5 * jnp.eye(x.shape[1])) @ head_of(damped)
    np.testing.assert_allclose(left, system @ head_of(expected), rtol=1e-6)


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"norm": "batch"},
        # What is not adapted has a gradient through where the adapted parameters end up.
        {"norm": "batch", "fixed": ("dense1", "norm1/scale")},
        {"head": "prototypes"},
    ],
    ids=["all", "batch statistics", "some fixed", "prototypes"],
)
def test_the_gradient_is_that_of_the_bilevel_problem(keywords):
    objective = build(**CONVERGED, **keywords)
    params, state = start(objective, episodes())
    by_differences(objective, params, state, one_episode())


def test_few_steps_of_conjugate_gradients_come_near():
    episode = one_episode()
    errors = []
    for steps in (1, 3, 60):
        objective = build(**{**CONVERGED, "cg_steps": steps})
        params, state = start(objective, episodes())
        gradient = gradients(objective, params, state, episode)[0]
        errors.append(jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradient)]))
    errors = [float(jnp.linalg.norm(e - errors[-1])) for e in errors[:-1]]
    assert errors[0] > errors[1] > 0


def test_evaluation_is_held_to_the_start_too():
    episode = one_episode()
    measured = []
    for proximal in (1e-3, 2.0):
        objective = build(proximal=proximal, test_steps=40)
        params, state = start(objective, episodes())
        measure = jax.jit(objective.measure_episode)
        measured.append(measure(params, state, episode)["transductive"]["loss"])
    near = build(inner_steps=40)
    metrics = gradients(near, params, state, episode)[2]
    np.testing.assert_allclose(measured[1][-1], metrics["loss"].value(), rtol=1e-10)
    assert measured[0].shape == (41,)
    assert abs(measured[0][-1] - measured[0][0]) > 2 * abs(measured[1][-1] - measured[1][0])


def test_episodes_at_once_change_no_number_and_the_trainer_takes_steps():
    batch = episodes(4)
    states = []
    for at_once in (1, 4):
        objective = build(norm="batch", episodes_at_once=at_once)
        variables = objective.init(jax.random.key(0), batch)
        optimizer = Optimizer(optax.with_extra_args_support(optax.sgd(0.5)))
        state = TrainState.create(variables, optimizer.init(variables["params"]), seed=0, ema=False)
        step = jax.jit(make_train_step(objective, optimizer))
        losses = []
        for _ in range(3):
            state, metrics = step(state, batch)
            losses.append(float(metrics["loss"].value()))
        assert losses[0] > losses[1] > losses[2]
        states.append((state.params, state.model_state))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9), *states)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"proximal": 0.0}, "proximal is 0.0; it must be above 0"),
        ({"cg_steps": 0}, "cg_steps is 0"),
        ({"cg_damping": -1.0}, "cg_damping is -1.0"),
        ({"remat": True}, "objective.remat is True, but imaml"),
        ({"first_order": True}, "objective.first_order is True, but imaml"),
    ],
)
def test_invalid_values_are_errors(keywords, words):
    with pytest.raises(ConfigError, match=words):
        build(**keywords)


def test_a_pattern_without_a_match_is_an_error():
    objective, batch = build(adapted=["^haed"]), episodes()
    with pytest.raises(ConfigError, match=r"'.haed' matches no parameter; did you mean 'head'"):
        objective.init(jax.random.key(0), batch)
