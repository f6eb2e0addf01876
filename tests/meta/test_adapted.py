"""Classifiers adapted once: the logits of an evaluated episode, for queries that come later."""

import jax
import numpy as np
import pytest
from tiny_episodes import episode, episodes, identity, mlp, variables

from vitjax import meta
from vitjax.core.errors import ConfigError
from vitjax.meta.episodic import MODES, Episodic

WAYS = 3
# The constructor, its keywords, those of the model, and whether it takes any number of classes.
METHODS = {
    "maml": (meta.Maml, {"inner_steps": 2, "test_steps": 3}, {}, False),
    "fomaml": (meta.FirstOrderMaml, {"inner_steps": 2}, {}, False),
    "zeros": (meta.Maml, {"inner_steps": 2, "head": "zeros"}, {}, True),
    "prototypes": (meta.Maml, {"inner_steps": 2, "head": "prototypes"}, {}, True),
    "running": (meta.Maml, {"inner_steps": 2, "inductive_statistics": "running"}, {}, False),
    "anil": (meta.Anil, {"inner_steps": 2}, {}, False),
    "boil": (meta.Boil, {"inner_steps": 2}, {}, False),
    "meta_sgd": (meta.MetaSgd, {"inner_steps": 2, "head": "zeros"}, {}, False),
    "cavia": (meta.Cavia, {"inner_steps": 2}, {"num_context": 3}, False),
    "mamlpp": (meta.MamlPlusPlus, {"inner_steps": 2, "test_steps": 3}, {}, False),
    "imaml": (meta.ImplicitMaml, {"inner_steps": 3}, {}, False),
    "reptile": (meta.Reptile, {"inner_steps": 2, "test_steps": 3, "test_batch_size": 2}, {}, False),
    "protonet": (meta.ProtoNet, {}, {}, True),
    "apart": (meta.ProtoNet, {"joint": False, "inductive_statistics": "support"}, {}, True),
    "nearest_centroid": (meta.NearestCentroid, {"transform_features": "center_l2"}, {}, True),
    "fine_tuning": (meta.FineTuning, {"test_steps": 3}, {}, True),
    "all_layers": (meta.FineTuning, {"test_steps": 2, "adapted": ("",)}, {}, True),
}


def made(name, norm="batch", ways=WAYS):
    kind, arguments, model, _ = METHODS[name]
    headless = issubclass(kind, (meta.ProtoNet, meta.FineTuning, meta.NearestCentroid))
    if issubclass(kind, (meta.FineTuning, meta.NearestCentroid)):
        arguments = {**arguments, "num_train_classes": 6}
    return kind(
        model=mlp(None if headless else ways, norm, **model),
        num_classes=ways,
        normalize=identity,
        **arguments,
    )


def unequal(batch, number=0):
    """The first episode with 4, 2 and 1 support examples of the classes."""
    one = episode(batch, number)
    kept = np.array([0, 1, 2, 3, 4, 5, 8])
    return {**one, "support": jax.tree.map(lambda x: x[kept], one["support"])}


def answered(objective, params, state, one, mode, inputs):
    adapted = objective.adapt_to(params, state, one["support"], mode)
    return objective.answer_adapted(adapted, inputs, mode)


def classified(objective, params, state, one, mode):
    compute = jax.jit(lambda *args: answered(objective, *args, mode, one["query"]["input"]))
    return compute(params, state, one)


@pytest.mark.parametrize("name", METHODS)
def test_the_logits_are_those_of_the_evaluated_episode(name):
    objective = made(name)
    batch = episodes(number=1)
    params, state = variables(objective, batch)
    one = unequal(batch)

    @jax.jit  # one form, compiled once
    def compute(params, state, one):
        queries = one["query"]["input"]
        return (
            objective.answer_episode(params, state, one),
            {mode: answered(objective, params, state, one, mode, queries) for mode in MODES},
            answered(objective, params, state, one, "inductive", queries[1:2]),
        )

    expected, found, alone = compute(params, state, one)
    for mode in MODES:
        np.testing.assert_allclose(found[mode], expected[mode][-1], rtol=2e-4, atol=2e-5)
    assert not np.allclose(expected["transductive"], expected["inductive"], rtol=1e-3)
    # Inductive: an image alone has the answer that it has among others.
    np.testing.assert_allclose(alone[0], expected["inductive"][-1][1], rtol=2e-4, atol=2e-5)


