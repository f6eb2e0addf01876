import json
import logging
import shutil
import signal
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from vitjax.core.errors import ConfigError
from vitjax.data import DataError
from vitjax.tasks import runs
from vitjax.training import experiment as experiments
from vitjax.training import loop, profiling
from vitjax.training.logging import read, speed_text


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
    built, fetched = experiments.build(config()), []
    real = built.parallel.to_host
    monkeypatch.setattr(built.parallel, "to_host", lambda tree: fetched.append(tree) or real(tree))
    loop.train(built, folder)
    reports = [r["step"] for r in read(folder / "metrics.jsonl") if r["split"] == "train"]
    assert reports == [4, 6, 8, 12]
    # No step waits for its metrics: each report fetches those of all steps since the one before.
    of_steps = [tree for tree in fetched if isinstance(tree, list) and "grad_norm" in tree[0]]
    assert [len(tree) for tree in of_steps] == [4, 2, 2, 4]


def test_without_a_terminal_each_report_is_a_line(folder):
    said = []
    loop.train(experiments.build(config()), folder, say=said.append)
    records = [r for r in read(folder / "metrics.jsonl") if r["split"] == "train"]
    lines = [line for line in said if "train loss" in line]
    assert len(lines) == len(records) == 4
    for line, record in zip(lines, records, strict=True):
        start = f"step {record['step']}/12: train loss {record['loss']:.4f}, "
        assert line.startswith(start)
        assert speed_text(record["examples_per_second"], episodic=False) in line
        assert line.endswith(" left") == (record["step"] < 12)
    assert said[-1] == (f"To train longer: vitjax train --workdir={folder} --config.train.steps=24")


@pytest.mark.parametrize(
    ("speed", "episodic", "text"),
    [
        (812.4, False, "812 examples/s"),
        (0.42, True, "0.4 episodes/s"),
        (9.9, False, "9.9 examples/s"),
        (10.4, True, "10 episodes/s"),
    ],
)
def test_a_speed_below_ten_has_a_decimal_and_episodes_are_called_so(speed, episodic, text):
    assert speed_text(speed, episodic) == text


def test_a_run_compiles_its_step_once(folder, caplog):
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        loop.train(experiments.build(config()), folder)
    compiled = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Compiling")]
    for name, times in (("train_step", 1), ("evaluate_step", 1), ("gather_step", 1)):
        assert sum(f"jit({name})" in message for message in compiled) == times, compiled


def test_a_window_of_steps_is_traced(folder):
    said = []
    loop.train(experiments.build(config(profile_steps=[5, 7])), folder, say=said.append)
    traces = {path.suffix for path in (folder / "profile").rglob("*") if path.is_file()}
    assert {".pb", ".gz"} <= traces
    assert f"The profile is in {folder / 'profile'}" in said


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


def explode_after(step, **train):
    """A config whose rate becomes huge once ``step`` steps are done."""
    chosen = config(steps=8, **train)
    chosen.schedule = {"name": "step", "boundaries_steps": [step], "factor": 1e38}
    return chosen


@pytest.mark.parametrize("evaluate_every", [1, 8])
@pytest.mark.parametrize("best", [None, "val/loss"])
def test_the_last_good_checkpoint_stays_when_a_run_diverges(folder, evaluate_every, best):
    chosen = explode_after(4, evaluate_every_steps=evaluate_every)
    # Between evaluations a state can be judged by its own numbers alone: the huge step gives
    # numbers still, and it takes the next one to see what they are worth.
    keep = 1 if evaluate_every == 1 else 2
    chosen.checkpoint = {"keep": keep, "every_steps": 1, "best": best}
    built = experiments.build(chosen)
    with pytest.raises(loop.DivergedError) as error:
        loop.train(built, folder)
    for word in ("step", "learning rate", "norm", "is kept"):
        assert word in str(error.value)
    store = built.checkpoints(folder / "checkpoints", read_only=True)
    # Step 5 is the first that the huge rate took.
    assert 4 in store.steps()
    restored = store.restore(built.abstract_state(), config=built.config)
    store.close()
    assert restored.step == (4 if evaluate_every == 1 else 5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(restored.state.params))


