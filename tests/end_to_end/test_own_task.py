"""A task of a user's own, an image to a number, in the user's own file, by every command."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import vitjax as api
from vitjax.cli import main

TASK = '''
import dataclasses
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from typing import ClassVar

from vitjax import figures
from vitjax.data import sources
from vitjax.data.sources import ArraySplit, Source
from vitjax.metrics import Mean
from vitjax.models import MODELS, Model
from vitjax.objectives import Objective, objectives
from vitjax.training.task import TASKS, Task


@sources.register("brightness_of", target="number")
def brightness_of(count: int = 48) -> Source:
    """Images whose label is their mean grey value."""

    def split(seed):
        rng = np.random.default_rng(seed)
        level = rng.uniform(0, 255, (count, 1, 1, 1))
        images = np.clip(level + rng.normal(0, 5, (count, 8, 8, 1)), 0, 255).astype(np.uint8)
        return ArraySplit(images, images.mean((1, 2, 3)).astype(np.float32) / 255, "grey")

    return Source({name: split(i) for i, name in enumerate(("train", "val"))}, ("brightness",))


@MODELS.register("to_number", image_size=8, input_shape=(8, 8, 1), paper="", year=2026)
class ToNumber(Model):
    num_classes: int | None = 1

    @nn.compact
    def __call__(self, images, train=False):
        x = images.reshape(len(images), -1)
        return nn.Dense(self.num_classes, name="head")(x) if self.num_classes else x


@objectives.register("to_number")
@dataclasses.dataclass(frozen=True)
class Regression(Objective):
    task: ClassVar = "regression"
    targets: ClassVar = ("number",)

    num_classes: int
    normalize: object

    def inputs(self, batch):
        return self.normalize(batch["image"][:1])

    def numbers(self, variables, images):
        return self.model.apply(variables, self.normalize(images))[:, 0]

    def error(self, params, batch):
        found = self.numbers({"params": params}, batch["image"])
        errors = jnp.square(found - batch["label"].reshape(found.shape))
        return Mean.of(errors, batch["mask"], higher_is_better=False)

    def loss(self, params, model_state, batch, rng):
        error = self.error(params, batch)
        return self.average(error), (model_state, {"loss": error})

    def evaluate(self, variables, batch):
        error = self.error(variables["params"], batch)
        return {"loss": error, "grams": dataclasses.replace(error, unit="grams")}


@TASKS.register("regression")
class RegressionTask(Task):
    def predict(self, variables, files, output, *, tta: bool = False, threshold: float = 0.5):
        images = np.stack([self.experiment.data.read_image(path) for path in files])
        numbers = np.asarray(self.experiment.objective.numbers(variables, images))
        return [
            {"image": str(path), "number": round(float(n), 3), "tta": tta, "threshold": threshold}
            for path, n in zip(files, numbers)
        ]

    def report(self, evaluator, variables, results, folder):
        def pairs(variables, batch):
            found = self.experiment.objective.numbers(variables, batch["image"])
            return {"found": found, "label": batch["label"]}

        found, index = evaluator.gather(pairs, variables, "val")
        assert len(index) == len(found["found"]) == 48
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pairs.txt").write_text("\\n".join(map(str, found["found"].tolist())))


def get_config():
    return dict(
        model=dict(name="to_number"),
        data=dict(source="brightness_of", batch_size=16),
        objective=dict(name="to_number"),
        optimizer=dict(name="adam", learning_rate=1e-2),
        train=dict(steps=150, evaluate_every_steps=50),
        checkpoint=dict(best="val/grams"),
    )
'''


@pytest.fixture(scope="module")
def run(tmp_path_factory, vitjax):
    """A trained run's folder; its config file is gone."""
    folder = tmp_path_factory.mktemp("regression")
    config = folder / "my_task.py"
    config.write_text(TASK)
    status, output, errors = vitjax("train", f"--config={config}", f"--workdir={folder / 'run'}")
    assert status == 0, errors
    status, counts, errors = vitjax("data", f"--config={config}", f"--output={folder / 'b.png'}")
    assert status == 0, errors
    shutil.move(folder / "run", folder / "moved")
    config.unlink()
    return folder / "moved", output, counts


def test_training_reports_in_its_words_and_draws_its_figures(run):
    folder, output, counts = run
    assert "grams" in output
    assert "warning" not in output
    assert len((folder / "figures" / "pairs.txt").read_text().split()) == 48
    assert (folder / "figures" / "curves.png").is_file()
    assert counts.splitlines() == ["train: 48 examples", "val: 48 examples"]


def test_the_workdir_alone_evaluates_and_predicts(capsys, run, vitjax, tmp_path):
    folder, *_ = run
    status, output, errors = vitjax("evaluate", f"--workdir={folder}", "--split=val")
    assert status == 0, errors
    summary = json.loads((folder / "summary.json").read_text())
    assert f"grams {summary['val']['grams']:.4f}" in output
    paths = []
    for level in (20, 200):
        paths.append(tmp_path / f"{level}.png")
        Image.fromarray(np.full((8, 8), level, np.uint8)).save(paths[-1])
    options = ["--json", "--tta", "--option", "threshold=0"]
    status, output, errors = vitjax("predict", f"--workdir={folder}", *paths, *options)
    assert status == 0, errors
    dark, bright = (json.loads(line) for line in output.splitlines())
    assert dark["number"] < bright["number"]
    assert dark["tta"] is True
    assert dark["threshold"] == 0
    # From Python, in a process that never saw the file.
    found = api.predict(folder, paths, say=lambda text: None, threshold=0, tta=None)
    assert [(each["threshold"], each["tta"]) for each in found] == [(0, False)] * 2
    assert [each["number"] for each in found] == [dark["number"], bright["number"]]
    model, variables, preprocess = api.load(folder, say=lambda text: None)
    assert model.apply(variables, preprocess(*paths)).shape == (2, 1)
    assert main(["predict", f"--workdir={folder}", str(paths[0]), "--tile=64"]) == 2
    errors = capsys.readouterr().err
    assert "(tile=)" in errors
    assert "regression" in errors
