"""The best checkpoint, early stopping and the report, by a metric's declaration alone."""

import dataclasses
import json
import re
import shutil
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from vitjax.core.errors import ConfigError
from vitjax.data import DataError
from vitjax.metrics import Collected, Mean, Measure, PerClass
from vitjax.models import MODELS, Model
from vitjax.objectives import Objective, objectives
from vitjax.training import evaluation, loop
from vitjax.training import experiment as experiments
from vitjax.training.task import TASKS, Task


@MODELS.register("nothing_but_a_head", image_size=8, input_shape=(8, 8, 1), paper="", year=2026)
class NothingButAHead(Model):
    num_classes: int | None = 1

    @nn.compact
    def __call__(self, images, train=False):
        return nn.Dense(1, name="head")(images.reshape(len(images), -1)[:, :1])


UNKNOWN = 1e9  # NaN is no value of a config


@dataclasses.dataclass(frozen=True)
class Median(Measure):
    """The median label, as a number of NumPy."""

    def collect(self, probabilities, labels):
        return labels

    def compute(self, examples):
        return np.float32(np.median(examples))


@objectives.register("scripted")
@dataclasses.dataclass(frozen=True)
class Scripted(Objective):
    """Trains nothing: step n has the n-th of ``values``."""

    own_collections: ClassVar = ("counted",)
    task: ClassVar = "scripted"

    values: tuple[float, ...] = ()
    higher: bool | None = None

    def inputs(self, batch):
        return jnp.zeros((1, 8, 8, 1))

    def wrap(self, rng, variables, batch):
        return {**variables, "counted": {"steps": jnp.zeros((), jnp.int32)}}

    def update(self, state, batch, rng, optimizer):
        counted = {"steps": state.model_state["counted"]["steps"] + 1}
        one = jnp.ones(())
        state = state.replace(model_state={**state.model_state, "counted": counted})
        return state, {"loss": Mean(one, one)}

    def evaluate(self, variables, batch):
        step = variables["counted"]["steps"]
        value = jnp.asarray(self.values)[jnp.maximum(step - 1, 0)] * jnp.ones(len(batch["mask"]))
        value = jnp.where(value == UNKNOWN, jnp.nan, value)
        return {
            "median": Collected(batch["label"], batch["mask"], Median()),
            "loss": Mean.of(jnp.zeros_like(value), batch["mask"]),
            "zeal": Mean.of(value, batch["mask"], higher_is_better=self.higher, unit="volts"),
            "each": PerClass(value[0] * jnp.arange(10.0), jnp.ones(10), self.higher, "volts"),
        }

    def final_metrics(self, variables, batch):
        return {"late": Mean.of(jnp.ones(len(batch["mask"])), batch["mask"], higher_is_better=True)}


@TASKS.register("scripted")
class ScriptedTask(Task):
    def report(self, evaluator, variables, results, folder):
        # The numbers are there before any figure is drawn.
        assert json.loads((folder.parent / "summary.json").read_text())["val"]
        raise RuntimeError("no ink")


def config(values, higher, best="val/zeal", **train):
    made = ConfigDict()
    made.model = {"name": "nothing_but_a_head"}
    made.data = {"source": "digits", "batch_size": 8, "eval_batch_size": 180}
    made.objective = {"name": "scripted", "values": values, "higher": higher}
    made.optimizer = {"name": "sgd", "learning_rate": 0.0}
    made.train = dict(steps=len(values), evaluate_every_steps=1, log_every_steps=1, **train)
    made.checkpoint = {"best": best, "keep": 1}
    return made


VALUES = (3.0, 5.0, 1.0, 4.0, 4.5, 2.0)


@pytest.mark.parametrize(("higher", "best"), [(True, 2), (False, 3)])
def test_the_best_checkpoint_is_the_best_by_the_declared_direction(higher, best, tmp_path):
    lines = []
    summary = loop.train(experiments.build(config(VALUES, higher)), tmp_path, lines.append)
    assert summary["checkpoint_step"] == best
    assert summary["val"]["zeal"] == pytest.approx(VALUES[best - 1])
    # A figure that fails is a warning, and the run ends well.
    assert any("warning: figures (scripted) are missing: RuntimeError: no ink" in x for x in lines)
    assert any("zeal" in line and line.startswith("val:") for line in lines)


def test_an_entry_of_an_array_chooses_the_best_checkpoint(tmp_path):
    built = experiments.build(config(VALUES, True, best="val/each_per_class/1"))
    summary = loop.train(built, tmp_path, lambda text: None)
    assert summary["checkpoint_step"] == 2
    (array,) = built.task.describe(summary["val"])[1:]
    assert array.startswith("each_per_class: 0 0.0000, 1 5.0000, 2 10.0000, 3 15.0000")


