"""A user's own model, objective, metric, source, transform and task: every command has them."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from registering import forgotten

from vitjax.cli import main

MODEL = """
import flax.linen as nn
from vitjax.models import MODELS, Model

@MODELS.register("my_mlp", image_size=8, input_shape=(8, 8, 1), paper="")
class MyMLP(Model):
    num_classes: int | None = 2
    width: int = 4

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.relu(nn.Dense(self.width, name="hidden")(images.reshape(len(images), -1)))
        return nn.Dense(self.num_classes, name="head")(x) if self.num_classes else x
"""

DATA = """
import dataclasses
import numpy as np
from vitjax.data import sources, transforms
from vitjax.data.sources import ArraySplit, Source

@sources.register("my_stripes")
def stripes(examples: int = 32) -> Source:
    labels = np.arange(examples, dtype=np.int32) % 2
    images = np.zeros((examples, 8, 8, 1), np.uint8)
    images[labels == 0, ::2] = 255
    images[labels == 1, :, ::2] = 255
    split = ArraySplit(images, labels, "stripes")
    return Source({"train": split, "val": split, "test": split}, class_names=("rows", "columns"))

@transforms.register("my_noise")
@dataclasses.dataclass(frozen=True)
class Noise(transforms.Photometric):
    deviation: float = 10.0

    def change(self, image, rng):
        noisy = image + rng.normal(0, self.deviation, image.shape)
        return np.clip(noisy, 0, 255).astype(np.uint8)
"""

METRIC = """
import dataclasses
import jax.numpy as jnp
from vitjax.metrics import MEASURES, Measure

@MEASURES.register("my_doubt", target="class")
@dataclasses.dataclass(frozen=True)
class Doubt(Measure):
    higher_is_better = False
    unit = "fraction"

    def collect(self, outputs, batch):
        return 1 - jnp.max(outputs, axis=-1)

    def compute(self, examples):
        return float(examples.mean())
"""

TASK = """
from vitjax.tasks import Classification
from vitjax.training.task import TASKS

@TASKS.register("my_task")
class MyTask(Classification):
    def describe(self, results, *, full=False):
        return [f"mine: {line}" for line in super().describe(results, full=full)]

    def predict(self, variables, files, output):
        return [{**found, "mine": True} for found in super().predict(variables, files, output)]

    def report(self, evaluator, variables, results, folder):
        folder.mkdir(exist_ok=True)
        (folder / "mine.txt").write_text(", ".join(results))

    def inspect(self, output, say):
        say("mine")
        return super().inspect(output, say)
"""

# The config registers the objective itself, and uses a class of a file that it imports.
CONFIG = """
import dataclasses
import jax.numpy as jnp
from vitjax.objectives import Classification, Mean, objectives

@objectives.register("my_classification")
@dataclasses.dataclass(frozen=True)
class MyClassification(Classification):
    task = "my_task"

    scale: float = 1.0

    def metrics(self, logits, labels, weights):
        largest = self.scale * jnp.max(jnp.abs(logits), axis=-1)
        mean = Mean.of(largest, weights, higher_is_better=False)
        return {**super().metrics(logits, labels, weights), "largest": mean}

def get_config():
    return dict(
        imports=("my_model.py", "parts/my_data.py", "my_metric.py", "my_task.py"),
        model=dict(name="my_mlp", width=6),
        data=dict(source="my_stripes", batch_size=16, train_transforms="my_noise(20)"),
        objective=dict(name="my_classification", scale=2.0, measures=("my_doubt",)),
        optimizer=dict(name="adam", learning_rate=1e-2),
        train=dict(steps=2),
    )
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    (folder / "parts").mkdir()
    (folder / "my_config.py").write_text(CONFIG)
    (folder / "my_model.py").write_text(MODEL)
    (folder / "my_metric.py").write_text(METRIC)
    (folder / "my_task.py").write_text(TASK)
    (folder / "parts" / "my_data.py").write_text(DATA)
    return folder


@pytest.fixture
def elsewhere(tmp_path, monkeypatch, forgotten_after_the_test):
    """Another directory, in a process that has not seen the user's files."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments):
    """A command in this process, which then has not seen the user's files."""
    with forgotten():
        assert main(arguments) == 0


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A run's folder, trained for 2 steps and resumed for 2 more; the user's files are gone."""
    workdir = tmp_path_factory.mktemp("runs") / "mine"
    command("data", f"--config={folder / 'my_config.py'}", f"--output={workdir.parent / 'a.png'}")
    train = ("train", f"--config={folder / 'my_config.py'}", f"--workdir={workdir}")
    command(*train)
    command(*train, "--config.train.steps=4")
    shutil.move(folder, folder.with_name("gone"))
    return workdir


def test_train_and_resume_keep_the_files(run):
    assert {p.name for p in (run / "code").iterdir()} == {
        *("my_config.py", "my_model.py", "my_data.py", "my_metric.py", "my_task.py"),
        "sha256.json",
    }
    saved = json.loads((run / "config.json").read_text())
    assert saved["imports"] == [
        f"code/my_{name}.py" for name in ("config", "model", "data", "metric", "task")
    ]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["steps"] == 4
    assert summary["test"]["largest"] > 0
    assert 0 <= summary["test"]["my_doubt"] <= 0.5
    assert (run / "figures" / "mine.txt").read_text()


def test_training_resumes_by_the_run_s_folder_alone(vitjax, run, tmp_path):
    moved = shutil.copytree(run, tmp_path / "moved")
    status, output, errors = vitjax("train", f"--workdir={moved}", "--config.train.steps=6")
    assert status == 0, errors
    assert "Resuming from the checkpoint of step 4" in output
    assert "changed since: config.train.steps: 4 -> 6" in output
    assert json.loads((moved / "summary.json").read_text())["steps"] == 6
    again = json.loads((moved / "config.json").read_text())
    assert again["imports"] == json.loads((run / "config.json").read_text())["imports"]
    status, _, errors = vitjax("train", f"--workdir={tmp_path / 'none'}")
    assert status == 2
    assert "config is missing" in errors
    assert not (tmp_path / "none").exists()


def test_evaluate_needs_the_run_s_folder_alone(vitjax, run, tmp_path):
    moved = shutil.copytree(run, tmp_path / "moved")
    status, output, errors = vitjax("evaluate", f"--workdir={moved}")
    assert status == 0, errors
    assert "test: mine: accuracy" in output
    assert "my_doubt" in output
    assert "changed since" not in output


def test_predict(elsewhere, run, capsys):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("image.png")
    assert main(["predict", f"--workdir={run}", "--json", "image.png"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mine"]
    assert {each["class"] for each in found["predictions"]} == {"rows", "columns"}


def test_export(elsewhere, run):
    arguments = ["export", f"--workdir={run}", "--format=safetensors"]
    assert main([*arguments, "--output=w.safetensors"]) == 0
    assert (elsewhere / "w.safetensors").is_file()


def test_probe(elsewhere, run, capsys):
    assert main(["probe", f"--workdir={run}", "--method=knn", "--k=1"]) == 0
    assert "knn" in capsys.readouterr().out
