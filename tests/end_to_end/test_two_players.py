"""Two optimizers, critic steps and a frozen network, through the whole trainer."""

import json
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from two_players import GAN

import vitjax.config
from vitjax.core.errors import ConfigError
from vitjax.training import experiment as experiments
from vitjax.training import flops, runs
from vitjax.training.step import make_train_step


@pytest.fixture(scope="module")
def gan(tmp_path_factory):
    path = tmp_path_factory.mktemp("gan") / "gan.py"
    path.write_text(GAN)
    return path


def built(path, *overrides):
    config = vitjax.config.load(path)
    vitjax.config.override(config, overrides)
    return experiments.build(config)


def states(folder):
    """All arrays of the newest checkpoint."""
    run = runs.SavedRun(folder, say=lambda text: None)
    restored = run.checkpoints.restore(
        run.experiment.abstract_state(), config=run.experiment.config, say=lambda text: None
    )
    run.close()
    return restored.step, jax.device_get(restored.state)


@pytest.fixture(scope="module")
def complete(gan, vitjax, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "gan"
    status, output, errors = vitjax("train", f"--config={gan}", f"--workdir={folder}")
    assert status == 0, errors
    return folder, output


def test_both_players_learn_and_the_third_network_stays(complete, gan):
    folder, _ = complete
    step, state = states(folder)
    assert step == 60
    fresh = jax.device_get(built(gan).initial_state())
    for name in ("generator", "critic"):
        moved = jax.tree.map(
            lambda a, b: np.abs(a - b).max(), state.params[name], fresh.params[name]
        )
        assert min(jax.tree.leaves(moved)) > 0
    assert jax.tree.all(
        jax.tree.map(np.array_equal, state.model_state["frozen"], fresh.model_state["frozen"])
    )
    # Three critic steps to each of the generator, kept in a collection of the objective's own.
    assert state.model_state["played"]["critic"] == 180
    assert state.ema.keys() == {"params"}
    assert set(state.opt_state) == {"generator", "critic"}


def test_each_optimizer_has_its_schedule_and_each_metric_its_direction(complete):
    folder, _ = complete
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    trained = [r for r in records if r["split"] == "train"]
    assert [r["learning_rate_critic"] for r in trained] == pytest.approx([0.1] * len(trained))
    rates = [r["learning_rate_generator"] for r in trained]
    assert rates[0] > rates[-1] > 0
    assert all("critic_loss" in r for r in trained)
    # The best checkpoint by a metric of which nothing but its declaration tells the direction.
    remote = {r["step"]: r["remoteness"] for r in records if r["split"] == "val"}
    kept = json.loads((folder / "summary.json").read_text())["checkpoint_step"]
    assert kept == min(remote, key=remote.get)


def test_a_killed_run_resumes_to_equal_bits(complete, gan, vitjax, tmp_path):
    folder = tmp_path / "killed"
    arguments = ["train", f"--config={gan}", f"--workdir={folder}"]
    # A checkpoint in each step, so that the run does not end before it is killed.
    process = vitjax.start(*arguments, "--config.checkpoint.every_steps=1")
    deadline = time.monotonic() + 240
    while not (folder / "checkpoints" / "20" / "state").is_dir():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    saved = [int(each.name) for each in (folder / "checkpoints").iterdir() if each.name.isdigit()]
    assert 20 <= max(saved) < 60
    status, _, errors = vitjax(*arguments)
    assert status == 0, errors
    (one, expected), (two, found) = states(complete[0]), states(folder)
    assert one == two == 60
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_many_devices_give_the_numbers_of_one(gan):
    def trained(devices, dtype):
        run = built(gan, f"--config.parallel.devices={devices}")
        state = jax.tree.map(
            lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x,
            run.initial_state(),
        )
        state = run.parallel.place_state(jax.device_get(state))
        step = run.parallel.compile(
            make_train_step(run.objective, run.optimizer, ema_decay=0.9), donate=True
        )
        batches = run.data.train_batches()
        place = run.place_batch()
        for _ in range(20):
            state, _ = step(state, place(next(batches)))
        batches.close()
        return jax.device_get(run.parallel.fetch(state))

    with jax.enable_x64(True):
        one, eight = trained(1, jnp.float64), trained(8, jnp.float64)
    for name in ("params", "model_state", "opt_state", "ema"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8),
            getattr(eight, name),
            getattr(one, name),
        )


def test_flops_are_those_of_all_turns(gan):
    def counted(turns):
        run = built(gan, f"--config.objective.critic_steps={turns}")
        return flops.per_example(run.objective, run.abstract_state(), run.data.example_batch())

    one, three, five = (counted(turns) for turns in (1, 3, 5))
    assert five - three == three - one > 0


def test_the_copies_of_the_state_stay_equal_under_pmap(gan):
    run = built(gan, "--config.parallel.devices=4", "--config.parallel.mode=pmap")
    state = run.parallel.place_state(jax.device_get(run.initial_state()))
    objective = run.objective.over_axis(run.parallel.axis_name)
    step = run.parallel.compile(make_train_step(objective, run.optimizer, ema_decay=0.9))
    batches = run.data.train_batches()
    for _ in range(3):
        state, metrics = step(state, run.place_batch()(next(batches)))
    batches.close()
    for path, array in jax.tree_util.tree_leaves_with_path((state, metrics)):
        copies = np.asarray(array)
        np.testing.assert_array_equal(
            copies, np.broadcast_to(copies[:1], copies.shape), jax.tree_util.keystr(path)
        )


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("--config.optimizer.critic=None", "config.optimizer.critic is None; it must be a"),
        ("--config.optimizer.citric.name=sgd", "unknown group 'citric'; did you mean 'critic'?"),
        ("--config.optimizer.critic.momentun=1", "config.optimizer.critic: .*'momentum'"),
        ("--config.schedule.generator.name=cosin", "config.schedule.generator.*'cosine'"),
        ("--config.optimizer.critic.layer_decay=0.9", "critic.layer_decay: .* group 'critic' have"),
    ],
)
def test_a_slip_in_a_group_is_named(gan, override, words):
    with pytest.raises(ConfigError, match=words):
        built(gan, override)
