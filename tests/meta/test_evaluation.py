"""What an evaluation over episodes says: intervals, both modes, every episode once."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from vitjax.core.errors import ConfigError
from vitjax.core.validation import check_keywords
from vitjax.meta import evaluation
from vitjax.training import experiment as experiments
from vitjax.training import loop
from vitjax.training.checkpoints import Checkpoints
from vitjax.training.evaluation import Evaluator


def few_shot(model=None, data=None, objective=None, **sections):
    data = {
        "source": "glyphs",
        "classes": 30,
        "image_size": 16,
        "batch_size": 2,
        "eval_batch_size": 4,
        **(data or {}),
    }
    data["episodes"] = {
        "ways": 3,
        "shots": 1,
        "queries": 4,
        "val_episodes": 3,
        "test_episodes": 6,
        **data.get("episodes", {}),
    }
    return ConfigDict(
        {
            "model": model or {"name": "conv4_omniglot", "filters": 4, "depth": 2},
            "data": data,
            "objective": {
                "name": "maml",
                "inner_steps": 1,
                "inner_learning_rate": 0.5,
                **(objective or {}),
            },
            "optimizer": {"name": "adam", "learning_rate": 1e-3},
            "train": {"steps": 4, "evaluate_every_steps": 2},
            "parallel": {"devices": 1},
            **sections,
        }
    )


def sinusoids(**sections):
    config = few_shot(model={"name": "mlp_sinusoid", "hidden": (4,)}, **sections)
    config.data = {
        "source": "sinusoid",
        "batch_size": 8,
        "eval_batch_size": 64,
        "episodes": {"shots": 5, "queries": 10, "val_episodes": 20, "test_episodes": 600},
    }
    return config


def evaluated(config, split="test"):
    """The experiment's evaluator, and its fresh variables on the devices."""
    experiment = experiments.build(config)
    variables = experiment.parallel.place_state(experiment.initial_variables())
    return Evaluator(experiment), variables


def measures(evaluator, variables, split):
    """What the objective measures on each episode of ``split``."""
    return evaluator.gather(evaluator.experiment.objective.measure, variables, split)[0]


def results_of(evaluator, variables, split):
    return evaluator.experiment.task.evaluate(evaluator, variables, split)


# ----------------------------------------------------------------------------------- arithmetic


def test_the_interval_is_that_of_the_mean():
    # Deviations -1.5, -.5, .5, 1.5: s^2 = 5 / 3, and 1.96 sqrt(5 / 3) / 2 = 1.26517...
    values = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0]])
    np.testing.assert_allclose(evaluation.interval(values), [1.96 * np.sqrt(5 / 3) / 2, 0])
    assert np.isnan(evaluation.interval(np.array([0.5])))


def test_results_of_a_classification():
    measured = {
        mode: {
            "accuracy": np.array([[0.2, right], [0.4, 1.0]], np.float32),
            "loss": np.array([[2.0, 1.0], [4.0, 0.5]], np.float32),
        }
        for mode, right in (("transductive", 0.8), ("inductive", 0.6))
    }
    protocol = {"ways": 5, "shots": 1, "queries": 15, "episodes": 2}
    found = evaluation.results(measured, protocol)
    wanted = {
        "accuracy": 0.9,
        # s of 0.8 and 1.0 is 0.1 sqrt(2).
        "ci95": 1.96 * 0.1,
        "loss": 0.75,
        "per_step": [0.3, 0.9],
        "per_step_ci95": [1.96 * 0.1, 1.96 * 0.1],
        "per_step_loss": [3.0, 0.75],
    }
    assert list(found["transductive"]) == list(wanted)
    for key, value in wanted.items():
        assert found["transductive"][key] == pytest.approx(value)
    assert found["inductive"]["accuracy"] == pytest.approx(0.8)
    rest = {key: found[key] for key in found if key not in ("transductive", "inductive")}
    assert rest == {**protocol, "test_steps": 1}
    assert evaluation.describe(found) == [
        "transductive 90.00% ± 19.60% (2 episodes, 5-way 1-shot, 15 queries per class)",
        "inductive 80.00% ± 39.20% (2 episodes, 5-way 1-shot, 15 queries per class)",
    ]
    assert len(evaluation.table(found)) == 3


