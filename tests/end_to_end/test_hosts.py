import json
import signal
import socket
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from whole_runs import TINY, start

from vitjax import config as configs
from vitjax import models, weights
from vitjax.training import experiment, loop

HOST = """
import sys
import jax
jax.config.update("jax_platforms", "cpu")
# Patient with each other where the machine has other things to do.
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]), heartbeat_timeout_seconds=900)
from vitjax import config
from vitjax.cli import process
from vitjax.training import experiment, loop
from vitjax.training.interruption import Interrupted
process.start_devices()
configs, workdirs = sys.argv[3].split(","), sys.argv[4].split(",")
for path, workdir in zip(configs, workdirs, strict=True):
    loaded = config.load(path)
    config.override(loaded, sys.argv[5:])
    try:
        loop.train(experiment.build(loaded), workdir)
    except Interrupted as interrupted:
        print(interrupted)
        sys.exit(128 + interrupted.signal)
"""


def start_two(config, workdir, *overrides):
    """Two processes that JAX takes for two hosts; several configs and folders by commas."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    return [
        start(["-c", HOST, address, number, config, workdir, *overrides]) for number in range(2)
    ]


MEASURES = "    config.objective.measures = ('calibration_error', 'confusion_matrix')\n"
CLASSIFICATION = TINY.replace("steps=60", "steps=20").replace(
    "    return config", f"{MEASURES}    return config"
)

FEW_SHOT = """
from ml_collections import ConfigDict

def get_config():
    config = ConfigDict()
    config.model = dict(name="conv4_omniglot", filters=8, depth=2)
    config.data = dict(
        source="glyphs", classes=30, image_size=16, batch_size=4, eval_batch_size=4,
        episodes=dict(ways=5, shots=1, queries=3, val_episodes=6, test_episodes=10),
    )
    config.objective = dict(name="maml", inner_steps=1, inner_learning_rate=0.5, test_steps=2)
    config.optimizer = dict(name="sgd", learning_rate=1e-2)
    config.train = dict(steps=6, log_every_steps=2, evaluate_every_steps=3)
    return config
"""

# Each host holds a part of the state.
SEGMENTATION = """
from ml_collections import ConfigDict

def get_config():
    config = ConfigDict()
    config.model = dict(name="unet", filters=2, depth=1, norm="batch")
    config.data = dict(
        source="cells", size=32, train=8, val=3, test=5, batch_size=4, eval_batch_size=4,
        train_transforms="elastic(2) | dihedral", weight_map=dict(sigma=3),
    )
    config.objective = dict(name="segmentation", measures=("v_rand", "rand_error", "pixel_error"))
    config.optimizer = dict(name="sgd", learning_rate=1e-2)
    config.train = dict(steps=4, log_every_steps=2, evaluate_every_steps=2)
    config.parallel = dict(rules=dict(name="fsdp", min_size=1))
    return config
"""

# Its features are computed once, by all hosts; the frozen network is split as well.
HEAD_ONLY = """
from pathlib import Path
from ml_collections import ConfigDict

def get_config():
    config = ConfigDict()
    config.model = dict(name="resnet20", stage_sizes=(1,), width=4)
    config.data = dict(
        source="synthetic", image_size=8, examples=33, val_examples=21, batch_size=8,
        eval_batch_size=8,
    )
    config.objective = dict(name="head_only")
    config.init = dict(from_checkpoint=str(Path(__file__).with_name("weights.safetensors")))
    config.optimizer = dict(name="sgd", learning_rate=0.3)
    config.train = dict(steps=6, log_every_steps=3, evaluate_every_steps=3)
    config.parallel = dict(rules=dict(name="fsdp", min_size=1))
    return config