def test_a_checkpoint_between_evaluations_has_no_score(folder):
    chosen = explode_after(4, evaluate_every_steps=4)
    chosen.schedule.factor = 1e3
    chosen.checkpoint = {"keep": 1, "every_steps": 3, "best": "val/loss"}
    summary = loop.train(experiments.build(chosen), folder)
    assert summary["checkpoint_step"] == 4


def test_bfloat16_trains_float32_parameters(folder):
    chosen = config()
    chosen.model.dtype = "bfloat16"
    built = experiments.build(chosen)
    images = jnp.zeros((1, 8, 8, 3))
    state = built.initial_state()
    _, seen = built.objective.model.apply(
        {"params": state.params, **state.model_state}, images, mutable=["intermediates"]
    )
    assert seen["intermediates"]["stem"][0].dtype == jnp.bfloat16
    loop.train(built, folder)
    store = built.checkpoints(folder / "checkpoints", read_only=True)
    trained = store.restore(built.abstract_state(), config=built.config).state
    store.close()
    for before, after in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(trained.params), strict=True
    ):
        assert after.dtype == jnp.float32
        assert not np.array_equal(before, after)


@pytest.fixture
def photos(tmp_path):
    """Forty images of two classes, one of them cut short."""
    generator = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(20):
            image = Image.fromarray(generator.integers(0, 255, (8, 8, 3), dtype=np.uint8))
            image.save(tmp_path / "photos" / label / f"{number:02}.png")
    broken = tmp_path / "photos" / "dog" / "07.png"
    broken.write_bytes(broken.read_bytes()[:60])
    return tmp_path / "photos"


@pytest.mark.parametrize("batch_size", [8, 16])
def test_a_corrupt_image_is_named_or_skipped_and_counted(folder, photos, batch_size):
    chosen = config()
    chosen.data = {"source": "folder", "path": str(photos), "batch_size": batch_size}
    with pytest.raises(DataError, match=r"07\.png"):
        loop.train(experiments.build(chosen), folder)
    # The advice that the error gives can be taken in the same folder.
    chosen.data.on_corrupt = "skip"
    summary = loop.train(experiments.build(chosen), folder)
    assert len(summary["skipped"]) == 1
    assert summary["skipped"][0].endswith("07.png")
    again = loop.train(experiments.build(chosen), folder)
    assert again == summary