def test_results_of_a_regression_are_squared_errors_with_an_interval():
    measured = {"loss": np.array([[4.0, 1.0], [6.0, 3.0]])}
    found = evaluation.results(
        {"transductive": measured, "inductive": measured}, {"shots": 5, "queries": 10}
    )
    assert set(found) == {
        *("transductive", "inductive", "episodes", "shots", "queries", "test_steps")
    }
    assert found["inductive"] == {
        "loss": 2.0,
        "ci95": pytest.approx(1.96),
        "per_step": [5.0, 2.0],
        "per_step_ci95": pytest.approx([1.96, 1.96]),
    }
    assert evaluation.describe(found) == [
        "transductive and inductive mean squared error 2 ± 2 (2 episodes, 5-shot, 10 queries)"
    ]


def test_ranges_of_ways_and_shots_are_said():
    words = evaluation.protocol({"ways": [5, 20], "shots": [1, 5], "queries": 1, "episodes": 1})
    assert words == "1 episode, 5 to 20-way 1 to 5-shot, 1 query per class"


def test_an_ensemble_counts_only_queries_that_there_are():
    probabilities = np.array([[[0.5, 0.5 - 1e-3], [0.2, 0.8], [1.0, 0.0]]])
    targets, mask = np.array([[0, 0, 1]]), np.array([[True, True, False]])
    both = {"transductive": probabilities, "inductive": probabilities[:, ::-1][:, [2, 1, 0]]}
    found = evaluation.of_ensemble(both, targets, mask)["transductive"]
    assert found["accuracy"] == 0.5
    assert found["loss"] == pytest.approx(-(np.log(0.5) + np.log(0.2)) / 2)
    assert np.isnan(found["ci95"])
    # A class that the episode does not show has no probability, and its queries do not count.
    unknown = np.array([[[0.4, np.nan, 0.6], [0.9, np.nan, 0.1], [0.3, np.nan, 0.7]]])
    targets, mask = np.array([[2, 1, 0]]), np.ones((1, 3), bool)
    found = evaluation.of_ensemble(dict.fromkeys(both, unknown), targets, mask)["inductive"]
    assert found["accuracy"] == 0.5
    assert found["loss"] == pytest.approx(-(np.log(0.6) + np.log(0.3)) / 2)


# ------------------------------------------------------------------------------------- episodes


def test_every_episode_counts_once_whatever_the_batch():
    by_batch = {}
    for size in (64, 600):
        config = sinusoids()
        config.data.eval_batch_size = size
        evaluator, variables = evaluated(config)
        by_batch[size] = measures(evaluator, variables, "test")
        results = results_of(evaluator, variables, "test")
        assert results["episodes"] == 600
        assert results["shots"] == 5
    for mode in ("transductive", "inductive"):
        assert by_batch[64][mode]["loss"].shape == (600, 2)
        assert len(np.unique(by_batch[64][mode]["loss"][:, 0])) == 600
        np.testing.assert_allclose(
            by_batch[64][mode]["loss"], by_batch[600][mode]["loss"], rtol=1e-5
        )


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_devices_give_the_episodes_in_order(mode):
    alone, variables = evaluated(sinusoids())
    wanted = measures(alone, variables, "val")
    evaluator, variables = evaluated(sinusoids(parallel={"mode": mode, "devices": 8}))
    found = measures(evaluator, variables, "val")
    assert found["inductive"]["loss"].shape == (20, 2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, wanted)
    # The first episodes, which figures are drawn from, are the same, too.
    first = evaluator.first(lambda _, batch: batch, variables, "val", 3)
    other = alone.first(lambda _, batch: batch, variables_of(alone), "val", 3)
    jax.tree.map(np.testing.assert_array_equal, first, other)
    assert len(first["amplitude"]) == 3


def variables_of(evaluator):
    return evaluator.experiment.parallel.place_state(evaluator.experiment.initial_variables())


@pytest.fixture(scope="module")
def images():
    """An evaluator of a model with batch normalisation, its variables, and a batch of episodes."""
    config = few_shot(
        data={"eval_batch_size": 50, "episodes": {"ways": 5, "queries": 5, "test_episodes": 150}}
    )
    return evaluated(config)


