import gc
import json
import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import unflatten_dict
from small_classifiers import batch, objective

from vitjax.objectives.state import TrainState
from vitjax.training.checkpoint_files import CheckpointError, RemovedError
from vitjax.training.checkpoints import Checkpoints
from vitjax.training.compatibility import free_changes
from vitjax.training.experiment import build
from vitjax.training.fingerprint import fingerprint

CONFIG = {"model": {"name": "dense", "width": 16}, "train": {"epochs": 3}}


def state(step=0, seed=0, width=16):
    task = objective()
    variables = task.init(jax.random.key(seed), batch())
    if width != 16:
        variables = {"params": {"Dense_0": {"kernel": jnp.zeros((48, width))}}}
    optimizer = optax.partition(
        {"a": optax.adamw(lambda step: 0.1), "b": optax.set_to_zero()},
        jax.tree.unflatten(
            jax.tree.structure(variables["params"]),
            ["a"] + ["b"] * (len(jax.tree.leaves(variables["params"])) - 1),
        ),
    )
    created = TrainState.create(variables, optimizer.init(variables["params"]), seed=seed, ema=True)
    return created.replace(step=jnp.asarray(step, jnp.int32))


def abstract(example):
    single = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=single), example
    )


@pytest.fixture
def checkpoints(tmp_path):
    opened = []

    def make(**arguments):
        opened.append(Checkpoints(tmp_path / "checkpoints", **arguments))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def save(store, step, metrics=None):
    store.save(
        state(step, seed=step),
        step=step,
        progress={"next_batch": step, "best": None},
        config=CONFIG,
        metrics=metrics,
    )