@pytest.mark.parametrize(
    ("best", "words"),
    [
        ("val/each_per_class", "an array of shape (10,); name one entry, such as 'val/each_per_c"),
        ("val/each_per_class/10", "did you mean 'val/each_per_class/1'"),
        ("val/zest", "(known: val/each, val/loss, val/median, val/zeal, val/each_per_class/0 to"),
        ("val/late", "'val/late', which is computed at the end of a run alone"),
    ],
)
def test_what_cannot_choose_a_checkpoint_is_named(best, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        experiments.build(config(VALUES, True, best=best))


@pytest.mark.parametrize(("higher", "stops"), [(True, 4), (False, 5)])
def test_patience_follows_the_declared_direction(higher, stops, tmp_path):
    rule = {"metric": "val/zeal", "patience": 2}
    lines = []
    summary = loop.train(
        experiments.build(config(VALUES, higher, early_stopping=rule)), tmp_path, lines.append
    )
    assert summary["steps"] == stops
    assert any("val/zeal has not improved for 2 evaluations" in line for line in lines)


def test_a_metric_without_direction_chooses_nothing():
    with pytest.raises(ConfigError, match="'val/zeal', which declares no direction"):
        experiments.build(config(VALUES, None))


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ((), "'scripted' cannot be trained: Scripted defines none of loss, gradients and update"),
        (("one", "two"), "an optimizer for each of one, two, but Scripted does not define update"),
    ],
)
def test_a_method_that_cannot_be_trained_is_an_error_of_the_config(groups, words, monkeypatch):
    monkeypatch.setattr(Scripted, "update", Objective.update)
    monkeypatch.setattr(Scripted, "parameter_groups", groups)
    with pytest.raises(ConfigError, match=words):
        experiments.build(config(VALUES, True))


def test_numbers_of_a_run_are_finite_json(tmp_path):
    loop.train(experiments.build(config(VALUES[:2], True)), tmp_path, lambda text: None)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {r["split"] for r in records} == {"train", "val"}
    assert np.isfinite([r["zeal"] for r in records if r["split"] == "val"]).all()


def test_a_first_value_of_nan_does_not_use_up_the_patience(tmp_path):
    rule = {"metric": "val/zeal", "patience": 3}
    made = config((UNKNOWN, 2.0, 3.0, 4.0, 5.0), True, early_stopping=rule)
    summary = loop.train(experiments.build(made), tmp_path, lambda text: None)
    assert summary["steps"] == summary["checkpoint_step"] == 5


def test_patience_begins_anew_with_another_metric(tmp_path):
    def run(steps, metric):
        rule = {"metric": metric, "patience": 2}
        made = config((-3.0, 5.0, 5.0, 5.0, 5.0, 5.0), False, early_stopping=rule)
        made.train.steps = steps
        return loop.train(experiments.build(made), tmp_path, lambda text: None)["steps"]

    # At step 2, the best value is -3 and one evaluation was worse. The loss is 0 at each step: its
    # first evaluation is the best one, and two more use up the patience.
    assert run(2, "val/zeal") == 2
    assert run(6, "val/loss") == 5


def test_a_damaged_best_checkpoint_is_replaced_by_the_last_state(tmp_path):
    built = experiments.build(config(VALUES, True))
    assert loop.train(built, tmp_path, lambda text: None)["checkpoint_step"] == 2
    shutil.rmtree(tmp_path / "checkpoints" / "2" / "state")
    lines = []
    summary = loop.train(experiments.build(config(VALUES, True)), tmp_path, lines.append)
    assert summary["checkpoint_step"] == 6
    warned = [line for line in lines if line.startswith("warning: ") and "step 2 is dam" in line]
    assert len(warned) == 1
    assert not any("trying the previous" in line for line in lines)


def test_results_that_cannot_be_printed_are_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(ScriptedTask, "describe", lambda self, results: 1 / 0)
    lines = []
    loop.train(experiments.build(config(VALUES[:1], True)), tmp_path, lines.append)
    assert "warning: the results of val cannot be printed: ZeroDivisionError" in "\n".join(lines)


def test_results_of_a_task_without_examples_are_described():
    task = experiments.build(config(VALUES, True)).task
    assert task.describe({"zeal": 1.0, "loss": 0.5}) == ["loss 0.5000, zeal 1.0000"]
    assert task.describe({"zeal": 1.0, "examples": 3}) == ["zeal 1.0000 on 3 examples"]


@pytest.mark.parametrize("merged", [1, 2, 64])
def test_collected_examples_are_merged_before_the_end(merged, monkeypatch):
    made = config(VALUES, True)
    made.data.eval_batch_size = 16
    built = experiments.build(made)
    variables = built.parallel.place_state(built.initial_state()).variables
    monkeypatch.setattr(evaluation, "_MERGED", merged)
    joined, real = [], Median.join
    monkeypatch.setattr(Median, "join", lambda self, p: joined.append(len(p)) or real(self, p))
    values = evaluation.Evaluator(built).metrics(variables, "val")
    assert max(joined) <= max(merged + 1, 12)
    assert values["median"] == np.median(built.data.labels("val"))
    assert type(values["median"]) is float
    assert values["examples"] == built.data.num_examples("val")


def test_a_split_without_examples_is_an_error(monkeypatch):
    built = experiments.build(config(VALUES, True))
    variables = built.parallel.place_state(built.initial_state()).variables
    monkeypatch.setattr(built.data, "eval_batches", lambda *args, **kw: (x for x in ()))
    with pytest.raises(DataError, match="split 'val' has no examples"):
        evaluation.Evaluator(built).metrics(variables, "val")
