"""Values that a run was trained with by an older version, and that a new run may not have."""

import contextlib

import pytest
import small_workdirs
from small_workdirs import CLASSIFICATION, silent

from vitjax.core.errors import ConfigError
from vitjax.tasks import runs as tasks
from vitjax.training import experiment as experiments
from vitjax.training import runs

OLD = {
    "decay below zero": {"optimizer": {"name": "adamw", "weight_decay": -1e-4}},
    "adam without forgetting": {"optimizer": {"name": "adam", "b2": 1.0}},
    "momentum above one": {"optimizer": {"name": "sgd", "momentum": 1.01, "nesterov": True}},
    "patterns": {"optimizer": {"name": "sgd", "weight_decay_factors": [["bias", -1.0]]}},
    "a schedule that ends below zero": {"schedule": {"name": "linear", "final": -0.1}},
    "many workers": {"data": {"workers": 600}},
}
PERIODS = {
    "train": {"log_every_steps": 10**10, "evaluate_every_steps": 3e9},
    "checkpoint": {"every_epochs": 2e9},
}


def with_(sections):
    config = {**CLASSIFICATION}
    for name, keys in sections.items():
        config[name] = {**config.get(name, {}), **keys}
    return config


@pytest.mark.parametrize("title", OLD)
def test_a_run_with_values_of_before_is_read_and_resumed(title, tmp_path):
    config = with_(OLD[title])
    with pytest.raises(ConfigError):
        experiments.build(config)
    folder = small_workdirs.make(tmp_path / "run", config)
    experiment, _, step = runs.load(folder, checkpoint="last", with_data=False, say=silent)
    assert step == 2
    assert experiment.config["optimizer"] == config["optimizer"]
    with contextlib.closing(runs.SavedRun(folder, say=silent)) as run:
        run.chosen(None, silent)
    with small_workdirs.without_steps(), pytest.raises(small_workdirs.Begun):
        tasks.train(config, folder, ["--config.train.steps=9"], silent)


def test_only_the_values_of_the_run_are_taken(tmp_path):
    folder = small_workdirs.make(tmp_path / "run", with_(OLD["adam without forgetting"]))
    for changed in (
        {"optimizer": {"name": "adam", "b2": 1.5}},
        {"optimizer": {"name": "adam", "b2": 1.0, "b1": 1.0}},
    ):
        with pytest.raises(ConfigError, match=r"config\.optimizer\.b\d is 1"):
            runs.to_resume(with_(changed), folder, silent)
    with pytest.raises(ConfigError, match=r"config\.optimizer\.b2 is 1\.0"):
        runs.to_resume(with_(OLD["adam without forgetting"]), tmp_path / "new", silent)


def test_a_type_is_checked_in_any_run(tmp_path):
    config = with_({"optimizer": {"name": "adam", "b2": "1"}})
    with pytest.raises(ConfigError, match=r"b2 is '1'; it must be a number"):
        experiments.build(config, used=config)


def test_periods_that_never_come_are_for_new_runs_too():
    built = experiments.build(with_(PERIODS))
    assert min(built.settings.log_every, built.settings.evaluate_every) > 3
    assert built.checkpoint["every"] > 3
