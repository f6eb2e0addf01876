"""A task names the interfaces that it needs; a run without them is an error before training."""

import dataclasses
import types
from typing import ClassVar

import jax
import jax.numpy as jnp
import pytest

import vitjax
from vitjax.core.errors import ConfigError
from vitjax.data import DataError, LabelledDataset
from vitjax.metrics import Mean
from vitjax.objectives import Classifier, Objective, objectives
from vitjax.tasks import Classification
from vitjax.training.task import TASKS, Task


class Squares:
    """The squared error of probabilities."""

    def logits(self, variables, batch):
        return self.model.apply(variables, self.normalize(batch["image"]))

    def evaluate(self, variables, batch):
        truth = jax.nn.one_hot(batch["label"], 10)
        errors = jnp.sum((jax.nn.softmax(self.logits(variables, batch)) - truth) ** 2, axis=-1)
        return {"loss": Mean.of(errors, batch["mask"], higher_is_better=False)}

    def loss(self, params, model_state, batch, rng):
        metrics = self.evaluate({"params": params}, batch)
        return self.average(metrics["loss"]), (model_state, metrics)


@objectives.register("interfaces_full")
@dataclasses.dataclass(frozen=True)
class Full(Squares, Classifier):
    def predict(self, variables, batch):
        return jax.nn.softmax(self.logits(variables, batch))


@objectives.register("interfaces_bare")
@dataclasses.dataclass(frozen=True)
class Bare(Squares, Objective):
    task: ClassVar = "classification"
    targets: ClassVar = ("class",)

    normalize: object

    def inputs(self, batch):
        return self.normalize(batch["image"][:1])


@objectives.register("interfaces_other_task")
@dataclasses.dataclass(frozen=True)
class OtherTask(Full):
    task: ClassVar = "segmentation"


def build(objective):
    return vitjax.build(
        {
            "model": {"name": "mlp_omniglot", "hidden": (4,)},
            "data": {"source": "digits", "batch_size": 4},
            "objective": {"name": objective},
            "optimizer": {"name": "sgd", "learning_rate": 0.1},
            "train": {"steps": 1},
        }
    )


def test_a_classifier_has_what_its_task_needs(tmp_path):
    experiment = build("interfaces_full")
    task = experiment.task
    assert isinstance(task, Classification)
    assert isinstance(task.data, LabelledDataset)
    assert task.objective.num_classes == 10
    counts = task.inspect(tmp_path / "images.png", say=lambda text: None)
    assert sum(counts["train"].values()) == task.data.num_examples("train")
    assert (tmp_path / "images.png").is_file()


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        ("interfaces_bare", r"'classification' needs .*\.Classifier, and Bare does not derive"),
        ("interfaces_other_task", r"'segmentation' needs .*\.MaskDataset, and Data does not"),
    ],
)
def test_an_interface_that_is_missing_is_named(objective, words):
    with pytest.raises(ConfigError, match=words):
        build(objective)


def test_an_objective_for_any_data_has_a_model_without_a_head():
    class Any(Bare):
        targets: ClassVar = None

    data = types.SimpleNamespace(num_classes=10)
    assert Bare.model_outputs(data) == 10
    assert Any.model_outputs(data) is None


def test_a_task_s_needs_are_interfaces_of_data_and_objectives():
    for name in TASKS:
        task = TASKS[name]
        assert issubclass(task, Task)
        assert issubclass(task.needed_data, vitjax.data.Dataset)
        assert issubclass(task.needed_objective, Objective)


def test_examples_that_are_no_images_say_so():
    data = vitjax.data.create(source="sinusoid", batch_size=1, episodes={"shots": 1})
    with pytest.raises(DataError, match=r"a\.png.*examples are not images"):
        data.read_image("a.png")
    assert data.classes("val") == ()
    assert data.family.parameters