def same(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_what_is_saved_comes_back_to_the_bit(checkpoints):
    store = checkpoints()
    assert store.restore(abstract(state()), config=CONFIG) is None
    save(store, 7)
    store.wait()
    restored = store.restore(abstract(state()), config=CONFIG)
    same(restored.state, state(7, seed=7))
    assert (restored.step, restored.config) == (7, CONFIG)
    assert restored.progress == {"next_batch": 7, "best": None}


def test_the_newest_and_the_best_are_kept(checkpoints):
    store = checkpoints(keep=2, best="val/loss", higher_is_better=False)
    for step, loss in enumerate([0.5, 0.1, 0.4, 0.3, 0.2], start=1):
        save(store, step, {"val/loss": loss})
    save(store, 6)
    store.wait()
    assert store.steps() == [2, 5, 6]
    assert store.best_step() == 2
    assert store.restore(abstract(state()), config=CONFIG, step=2).step == 2


@pytest.mark.parametrize(("higher_is_better", "best"), [(True, 2), (False, 3)])
def test_the_best_follows_the_declared_direction_whatever_the_name(
    checkpoints, higher_is_better, best
):
    store = checkpoints(keep=1, best="val/fid", higher_is_better=higher_is_better)
    for step, value in enumerate([0.5, 0.9, 0.4, 0.6], start=1):
        save(store, step, {"val/fid": value})
    store.wait()
    assert store.best_step() == best
    assert store.sign == (1 if higher_is_better else -1)


@pytest.mark.parametrize("read_only", [False, True])
def test_declared_keys_may_differ_from_the_checkpoint(checkpoints, read_only):
    store = checkpoints()
    save(store, 1)
    store.wait()
    store = checkpoints(read_only=read_only, free_keys=("data.episodes.test_episodes",))
    for section, key, free in (
        ("data", "episodes.eval_seed", read_only),
        ("data", "episodes.test_episodes", True),
        ("model", "prune", False),
    ):
        other = {**CONFIG, section: unflatten_dict({**CONFIG.get(section, {}), key: 1}, sep=".")}
        if free:
            assert store.restore(abstract(state()), config=other).step == 1
        else:
            with pytest.raises(CheckpointError, match=rf"config\.{section}\.{key}"):
                store.restore(abstract(state()), config=other)


def test_allowed_changes_are_listed():
    other = {**CONFIG, "model": {**CONFIG["model"], "prune": 2}}
    assert free_changes(CONFIG, other) == []
    changes = free_changes(CONFIG, other, free_keys=["model.prune"])
    assert changes == ["config.model.prune: 'not set' -> 2"]


def test_the_parts_of_a_run_declare_the_keys_of_evaluations():
    nested = build(
        {
            "model": {"name": "unet_plus_plus", "filters": 2, "depth": 1},
            "data": {
                "source": "cells",
                "size": 32,
                "train": 2,
                "val": 2,
                "test": 2,
                "batch_size": 2,
            },
            "objective": {"name": "segmentation"},
            "optimizer": {"name": "sgd", "learning_rate": 0.1},
            "train": {"steps": 1},
        }
    )
    assert nested.free_keys() == ("model.conv_impl",)
    assert nested.free_keys(read_only=True) == ("model.conv_impl", "model.prune", "model.dtype")
    episodes = build(
        {
            "model": {"name": "mlp_sinusoid", "hidden": (4,)},
            "data": {"source": "sinusoid", "batch_size": 2, "episodes": {"shots": 5, "queries": 5}},
            "objective": {"name": "fomaml", "inner_steps": 1, "inner_learning_rate": 0.01},
            "optimizer": {"name": "sgd", "learning_rate": 0.1},
            "train": {"steps": 1},
        }
    )
    assert set(episodes.free_keys()) == {
        "objective.test_steps",
        *(f"data.episodes.{key}" for key in ("val_episodes", "test_episodes", "in_memory")),
    }


def test_how_a_model_is_computed_may_differ_from_the_checkpoint(tmp_path):
    vit = {"patch_size": 4, "width": 8, "depth": 1, "num_heads": 2, "mlp_width": 8}

    def built(model):
        return build(
            {
                "model": model,
                "data": {"source": "synthetic", "image_size": 8, "examples": 8, "batch_size": 4},
                "optimizer": {"name": "sgd", "learning_rate": 0.1},
                "train": {"steps": 1},
            }
        )

    forms = ({}, {"remat": False}, {"remat": True}, {"remat": "dots"})
    first, *others = (built({"name": "vit_ti16", **vit, **form}) for form in forms)
    store = first.checkpoints(tmp_path)
    # As a version wrote it whose words were booleans.
    model = {**first.config["model"], "remat": True}
    config = {**first.config, "model": model}
    progress = {"next_batch": 1, "best": None}
    store.save(first.initial_state(), step=1, progress=progress, config=config)
    store.wait()
    for other in (first, *others):
        store = other.checkpoints(tmp_path)
        assert store.restore(other.abstract_state(), config=other.config, say=str).step == 1
    # As an override of text is read.
    assert built({"name": "vit_ti16", **vit, "remat": "True"}).objective.model.remat == "full"
    # Scanned blocks have other variables.
    scanned = built({"name": "vit_ti16", **vit, "scan_layers": True})
    with pytest.raises(CheckpointError, match="first differing leaf"):
        scanned.checkpoints(tmp_path).restore(scanned.abstract_state(), config=scanned.config)


# TensorStore's futures of failed reads complain to nobody when they are collected.
unheard = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def collected():
    yield
    gc.collect()


def damage(folder, how):
    files = sorted((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    data = [f for f in files if f.parent.name == "d"]
    if how == "truncate":
        for file in data:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif how == "flip a bit":
        content = bytearray(data[-1].read_bytes())
        content[len(content) // 3] ^= 1
        data[-1].write_bytes(bytes(content))
    elif how == "garbage":
        for file in data:
            file.write_bytes(np.random.default_rng(0).bytes(file.stat().st_size))
    elif how == "no data":
        for file in data:
            file.unlink()
    elif how == "no progress":
        for file in (folder / "progress").iterdir():
            file.unlink()
    elif how == "empty json":
        (folder / "progress" / "metadata").write_text("")
    else:
        item, key, value = how
        file = folder / item / "metadata"
        content = json.loads(file.read_text())
        assert content[key] != value
        file.write_text(json.dumps({**content, key: value}))


@unheard
@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize(
    "how",
    [
        *("truncate", "flip a bit", "garbage", "no data", "no progress", "empty json"),
        ("progress", "next_batch", 3),
        ("progress", "best", 0.5),
        ("progress", "fingerprint", 1),
        ("progress", "format", 1),
        ("config", "train", {"epochs": 4}),
    ],
    ids=str,
)
def test_a_damaged_newest_checkpoint_is_passed_over_in_words(checkpoints, tmp_path, how):
    store = checkpoints()
    save(store, 1)
    save(store, 2)
    store.close()
    damage(tmp_path / "checkpoints" / "2", how)
    said = []
    restored = checkpoints().restore(abstract(state()), config=CONFIG, say=said.append)
    assert restored.step == 1
    same(restored.state, state(1, seed=1))
    assert len(said) == 2
    assert "step 2" in said[0]
    assert "damaged" in said[0]
    # Put aside, so that the run can save step 2 again.
    assert "moved to" in said[1]
    assert (tmp_path / "checkpoints_damaged" / "2").is_dir()
    again = checkpoints()
    save(again, 2)
    again.wait()
    assert again.steps() == [1, 2]


def test_a_checkpoint_of_before_digests_is_read(checkpoints, tmp_path):
    store = checkpoints()
    save(store, 1)
    store.close()
    file = tmp_path / "checkpoints" / "1" / "progress" / "metadata"
    content = json.loads(file.read_text())
    del content["digest"]
    file.write_text(json.dumps(content))
    restored = checkpoints().restore(abstract(state()), config=CONFIG)
    assert restored.progress == {"next_batch": 1, "best": None}


@unheard
@pytest.mark.usefixtures("collected")
def test_all_damaged_is_an_error(checkpoints, tmp_path):
    store = checkpoints()
    save(store, 1)
    store.close()
    damage(tmp_path / "checkpoints" / "1", "truncate")
    with pytest.raises(CheckpointError, match="no checkpoint there can be read"):
        checkpoints().restore(abstract(state()), config=CONFIG, say=lambda text: None)


def contents(folder: Path):
    return {f: f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_another_model_is_named_by_its_first_leaf(checkpoints, tmp_path):
    store = checkpoints()
    save(store, 1)
    store.wait()
    before = contents(tmp_path)
    with pytest.raises(CheckpointError) as error:
        store.restore(abstract(state(width=32)), config=CONFIG)
    assert "params/Dense_0/bias is float32 (16,) there and absent here" in str(error.value)
    assert contents(tmp_path) == before


def test_another_config_is_named_by_its_first_key(checkpoints):
    store = checkpoints()
    save(store, 1)
    store.wait()
    other = json.loads(json.dumps(CONFIG))
    other["model"]["width"] = 32
    with pytest.raises(CheckpointError, match=r"config\.model\.width is 16 there and 32 here"):
        store.restore(abstract(state()), config=other)


def test_a_longer_run_may_go_on(checkpoints):
    store = checkpoints()
    save(store, 1)
    store.wait()
    longer = {**CONFIG, "train": {"steps": 500, "log_every_steps": 3}, "parallel": {"mode": "pmap"}}
    assert store.restore(abstract(state()), config=longer).step == 1


def test_a_step_without_checkpoint_lists_those_that_exist(checkpoints):
    store = checkpoints()
    save(store, 3)
    store.wait()
    with pytest.raises(CheckpointError, match="no checkpoint of step 4; there are: 3"):
        store.restore(abstract(state()), config=CONFIG, step=4)


def test_the_fingerprint_sees_every_bit_and_place():
    tree = {"a": jnp.arange(8.0), "b": jnp.ones((2, 3), jnp.bfloat16), "c": jnp.array([True])}
    seen = {fingerprint(tree)}
    for changed in (
        {**tree, "a": tree["a"].at[3].set(3.0000002)},
        {**tree, "a": tree["a"][::-1]},
        {**tree, "a": tree["a"].at[0].set(-0.0)},
        {**tree, "b": tree["b"].at[1, 2].set(1.0078125)},
        {**tree, "c": jnp.array([False])},
    ):
        seen.add(fingerprint(changed))
    assert len(seen) == 6
    assert fingerprint(jax.tree.map(np.asarray, tree)) == fingerprint(tree)


@pytest.mark.parametrize("step", [None, 2])
def test_a_reader_takes_the_next_one_when_a_training_removes_a_checkpoint(
    checkpoints, tmp_path, monkeypatch, step
):
    store = checkpoints(keep=1)
    save(store, 2)
    store.wait()
    reader = checkpoints(read_only=True)
    real, said = Checkpoints._restore, []

    def removed_meanwhile(self, candidate, *arguments):
        if candidate == 2:
            save(store, 3)
            store.wait()
            assert store.steps() == [3]
        return real(self, candidate, *arguments)

    monkeypatch.setattr(Checkpoints, "_restore", removed_meanwhile)
    if step is None:
        restored = reader.restore(abstract(state()), config=CONFIG, say=said.append)
        assert restored.step == 3
        same(restored.state, state(3, seed=3))
    else:
        with pytest.raises(RemovedError, match="step 2 was removed by the running training"):
            reader.restore(abstract(state()), config=CONFIG, step=2, say=said.append)
    assert said == []


def test_a_reader_is_never_told_to_move_the_folder(checkpoints, tmp_path):
    store = checkpoints()
    save(store, 1)
    store.close()
    damage(tmp_path / "checkpoints" / "1", "empty json")
    with pytest.raises(CheckpointError, match="no checkpoint there can be read") as caught:
        checkpoints(read_only=True).restore(abstract(state()), config=CONFIG, say=print)
    assert "Move" not in str(caught.value)


def test_a_folder_that_is_only_read_is_no_warning(checkpoints, caplog):
    save(checkpoints(), 1)
    filters = list(logging.getLogger("absl").filters)
    # The command line silences this logger, also for the tests after one of its own.
    with caplog.at_level(logging.WARNING, logger="absl"):
        checkpoints(read_only=True)
        logging.getLogger("absl").warning("of something else")
    assert [record.getMessage() for record in caplog.records] == ["of something else"]
    assert logging.getLogger("absl").filters == filters
