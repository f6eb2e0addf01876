import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vitjax.core.errors import ConfigError
from vitjax.meta.maml import FirstOrderMaml, Maml
from vitjax.meta.mamlpp import MamlPlusPlus, loss_weights
from vitjax.models.mlp import MLP
from vitjax.objectives.state import TrainState
from vitjax.optim.optimizer import Optimizer
from vitjax.training.step import make_train_step

WAYS, STEPS, RATE, ANNEALING = 3, 3, 0.3, 10
PARTS = ("multi_step_loss", "learned_rates", "per_step_norm", "per_step_statistics")
COMMON = {"inner_steps": STEPS, "inner_learning_rate": RATE, "target": "class"}


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def network(norm="batch"):
    return MLP(
        hidden=(5,),
        num_classes=WAYS,
        activation="tanh",
        norm=norm,
        norm_groups=1,
        weight_init="uniform",
        dtype="float64",
        param_dtype="float64",
    )


def build(kind, norm="batch", **keywords):
    return kind(
        model=network(norm),
        num_classes=WAYS,
        normalize=lambda inputs: inputs,
        **{**COMMON, **keywords},
    )


def plus(*parts, **keywords):
    switches = {name: name in parts for name in PARTS}
    return build(MamlPlusPlus, multi_step_loss_steps=ANNEALING, **switches, **keywords)


def episodes(number=2, seed=0):
    rng = np.random.default_rng(seed)

    def part(shots):
        shape = (number, WAYS * shots)
        return {
            "input": rng.normal(size=(*shape, 4)),
            "target": np.tile(np.repeat(np.arange(WAYS), shots), (number, 1)),
            "mask": np.ones(shape, bool),
        }

    return jax.tree.map(
        jnp.asarray, {"support": part(2), "query": part(4), "mask": np.ones(number, bool)}
    )


def one_episode(seed=0):
    batch = episodes(1, seed)
    return {name: {k: v[0] for k, v in batch[name].items()} for name in ("support", "query")}


def start(objective, seed=0):
    """Parameters and state, of which no slice is like another."""
    variables = objective.init(jax.random.key(seed), episodes())
    rng = np.random.default_rng(seed)
    moved = jax.tree.map(lambda leaf: leaf + 0.1 * rng.uniform(size=leaf.shape), variables)
    return moved.pop("params"), moved


def gradients(objective, params, state, episode):
    """Gradient, state and metrics of one episode."""
    function = jax.jit(objective.episode_gradients)
    gradient, (state, metrics) = function(params, state, episode, jax.random.key(1))
    return gradient, state, metrics


def same(one, other, tolerance=1e-10):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), one, other
    )


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_loss_weights_anneal_from_all_to_the_last(steps):
    np.testing.assert_allclose(loss_weights(0, 100, steps), np.full(steps, 1 / steps))
    last = np.eye(steps)[-1]
    for step in (100, 101, 10_000):
        np.testing.assert_array_equal(loss_weights(step, 100, steps), last)
    for step in (1, 50, 96, 98, 99):
        early = max(1 / steps - step / steps / 100, 0.03 / steps)
        expected = [early] * (steps - 1) + [1 - early * (steps - 1)]
        np.testing.assert_allclose(loss_weights(step, 100, steps), expected)


def test_without_its_parts_it_is_maml():
    episode, plain, ours = one_episode(), build(Maml), plus()
    params, state = start(plain)
    assert jax.tree.structure(ours.init(jax.random.key(0), episodes())) == jax.tree.structure(
        {"params": params, **state}
    )
    assert ours.inductive_statistics == plain.inductive_statistics
    jax.tree.map(
        np.testing.assert_array_equal,
        gradients(ours.at_step(3), params, state, episode),
        gradients(plain, params, state, episode),
    )
    measured = [jax.jit(o.measure_episode)(params, state, episode) for o in (ours, plain)]
    jax.tree.map(np.testing.assert_array_equal, *measured)


def apply(params, statistics, part):
    outputs, new = network().apply(
        {"params": params, "batch_stats": statistics},
        part["input"],
        train=True,
        mutable=["batch_stats"],
    )
    loss = optax.losses.softmax_cross_entropy_with_integer_labels(outputs, part["target"])
    return jnp.mean(loss), new["batch_stats"]


