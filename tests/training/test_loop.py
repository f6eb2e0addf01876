import json
import logging

import jax
import pytest
from ml_collections import ConfigDict

from vitjax.registry import ConfigError
from vitjax.training import experiment as experiments
from vitjax.training import loop
from vitjax.training.logging import read


def config(**train):
    return ConfigDict(
        {
            "model": {"name": "resnet20", "stage_sizes": (1,), "width": 4},
            "data": {"source": "synthetic", "image_size": 8, "examples": 96, "batch_size": 16},
            "optimizer": {"name": "sgd", "learning_rate": 0.05},
            "train": {"steps": 12, "log_every_steps": 4, "evaluate_every_steps": 6, **train},
        }
    )


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


def test_metrics_are_fetched_only_when_reported(folder, monkeypatch):
    fetched = []
    real = jax.device_get

    def counted(tree):
        fetched.append(tree)
        return real(tree)

    monkeypatch.setattr(loop.jax, "device_get", counted)
    built = experiments.build(config())
    loop.train(built, folder)
    reports = [r["step"] for r in read(folder / "metrics.jsonl") if r["split"] == "train"]
    assert reports == [4, 6, 8, 12]
    lists_of_metrics = [tree for tree in fetched if isinstance(tree, list) and "loss" in tree[0]]
    steps = [len(tree) for tree in lists_of_metrics if "grad_norm" in tree[0]]
    assert steps == [4, 2, 2, 4]
    # Besides: two evaluations on the way, one at the end, and the predictions.
    assert len(fetched) == 4 + 2 + 1 + 1


def test_a_run_compiles_its_step_once(folder, caplog):
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        loop.train(experiments.build(config()), folder)
    compiled = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Compiling")]
    for name, times in (("train_step", 1), ("evaluate_step", 1), ("predict_step", 1)):
        assert sum(f"jit({name})" in message for message in compiled) == times, compiled


def test_a_window_of_steps_is_traced(folder):
    said = []
    loop.train(experiments.build(config(profile_steps=[5, 7])), folder, say=said.append)
    traces = {path.suffix for path in (folder / "profile").rglob("*") if path.is_file()}
    assert {".pb", ".gz"} <= traces


def test_flops_and_speed_are_in_the_summary(folder):
    summary = loop.train(experiments.build(config()), folder)
    assert summary == json.loads((folder / "summary.json").read_text())
    # Stem 8 x 8 x 3 x 4, two convolutions of 4 x 4, head 4 x 10; the gradient twice that, but
    # for the images, which have none.
    stem, body, head = (2 * n for n in (22 * 22 * 3 * 4, 2 * 22 * 22 * 4 * 4, 4 * 10))
    assert summary["flops_per_example"] == 3 * (stem + body + head) - stem
    assert summary["examples_per_second"] > 0


def test_best_and_last_are_told_apart(folder):
    chosen = config()
    chosen.checkpoint = {"keep": 1, "best": "val/loss"}
    chosen.optimizer.learning_rate = 30.0
    chosen.schedule = {"name": "linear", "warmup_steps": 8, "warmup_from": 0.001}
    summary = loop.train(experiments.build(chosen), folder)
    evaluated = {
        r["step"]: r["loss"] for r in read(folder / "metrics.jsonl") if r["split"] == "val"
    }
    best = min(evaluated, key=evaluated.get)
    assert summary["checkpoint_step"] == best
    assert summary["val"]["loss"] == pytest.approx(evaluated[best], rel=1e-6)


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        ("model", "vit", "config.model is 'vit'; it should be a section"),
        ("seed", -1, "config.seed is -1"),
        ("train", {}, "exactly one of 'steps' and 'epochs'"),
        ("optimizer", {"name": "sgd"}, "'learning_rate' is missing"),
        ("train", {"steps": 5, "ema_decay": 1.5}, "ema_decay is 1.5"),
        ("train", {"steps": 5, "accumulation_steps": 0}, "accumulation_steps is 0"),
        ("train", {"steps": 5, "profile_steps": [3]}, "profile_steps is"),
        ("train", {"steps": 5, "early_stopping": {"patence": 1}}, "did you mean 'patience'"),
        ("model", {"name": "resnet20", "num_classes": 3}, "the data has 10 classes"),
        ("models", {}, "did you mean 'model'"),
    ],
)
def test_mistakes_are_named(section, value, message):
    wrong = config().to_dict()
    wrong[section] = value
    with pytest.raises(ConfigError) as error:
        experiments.build(ConfigDict(wrong))
    assert message in str(error.value)