def test_before_adaptation_one_in_as_many_as_ways_is_right(images):
    evaluator, variables = images
    results = results_of(evaluator, variables, "test")
    for mode in ("transductive", "inductive"):
        before, width = results[mode]["per_step"][0], results[mode]["per_step_ci95"][0]
        assert abs(before - 1 / 5) < width < 0.05
        assert results[mode]["accuracy"] > before + 2 * width


def test_the_answer_to_a_query_alone_is_the_inductive_one(images):
    evaluator, variables = images
    objective = evaluator.experiment.objective
    batch = evaluator.first(lambda _, batch: batch, variables, "test", 4)
    measure = jax.jit(objective.measure)
    together = measure(variables, {**batch, "mask": np.ones(4, bool)})
    alone = []
    for place in range(batch["query"]["target"].shape[1]):
        query = jax.tree.map(lambda x, at=place: x[:, at : at + 1], batch["query"])
        one = {"support": batch["support"], "query": query, "mask": np.ones(4, bool)}
        alone.append(measure(variables, one))
    mean = jax.tree.map(lambda *parts: np.mean(np.stack(parts), axis=0), *alone)
    for name in ("accuracy", "loss"):
        np.testing.assert_allclose(
            mean["inductive"][name], together["inductive"][name], rtol=2e-4, atol=1e-6
        )
    # By itself a query has no batch whose statistics could help.
    change = np.abs(mean["transductive"]["loss"] - together["transductive"]["loss"])
    assert change.min() > 1e-3


def test_probabilities_are_those_of_the_measured_answers(images):
    evaluator, variables = images
    of_one = evaluator.experiment.task.ensemble(evaluator, [variables], "test")
    results = results_of(evaluator, variables, "test")
    for mode in ("transductive", "inductive"):
        for name in ("accuracy", "ci95", "loss"):
            assert of_one[mode][name] == pytest.approx(results[mode][name], rel=1e-4)


# ---------------------------------------------------------------------------- choosing a checkpoint


def test_training_and_its_choice_see_no_test_episode(tmp_path, monkeypatch):
    config = sinusoids(checkpoint={"best": "val/loss"})
    config.data.episodes.test_episodes = 16
    experiment = experiments.build(config)
    seen = []
    real = experiment.data.eval_batches

    def spy(split, **share):
        seen.append(split)
        return real(split, **share)

    monkeypatch.setattr(experiment.data, "eval_batches", spy)
    chosen = []
    kept = loop._Loop._kept

    def choice(self):
        chosen.append(list(seen))
        return kept(self)

    monkeypatch.setattr(loop._Loop, "_kept", choice)
    loop.train(experiment, tmp_path)
    assert chosen == [["val", "val"]]
    assert "test" in seen


def test_the_best_cannot_be_chosen_by_a_test_metric():
    with pytest.raises(ConfigError, match=r"config.checkpoint.best is 'test/loss'"):
        experiments.build(sinusoids(checkpoint={"best": "test/loss"}))


def test_at_least_one_of_the_best_is_kept():
    with pytest.raises(ConfigError, match=r"checkpoint.keep_best is 0; it must be at least 1"):
        check_keywords(
            Checkpoints, {"keep_best": 0}, where="config.checkpoint", given=["directory"]
        )


def test_checkpoints_are_ranked_by_their_validation(tmp_path):
    kept = Checkpoints(
        tmp_path,
        keep=1,
        best="val/loss",
        higher_is_better=False,
        keep_best=2,
        asynchronous=False,
    )
    for step, loss in enumerate([0.3, 0.1, 0.2, 0.5, 0.4]):
        kept.save({"x": np.ones(2)}, step=step, progress={}, config={}, metrics={"val/loss": loss})
    # Two of the best, and the newest.
    assert kept.steps() == [1, 2, 4]
    assert kept.best_steps() == [1, 2, 4]
    assert kept.best_step() == 1
    kept.close()


def test_the_error_for_a_renamed_key_names_the_new_one():
    with pytest.raises(ConfigError, match=r"config.objective: .*'tasks_at_once'; .*'episodes_at_o"):
        experiments.build(few_shot(objective={"tasks_at_once": 2}))