def test_predicting_needs_no_training_data(folder, photos):
    chosen = config()
    chosen.data = {
        "source": "folder",
        "path": str(photos),
        "batch_size": 16,
        "on_corrupt": "skip",
        "mean": (0.5, 0.4, 0.3),
        "eval_transforms": "resize(8)",
        "train_transforms": "resize(8)",
    }
    chosen.model.num_classes = 3
    loop.train(experiments.build(chosen), folder)
    image = photos / "cat" / "03.png"
    kept = folder.parent / "kept.png"
    kept.write_bytes(image.read_bytes())
    before = runs.predict(folder, [kept])
    shutil.rmtree(photos)
    assert runs.predict(folder, [kept]) == before
    assert {p["class"] for p in before[0]["predictions"]} == {"cat", "dog", "class 2"}
    with pytest.raises(DataError):
        runs.evaluate(folder)


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        ("model", "vit", "config.model is 'vit'; it must be a section"),
        ("seed", -1, "config.seed is -1"),
        ("train", {}, "exactly one of 'steps' and 'epochs'"),
        ("optimizer", {"name": "sgd"}, "'learning_rate' is missing"),
        ("train", {"steps": 5, "ema_decay": 1.5}, "ema_decay is 1.5"),
        ("train", {"steps": 5, "accumulation_steps": 0}, "accumulation_steps is 0"),
        ("train", {"steps": 5, "profile_steps": [3]}, "profile_steps is"),
        ("train", {"steps": 5, "early_stopping": {"patence": 1}}, "did you mean 'patience'"),
        ("model", {"name": "resnet20", "num_classes": 3}, "the data has 10 classes"),
        ("models", {}, "did you mean 'model'"),
        ("train", None, "config.train is None"),
        ("train", {"steps": 5, "ema_decay": "0.9"}, "ema_decay is '0.9'; it must be a number"),
        ("train", {"steps": 5, "early_stopping": 5}, "early_stopping is 5; it must be a section"),
        ("train", {"steps": 5, "early_stopping": {"patience": "3"}}, "must be an integer"),
        ("train", {"steps": 5, "early_stopping": {"patience": -1}}, "must be at least 1"),
        (
            "train",
            {"steps": 5, "early_stopping": {"patience": 1, "metric": "val/acuracy"}},
            "did you mean 'val/accuracy'",
        ),
        ("checkpoint", {"best": "val/los"}, "did you mean 'val/loss'"),
        ("checkpoint", {"asynchronous": "maybe"}, "asynchronous is 'maybe'"),
        ("schedule", {"name": "cosine", "final": "a"}, "config.schedule.final is 'a'"),
        ("schedule", {"warmup_from": "a"}, "config.schedule.warmup_from is 'a'"),
        (
            "objective",
            {"name": "classification", "mixup": "0.2"},
            "config.objective.mixup is '0.2'",
        ),
        ("parallel", {"devices": "1"}, "config.parallel.devices is '1'"),
        ("model", {"name": "vit_ti16", "depth": None}, "config.model.depth is None"),
        ("model", {"name": "vit_ti16", "num_heads": 0}, "config.model"),
        ("objective", {"name": "maml"}, "config.data.episodes is missing: the objective 'maml'"),
        (
            "data",
            {"source": "glyphs", "batch_size": 2, "episodes": {}},
            "config.data.episodes makes episodes, and the objective 'classification'",
        ),
        (
            "data",
            {"source": "glyphs", "batch_size": 2, "episode": {}},
            "'episode'; did you mean 'episodes'?",
        ),
        ("data", {"source": "npz", "path": 2024, "batch_size": 8}, "config.data.path is 2024"),
    ],
)
def test_mistakes_are_named(section, value, message):
    wrong = config().to_dict()
    wrong[section] = value
    with pytest.raises(ConfigError) as error:
        experiments.build(ConfigDict(wrong))
    assert message in str(error.value)


def test_a_signal_while_hosts_ask_each_other_is_not_lost(monkeypatch):
    received, sent = [], [signal.SIGTERM]

    def exchange(mine):
        # The other host has none; this one receives its own while it waits.
        received.extend([sent.pop()] if sent else [])
        return np.stack([mine, np.zeros_like(mine)])

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(loop.multihost_utils, "process_allgather", exchange)
    settings = types.SimpleNamespace(log_every=1)
    of_host = types.SimpleNamespace(step=3, experiment=types.SimpleNamespace(settings=settings))
    assert not loop._Loop._leaves(of_host, received)
    assert loop._Loop._leaves(of_host, received)
    assert received == [signal.SIGTERM]


def test_the_time_left_follows_from_all_reports_and_not_from_a_short_one(monkeypatch):
    now, said = [0.0], []
    monkeypatch.setattr(profiling.time, "perf_counter", lambda: now[0])
    clock = profiling.Clock(10)
    running = types.SimpleNamespace(
        clock=clock,
        step=100,
        total=200,
        say=said.append,
        experiment=types.SimpleNamespace(data=types.SimpleNamespace(batch_size=10, episodic=False)),
    )
    for steps, seconds in ((1, 9.0), (98, 98.0), (1, 10.0)):
        now[0] += seconds
        loop._Loop._say_progress(running, 0.5, clock.lap(steps))
    # 99 steps took 108 seconds; the last one alone took 10.
    assert said[-1].endswith("1.0 examples/s, about 2 min left")