"""


CONFIGS = {
    "classification": CLASSIFICATION,
    "few_shot": FEW_SHOT,
    "segmentation": SEGMENTATION,
    "head_only": HEAD_ONLY,
}


@pytest.fixture(scope="module")
def of_two_and_of_one(tmp_path_factory):
    """For a run of each of these configs the summaries of two hosts and of one."""
    folder = tmp_path_factory.mktemp("hosts")
    resnet = models.create("resnet20", stage_sizes=(1,), width=4, num_classes=10)
    variables = jax.jit(resnet.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    weights.save(variables, resnet, folder / "weights.safetensors", input_shape=(8, 8, 3))
    files, workdirs, summaries = [], [], {}
    for name, text in CONFIGS.items():
        files.append(folder / f"{name}.py")
        files[-1].write_text(text)
        workdirs.append(folder / f"{name} of two")
        values = configs.load(files[-1])
        values.parallel = {"devices": 1}
        one = folder / f"{name} of one"
        loop.train(experiment.build(values), one, lambda text: None)
        summaries[name] = [workdirs[-1], one]
    hosts = start_two(",".join(map(str, files)), ",".join(map(str, workdirs)))
    for host in hosts:
        _, errors = host.communicate(timeout=600)
        assert host.returncode == 0, errors
    return {
        name: [json.loads((run / "summary.json").read_text()) for run in runs]
        for name, runs in summaries.items()
    }


def test_two_hosts_give_the_numbers_of_one(of_two_and_of_one):
    two, one = of_two_and_of_one["classification"]
    assert "2 hosts" in two["device"]
    for split in ("test", "val"):
        assert two[split]["examples"] == one[split]["examples"] == 180
        assert two[split]["accuracy"] == one[split]["accuracy"]
        assert two[split]["loss"] == pytest.approx(one[split]["loss"], rel=1e-5)
        # The examples of both hosts are collected, and those that fill up a batch are not.
        assert two[split]["confusion_matrix"] == one[split]["confusion_matrix"]
        assert np.sum(two[split]["confusion_matrix"]) == 180
        error = one[split]["calibration_error"]
        assert two[split]["calibration_error"] == pytest.approx(error, rel=1e-4)


def test_two_hosts_train_a_head_on_features_as_one_does(of_two_and_of_one):
    two, one = of_two_and_of_one["head_only"]
    assert "2 hosts" in two["device"]
    assert two["val"]["examples"] == one["val"]["examples"] == 21
    assert two["val"]["accuracy"] == one["val"]["accuracy"]
    assert two["val"]["loss"] == pytest.approx(one["val"]["loss"], rel=1e-5)


def test_two_hosts_segment_as_one_does(of_two_and_of_one):
    two, one = of_two_and_of_one["segmentation"]
    assert "2 hosts" in two["device"]
    for split, count in (("test", 5), ("val", 3)):
        assert two[split].keys() == one[split].keys()
        assert two[split]["examples"] == one[split]["examples"] == count
        # Pixels are counted exactly, though batches are filled up and shared out.
        for key, value in one[split].items():
            assert two[split][key] == pytest.approx(value, rel=1e-4), key


def test_two_hosts_give_the_few_shot_numbers_of_one(of_two_and_of_one):
    two, one = of_two_and_of_one["few_shot"]
    assert "2 hosts" in two["device"]
    for split, episodes in (("test", 10), ("val", 6)):
        assert two[split]["episodes"] == one[split]["episodes"] == episodes
        for mode in ("transductive", "inductive"):
            for key in ("accuracy", "ci95", "loss", "per_step"):
                assert two[split][mode][key] == pytest.approx(one[split][mode][key], rel=1e-4), key


# Little to compile.
ENDLESS = """
from ml_collections import ConfigDict

def get_config():
    config = ConfigDict()
    config.model = dict(name="mlp_sinusoid", hidden=(4,))
    config.data = dict(source="sinusoid", batch_size=8, episodes=dict(shots=5, queries=5))
    config.objective = dict(name="fomaml", inner_steps=1, inner_learning_rate=0.01)
    config.optimizer = dict(name="sgd", learning_rate=1e-3)
    config.train = dict(steps=10**6, log_every_steps=10, evaluate_every_steps=10**6)
    return config
"""


def test_all_hosts_leave_when_one_is_told_to(tmp_path):
    config, workdir = tmp_path / "endless.py", tmp_path / "run"
    config.write_text(ENDLESS)
    hosts = start_two(config, workdir)
    deadline = time.monotonic() + 240
    metrics = workdir / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    hosts[1].send_signal(signal.SIGTERM)
    for host in hosts:
        output, errors = host.communicate(timeout=120)
        assert host.returncode == 128 + signal.SIGTERM, errors
        step = output.split("after step ")[1].split(";")[0]
        assert (workdir / "checkpoints" / step / "state").is_dir()


def test_pmap_on_several_hosts_is_refused_in_words(config, tmp_path):
    for host in start_two(config, tmp_path / "run", "--config.parallel.mode=pmap"):
        _, errors = host.communicate(timeout=120)
        assert host.returncode != 0
        assert "'pmap' supports one host; use 'jit'" in errors
    assert not (tmp_path / "run").exists()