def test_a_method_that_answers_episodes_its_own_way_classifies_in_that_way():
    class Doubled(meta.Maml):
        def answer_episode(self, params, model_state, episode):
            found = super().answer_episode(params, model_state, episode)
            return {mode: 2 * outputs for mode, outputs in found.items()}

    plain = made("fomaml", norm="none")
    doubled = Doubled(model=plain.model, num_classes=WAYS, normalize=identity, inner_steps=2)
    batch = episodes(number=1)
    params, state = variables(plain, batch)
    one = episode(batch)
    found = classified(doubled, params, state, one, "inductive")
    expected = 2 * classified(plain, params, state, one, "inductive")
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def test_a_method_that_only_answers_episodes_has_the_same_classifier():
    objective = made("maml")
    batch = episodes(number=1)
    params, state = variables(objective, batch)
    one = unequal(batch)
    found = Episodic.adapt_to(objective, params, state, one["support"], "inductive")
    slow = Episodic.answer_adapted(objective, found, one["query"]["input"], "inductive")
    quick = classified(objective, params, state, one, "inductive")
    np.testing.assert_allclose(slow, quick, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", METHODS)
def test_more_classes_than_the_run_s(name):
    objective, takes_any = made(name, norm="none"), METHODS[name][3]
    assert objective.for_ways(2).num_classes in (2, WAYS)
    if not takes_any:
        with pytest.raises(ConfigError, match=r"there are 5 classes, and .* at most 3"):
            objective.for_ways(5)
        return
    params, state = variables(objective, episodes(number=1))
    wide, batch = made(name, norm="none", ways=5), episodes(number=1, ways=5)
    # Nothing of a run of five classes depends on how wide its own head was.
    expected = jax.jit(wide.answer_episode)(*with_head(wide, params, state, batch), episode(batch))
    found = classified(objective.for_ways(5), params, state, episode(batch), "inductive")
    assert found.shape == (10, 5)
    np.testing.assert_allclose(found, expected["inductive"][-1], rtol=2e-4, atol=2e-5)


def with_head(objective, params, state, batch):
    """``params`` in a run of ``objective``, whose head is a fresh one."""
    fresh, _ = variables(objective, batch, seed=1)
    own = {name: tree for name, tree in params["model"].items() if name != "head"}
    return {**fresh, "model": {**fresh["model"], **own}}, state


def test_fewer_classes_use_the_first_outputs():
    objective = made("maml", norm="none")
    assert objective.for_ways(2) is objective
    batch = episodes(number=1, ways=2)
    params, state = variables(objective, batch)
    one = episode(batch)
    found = classified(objective, params, state, one, "inductive")[:, :2]
    # As the answers of an evaluation, of which the logits of absent classes do not count.
    expected = objective.query_probabilities({"params": params, **state}, batch)["inductive"]
    np.testing.assert_allclose(jax.nn.softmax(found), expected[0][:, :2], rtol=1e-4)
    assert np.isnan(expected[0][:, 2:]).all()


@pytest.mark.parametrize(
    "name", ["maml", "cavia", "mamlpp", "reptile", "nearest_centroid", "apart", "fine_tuning"]
)
def test_a_classifier_is_a_model_with_variables(name):
    objective = made(name)
    batch = episodes(number=1)
    params, state = variables(objective, batch)
    one = unequal(batch)
    inputs = one["query"]["input"]

    def run(params, state, support):
        adapted = objective.adapt_to(params, state, support, "inductive")
        return adapted, objective.before_adaptation(params, state, support, "inductive")

    adapted, initial = jax.jit(run)(params, state, one["support"])
    expected = objective.answer_adapted(adapted, inputs, "inductive")
    for ways in (WAYS, 2):
        model, own = objective.as_model(adapted, ways)
        found = model.apply(own, inputs)
        np.testing.assert_allclose(found, expected[:, :ways], rtol=1e-5, atol=1e-5)
    if name in ("nearest_centroid", "apart"):
        assert initial is None
        return
    answers = jax.jit(objective.answer_episode)(params, state, one)["inductive"]
    model, own = objective.as_model(initial, WAYS)
    np.testing.assert_allclose(model.apply(own, inputs), answers[0], rtol=2e-4, atol=2e-5)


def test_a_method_that_answers_episodes_its_own_way_is_no_model():
    class Doubled(meta.Maml):
        def answer_episode(self, params, model_state, episode):
            found = super().answer_episode(params, model_state, episode)
            return {mode: 2 * outputs for mode, outputs in found.items()}

    plain = made("fomaml", norm="none")
    doubled = Doubled(model=plain.model, num_classes=WAYS, normalize=identity, inner_steps=2)
    with pytest.raises(ConfigError, match="Doubled defines no `as_model`"):
        doubled.as_model({}, WAYS)
