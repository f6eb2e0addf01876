"""A run of format 1, written before parameters, tasks and metrics had interfaces, is still read."""

import json
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from vitjax.tasks import runs as tasks
from vitjax.training import runs

RUN = Path(__file__).parent / "fixtures" / "format_1_run.zip"


@pytest.fixture
def old(tmp_path):
    with zipfile.ZipFile(RUN) as archive:
        archive.extractall(tmp_path / "old")
    return tmp_path / "old"


def silent(text):
    """Stands in for `print`."""


def test_its_checkpoint_gives_its_numbers(old):
    summary = json.loads((old / "summary.json").read_text())
    for split in ("val", "test"):
        found = tasks.evaluate(old, split, say=silent)
        assert found["accuracy"] == summary[split]["accuracy"]
        assert found["loss"] == pytest.approx(summary[split]["loss"], rel=1e-5)
        assert found["examples"] == summary[split]["examples"]


def test_it_resumes_from_there(old):
    lines = []
    overrides = ["--config.train.steps=40", "--config.parallel.devices=1"]
    summary = tasks.train(None, old, overrides, lines.append)
    assert "Resuming from the checkpoint of step 30" in lines
    assert summary["steps"] == 40
    experiment, variables, step = runs.load(old, checkpoint="last", say=silent)
    assert step == 40
    for leaf in jax.tree.leaves(jax.device_get(variables)):
        assert np.isfinite(leaf).all()
    assert type(experiment.objective.model).__name__ == "ViT"
    assert json.loads((old / "workdir.json").read_text()) == {"format": 2}
