"""Runs that train a part of a network that was there before."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict
from PIL import Image

from vitjax import models, weights
from vitjax.core.errors import ConfigError
from vitjax.objectives.state import FROZEN
from vitjax.tasks import runs
from vitjax.training import experiment as experiments
from vitjax.training import initialization, loop

VIT = {"patch_size": 4, "width": 8, "depth": 1, "num_heads": 2, "mlp_width": 8}


def quiet(text):
    pass


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A ViT's weights, and where they lie."""
    module = models.create("vit_ti16", num_classes=5, **VIT)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    generator = np.random.default_rng(1)
    variables = jax.tree.map(lambda s: generator.normal(0, 0.3, s.shape).astype("f4"), shapes)
    path = tmp_path_factory.mktemp("weights") / "vit"
    return weights.save(variables, module, path, input_shape=(8, 8, 3)), variables


def config(path, steps):
    return ConfigDict(
        {
            "model": {"name": "vit_ti16", "dropout": 0.1, **VIT},
            "data": {
                **{"source": "synthetic", "image_size": 8, "num_classes": 3, "examples": 48},
                **{"batch_size": 16, "eval_batch_size": 48, "val_examples": 48},
            },
            "init": {"from_checkpoint": str(path)},
            "objective": {"name": "classification", "lora": {"rank": 2, "kernels": "kernel$"}},
            "optimizer": {"name": "adam", "learning_rate": 0.02},
            "train": {
                **{"steps": steps, "log_every_steps": 2, "evaluate_every_steps": 2},
                **{"ema_decay": 0.5, "accumulation_steps": 2},
            },
            "parallel": {"devices": 1},
        }
    )


def last_state(built, folder):
    store = built.checkpoints(folder / "checkpoints", read_only=True)
    restored = store.restore(built.abstract_state(), config=built.config)
    store.close()
    return restored.state


@pytest.fixture(scope="module")
def run(file, tmp_path_factory):
    """A run that trains low-rank updates."""
    folder = tmp_path_factory.mktemp("runs") / "lora"
    built = experiments.build(config(file[0], 4))
    return built, folder, loop.train(built, folder, say=quiet)


def test_low_rank_updates_resume_to_the_same_bits(run, file, tmp_path):
    whole, folder, _ = run
    for steps in (2, 4):
        built = experiments.build(config(file[0], steps))
        loop.train(built, tmp_path / "run", say=quiet)
    once, again = last_state(whole, folder), last_state(built, tmp_path / "run")
    assert int(once.step) == 4
    for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(again), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_what_is_frozen_is_the_file_s_and_the_rest_moves(run, file):
    built, folder, summary = run
    state = last_state(built, folder)
    kept = flatten_dict(file[1]["params"], sep="/")
    frozen = flatten_dict(state.model_state[FROZEN], sep="/")
    assert set(frozen) == {name for name in kept if not name.startswith("head/")}
    for name, leaf in frozen.items():
        np.testing.assert_array_equal(leaf, kept[name])
    assert FROZEN not in state.ema
    assert summary["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(state.params))
    updates = flatten_dict(state.params["lora"], sep="/")
    assert all(np.abs(leaf).max() > 0 for leaf in updates.values())


def test_evaluation_prediction_and_other_runs_see_the_merged_model(run, tmp_path):
    built, folder, summary = run
    values = runs.evaluate(folder, "val", say=quiet)
    assert values == pytest.approx(summary["val"])
    state = last_state(built, folder)
    merged = built.objective.unwrap(state.variables)
    plain = models.create("vit_ti16", num_classes=3, **VIT)
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    (answer,) = runs.predict(folder, [tmp_path / "one.png"], say=quiet)
    logits = plain.apply(merged, built.data.normalize(jnp.asarray(pixels)[None]))
    expected = np.asarray(jax.nn.softmax(logits))[0]
    for found in answer["predictions"]:
        number = built.task.class_names.index(found["class"])
        assert found["probability"] == pytest.approx(expected[number], abs=2e-6)
    other = config(folder, 2)
    del other.objective
    variables, origin = initialization.variables(experiments.build(other), quiet)
    assert origin["step"] == 4
    jax.tree.map(np.testing.assert_array_equal, variables, merged)


def test_hosts_are_compared_before_weights_are_read(file, tmp_path, monkeypatch):
    def check(*_):
        raise ConfigError("the hosts of this run differ")

    monkeypatch.setattr(loop.agreement, "check", check)
    monkeypatch.setattr(loop.initialization, "variables", None)
    with pytest.raises(ConfigError, match="the hosts of this run differ"):
        loop.train(experiments.build(config(file[0], 4)), tmp_path / "run", say=quiet)
    assert not (tmp_path / "run").exists()