def reference(params, state, episode, parts, step):
    """MAML++ written out as loops: the loss of an episode and the state after it."""
    model = params["model"]
    statistics = state["batch_stats"]
    if "per_step_statistics" in parts:
        statistics = [jax.tree.map(lambda x, j=j: x[j], statistics) for j in range(STEPS + 1)]
    else:
        statistics = [statistics] * (STEPS + 1)

    def at(model, j):
        if "per_step_norm" not in parts or j == 0:
            return model
        return model | {
            layer: {name: leaf[j - 1] for name, leaf in leaves.items()}
            for layer, leaves in params["norm"].items()
        }

    early = max(1 - step / ANNEALING, 0.03) / STEPS
    if "multi_step_loss" in parts and step < ANNEALING:
        weights = [0] + [early] * (STEPS - 1) + [1 - (STEPS - 1) * early]
    else:
        weights = [0] * STEPS + [1]
    supports, queries = list(statistics), []
    adapted = [model]
    for j in range(STEPS):
        (_, supports[j]), slope = jax.value_and_grad(
            lambda model, j=j: apply(at(model, j), statistics[j], episode["support"]), has_aux=True
        )(model)
        updated = {}
        for layer, leaves in model.items():
            stays = "per_step_norm" in parts and layer.startswith("norm")
            updated[layer] = dict(leaves)
            for name in () if stays else leaves:
                rate = params["rates"][layer][name][j] if "learned_rates" in parts else RATE
                updated[layer][name] = leaves[name] - rate * slope[layer][name]
        model = updated
        adapted.append(model)
    after = supports if "per_step_statistics" in parts else statistics
    loss = 0.0
    for j, weight in enumerate(weights):
        if weight:
            value, queries = apply(at(adapted[j], j), after[j], episode["query"])
            loss += weight * value
            after = [*after[:j], queries, *after[j + 1 :]]
    if "per_step_statistics" in parts:
        return loss, {"batch_stats": jax.tree.map(lambda *x: jnp.stack(x), *after)}
    return loss, {"batch_stats": after[STEPS]}


@pytest.mark.parametrize(
    ("parts", "step"),
    [*[((part,), 4) for part in PARTS], (PARTS, 4), (PARTS, ANNEALING)],
    ids=[*PARTS, "all", "all, annealed"],
)
def test_each_part_and_all_of_them_against_loops_written_out(parts, step):
    objective, episode = plus(*parts), one_episode()
    params, state = start(objective)
    gradient, new_state, metrics = gradients(objective.at_step(step), params, state, episode)
    written = jax.jit(
        jax.value_and_grad(lambda p: reference(p, state, episode, parts, step), has_aux=True)
    )
    (loss, expected_state), expected = written(params)
    same(metrics["loss"].value(), loss)
    same(gradient, expected)
    same(new_state, expected_state)


def test_loops_and_recomputation_change_no_number():
    episode, objective = one_episode(), plus(*PARTS).at_step(2)
    params, state = start(objective)
    rolled = plus(*PARTS, unroll=1, remat=True).at_step(2)
    same(gradients(rolled, params, state, episode), gradients(objective, params, state, episode))


def test_the_rates_start_as_the_fixed_ones_and_have_their_derivative():
    episode, objective = one_episode(), plus("learned_rates", head_learning_rate=0.7)
    params, state = start(objective)
    fresh = objective.init(jax.random.key(0), episodes())["params"]["rates"]
    assert fresh["head"]["bias"].shape == (STEPS,)
    np.testing.assert_allclose(fresh["head"]["kernel"], 0.7)
    np.testing.assert_allclose(fresh["dense1"]["kernel"], RATE)

    @jax.jit
    def loss(j, change):
        rates = dict(params["rates"], dense1=dict(params["rates"]["dense1"]))
        rates["dense1"]["kernel"] = rates["dense1"]["kernel"].at[j].add(change)
        changed = {**params, "rates": rates}
        return objective.episode_loss(changed, state, episode, jax.random.key(1))[0]

    slope = gradients(objective, params, state, episode)[0]["rates"]["dense1"]["kernel"]
    for j in range(STEPS):
        difference = (loss(j, 1e-5) - loss(j, -1e-5)) / 2e-5
        np.testing.assert_allclose(slope[j], difference, rtol=1e-6, atol=1e-9)


def test_each_slice_of_the_statistics_acts_on_its_own_step_alone():
    objective, episode = plus(*PARTS, test_steps=STEPS + 2), one_episode()
    assert objective.inductive_statistics == "running"
    params, state = start(objective)
    answer = jax.jit(objective.answer_episode)
    before = answer(params, state, episode)
    for j in range(STEPS + 1):
        changed = jax.tree.map(lambda leaf, j=j: leaf.at[j].add(0.5), state)
        after = answer(params, changed, episode)
        np.testing.assert_array_equal(after["transductive"], before["transductive"])
        moved = [
            bool(np.any(a != b))
            for a, b in zip(after["inductive"], before["inductive"], strict=True)
        ]
        # Steps beyond those of training have the last slice.
        assert moved == [min(i, STEPS) == j for i in range(STEPS + 3)]


def test_the_trainer_anneals_and_trains_every_slice():
    objective = build(MamlPlusPlus, multi_step_loss_steps=2, first_order_steps=1)
    variables = objective.init(jax.random.key(0), episodes())
    optimizer = Optimizer(optax.with_extra_args_support(optax.sgd(0.1)))
    state = TrainState.create(variables, optimizer.init(variables["params"]), seed=0, ema=False)
    step = jax.jit(make_train_step(objective, optimizer))
    for i in range(3):
        old = state
        state, metrics = step(state, episodes(4, seed=i))
        assert np.isfinite(metrics["loss"].value())
        moved = jax.tree.map(
            lambda a, b: np.any(a != b, axis=tuple(range(1, a.ndim))),
            (old.model_state, old.params["norm"], old.params["rates"]["head"]),
            (state.model_state, state.params["norm"], state.params["rates"]["head"]),
        )
        assert all(np.all(slices) for slices in jax.tree.leaves(moved))
        # Before the first update it only acts through that update, which the first order ignores.
        scales = [params["model"]["norm1"]["scale"] for params in (old.params, state.params)]
        assert np.all(scales[0] == scales[1]) == (i == 0)


def test_the_order_of_the_gradient_anneals():
    episode, objective = one_episode(), plus(first_order_steps=5)
    params, state = start(objective)
    key = jax.random.key(1)
    function = jax.jit(
        lambda step: objective.at_step(step).episode_gradients(params, state, episode, key)
    )
    first = gradients(build(FirstOrderMaml), params, state, episode)
    second = gradients(build(Maml), params, state, episode)
    for step, (expected, *_) in {0: first, 4: first, 5: second, 99: second}.items():
        same(function(jnp.asarray(step))[0], expected)
    assert np.any(first[0]["model"]["dense1"]["kernel"] != second[0]["model"]["dense1"]["kernel"])


def test_each_phase_computes_only_what_it_needs():
    objective = plus("multi_step_loss", first_order_steps=5)
    params, state = start(objective)
    traced = jax.make_jaxpr(
        lambda step: objective.at_step(step).episode_gradients(
            params, state, one_episode(), jax.random.key(1)
        )
    )(jnp.asarray(0))
    (switch,) = [e for e in traced.jaxpr.eqns if e.primitive.name == "cond"]
    early, middle, late = [str(b).count("dot_general") for b in switch.params["branches"]]
    assert early < middle
    assert late < middle


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"multi_step_loss_steps": 0}, "multi_step_loss_steps is 0"),
        ({"first_order_steps": -1}, "first_order_steps is -1"),
        ({"first_order": True, "first_order_steps": 3}, "set one of them"),
        ({"inductive_statistics": "runing"}, "did you mean 'running'"),
    ],
)
def test_invalid_values_are_errors(keywords, words):
    with pytest.raises(ConfigError, match=words):
        build(MamlPlusPlus, **keywords)


@pytest.mark.parametrize("part", ["per_step_norm", "per_step_statistics"])
def test_a_part_wants_batch_normalisation(part):
    with pytest.raises(ConfigError, match=f"objective.{part} is True, but the model has no batch"):
        plus(part, norm="layer").init(jax.random.key(0), episodes())


def test_the_step_is_not_a_key_of_configs():
    assert "step" not in inspect.signature(MamlPlusPlus).parameters
    objective = plus(*PARTS)
    assert objective.at_step(7).step == 7
    assert objective.step is None
    assert dataclasses.replace(objective, inner_steps=2).inner_steps == 2


def test_a_norm_of_each_step_may_leave_nothing_to_adapt():
    objective = plus("per_step_norm", adapted=["^norm"])
    with pytest.raises(ConfigError, match="nothing is left to adapt"):
        objective.init(jax.random.key(0), episodes())
