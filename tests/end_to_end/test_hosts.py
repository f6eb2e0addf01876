import contextlib
import json
import os
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
from vitjax.cli import hosts as hosts_
from vitjax.training import experiment, loop

# Of all hosts, as a command starts them; all but the first tell what they write beside checkpoints.
HOST = """
import os, sys
from vitjax.cli import hosts, process
process.prepare()
address, count, index, paths, folders = sys.argv[1:6]
# Patient with each other where the machine has other things to do.
process.start_devices(hosts=hosts.Hosts(address, int(count), int(index), heartbeat=900))
from vitjax import config
from vitjax.training import experiment, loop
from vitjax.training.interruption import Interrupted

workdirs = folders.split(",")

def told(event, arguments):
    if event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
        return
    if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
        return
    path = str(arguments[0])
    if any(path.startswith(folder) and "checkpoints" not in path for folder in workdirs):
        print("WROTE", event, path, file=sys.stderr)

if index != "0":
    sys.addaudithook(told)
for path, workdir in zip(paths.split(","), workdirs, strict=True):
    loaded = config.load(path)
    config.override(loaded, sys.argv[6:])
    try:
        loop.train(experiment.build(loaded), workdir)
    except Interrupted as interrupted:
        print(interrupted)
        sys.exit(128 + interrupted.signal)
"""


def free_address():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def with_devices(count):
    return {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"
    }


def start_two(config, workdir, *overrides, devices=4):
    """Two processes that JAX takes for two hosts; several configs and folders by commas."""
    address = free_address()
    return [
        start(["-c", HOST, address, 2, number, config, workdir, *overrides], with_devices(devices))
        for number in range(2)
    ]


def commands(*arguments, devices=2, of_host=((), ()), program=("-m", "vitjax")):
    """`vitjax` on two hosts."""
    address = free_address()
    return [
        start(
            [
                *(*program, *arguments, *of_host[number]),
                *(f"--coordinator={address}", "--num-hosts=2", f"--host={number}"),
            ],
            with_devices(devices),
        )
        for number in range(2)
    ]


def ended(hosts, timeout=300):
    """For each host its status, standard output and standard error."""
    results = []
    for host in hosts:
        output, errors = host.communicate(timeout=timeout)
        results.append((host.returncode, output, errors))
    return results


def wait_for(path, hosts):
    """Returns once ``path`` has content."""
    deadline = time.monotonic() + 240
    while not (path.exists() and path.stat().st_size):
        assert time.monotonic() < deadline
        for host in hosts:
            assert host.poll() is None, host.communicate()
        time.sleep(0.05)


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
        source="glyphs", classes=30, image_size=16, batch_size=8, eval_batch_size=8,
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
        source="cells", size=32, train=8, val=3, test=5, batch_size=8, eval_batch_size=8,
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
    """For a run of each of these configs the summaries of two hosts and of one, by 8 devices each;
    and what the two printed."""
    folder = tmp_path_factory.mktemp("hosts")
    resnet = models.create("resnet20", stage_sizes=(1,), width=4, num_classes=10)
    variables = jax.jit(resnet.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    weights.save(variables, resnet, folder / "weights.safetensors", input_shape=(8, 8, 3))
    files, workdirs, summaries = [], [], {}
    for name, text in CONFIGS.items():
        files.append(folder / f"{name}.py")
        files[-1].write_text(text)
        workdirs.append(folder / f"{name} of two")
        one = folder / f"{name} of one"
        loop.train(experiment.build(configs.load(files[-1])), one, lambda text: None)
        summaries[name] = [workdirs[-1], one]
    hosts = start_two(",".join(map(str, files)), ",".join(map(str, workdirs)))
    printed = ended(hosts, 600)
    for status, _, errors in printed:
        assert status == 0, errors
    found = {
        name: [json.loads((run / "summary.json").read_text()) for run in runs]
        for name, runs in summaries.items()
    }
    return found | {"printed": printed}


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
    hosts = start_two(config, workdir, devices=1)
    wait_for(workdir / "metrics.jsonl", hosts)
    hosts[1].send_signal(signal.SIGTERM)
    for status, output, errors in ended(hosts, 120):
        assert status == 128 + signal.SIGTERM, errors
        step = output.split("after step ")[1].split(";")[0]
        assert (workdir / "checkpoints" / step / "state").is_dir()


def test_pmap_on_several_hosts_is_refused_in_words(config, tmp_path):
    arguments = f"--config={config}", f"--workdir={tmp_path / 'run'}"
    for status, _, errors in ended(commands("train", *arguments, "--config.parallel.mode=pmap")):
        assert status == 2
        assert "'pmap' supports one host; use 'jit'" in errors
        assert len(errors.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_only_the_first_host_writes_and_prints(of_two_and_of_one):
    (_, first, _), (_, second, errors) = of_two_and_of_one["printed"]
    assert "Training on CPU" in first
    assert "[Gloo]" not in first
    assert second == ""
    assert "WROTE" not in errors


def one_line(errors):
    """The only line of a host's standard error; tells of a lost host."""
    (line,) = errors.splitlines()
    assert line.startswith("vitjax: another host of this run is lost")
    assert "start all hosts again with the same commands" in line
    return line


# Killed: its connections close. Stopped, as by a machine that hangs: nothing but time tells.
@pytest.mark.parametrize(
    ("number", "sent", "named"),
    [
        (1, signal.SIGKILL, "another host"),
        pytest.param(0, signal.SIGKILL, "another host", marks=pytest.mark.slow),
        pytest.param(1, signal.SIGSTOP, "no sign of life of host 1 for 5", marks=pytest.mark.slow),
        pytest.param(0, signal.SIGSTOP, "another host", marks=pytest.mark.slow),
    ],
)
def test_a_host_that_loses_another_ends_in_words(tmp_path, number, sent, named):
    config, workdir = tmp_path / "endless.py", tmp_path / "run"
    config.write_text(ENDLESS)
    arguments = f"--config={config}", f"--workdir={workdir}", "--heartbeat-timeout=5"
    hosts = commands("train", *arguments)
    wait_for(workdir / "metrics.jsonl", hosts)
    hosts[number].send_signal(sent)
    ((status, _, errors),) = ended([hosts[1 - number]], 60)
    hosts[number].kill()
    hosts[number].communicate()
    assert status == hosts_.LOST, errors
    assert named in one_line(errors)


RESUMED = """
from ml_collections import ConfigDict

def get_config():
    config = ConfigDict()
    config.seed = 2
    config.model = dict(name="vit_ti16", patch_size=4, width=8, depth=1, num_heads=1, mlp_width=16,
                        dropout=0.1)
    config.data = dict(source="synthetic", image_size=8, examples=64, val_examples=13,
                       batch_size=16)
    config.optimizer = dict(name="adamw", learning_rate=3e-3)
    config.train = dict(steps=9, log_every_steps=1, evaluate_every_steps=3)
    config.checkpoint = dict(every_steps=3, keep=9)
    return config
"""
FSDP = "--config.parallel={'rules': {'name': 'fsdp', 'min_size': 1}}"


def metrics_of(workdir):
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {(r["step"], r["split"]): (r["loss"], r.get("grad_norm", 0.0)) for r in records}


def test_a_run_resumes_on_another_number_of_hosts_and_by_another_placement(tmp_path):
    config, resumed, undisturbed = tmp_path / "c.py", tmp_path / "resumed", tmp_path / "undisturbed"
    config.write_text(RESUMED)
    loop.train(experiment.build(configs.load(config)), undisturbed, say=str)

    def two(steps, devices):
        overrides = f"--config.train.steps={steps}", FSDP
        for status, _, errors in ended(start_two(config, resumed, *overrides, devices=devices)):
            assert status == 0, errors

    two(3, devices=4)
    of_one = configs.load(config)
    of_one.train.steps = 6
    loop.train(experiment.build(of_one), resumed, say=str)
    two(9, devices=2)
    expected, found = metrics_of(undisturbed), metrics_of(resumed)
    assert expected.keys() == found.keys()
    assert len(expected) == 9 + 3
    for key, values in expected.items():
        np.testing.assert_allclose(found[key], values, rtol=2e-5, err_msg=str(key))


@pytest.mark.slow
def test_a_killed_run_of_two_hosts_resumes_to_the_same_bits(tmp_path):
    config = tmp_path / "c.py"
    config.write_text(RESUMED)
    runs = [tmp_path / name for name in ("undisturbed", "killed")]
    for workdir in runs:
        if workdir.name == "killed":
            hosts = start_two(config, workdir, FSDP)
            wait_for(workdir / "checkpoints" / "3" / "_CHECKPOINT_METADATA", hosts)
            for host in hosts:
                host.kill()
            ended(hosts)
            assert not (workdir / "summary.json").exists()
        for status, _, errors in ended(start_two(config, workdir, FSDP)):
            assert status == 0, errors
    assert metrics_of(runs[0]) == metrics_of(runs[1])
    built = experiment.build(configs.load(config))
    states = []
    for workdir in runs:
        store = built.checkpoints(workdir / "checkpoints", read_only=True)
        states.append(store.restore(built.abstract_state(), config=built.config).state.variables)
        store.close()
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_hosts_that_differ_are_told_how(tmp_path):
    arguments = [f"--workdir={tmp_path / 'run'}"]
    of_host = []
    for number, rate in enumerate((0.003, 0.5)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "mine.py").write_text(f"# text {number}\n")
        imported = "config = ConfigDict()\n    config.imports = ('mine.py',)"
        (folder / "c.py").write_text(RESUMED.replace("config = ConfigDict()", imported))
        rate = f"--config.optimizer.learning_rate={rate}"
        of_host.append([f"--config={folder / 'c.py'}", rate])
    hosts = commands("train", *arguments, of_host=of_host)
    for status, output, errors in ended(hosts):
        assert status == 2
        assert output == ""
        (line,) = errors.splitlines()
        assert "config.optimizer.learning_rate is 0.003 on host 0 and 0.5 on host 1" in line
        assert "; the text of mine.py is " in line
        assert "config.imports" not in line
    assert not (tmp_path / "run").exists()


# Waits two seconds, not sixty, for the lock of host 0 to appear.
IMPATIENT = """
import sys
from vitjax import cli
cli.process.prepare()
from vitjax.training import agreement
agreement._SECONDS = 2
sys.exit(cli.main(sys.argv[1:]))
"""


def test_hosts_without_a_common_folder_are_told(tmp_path):
    config = tmp_path / "c.py"
    config.write_text(RESUMED)
    hosts = commands(
        "train",
        f"--config={config}",
        of_host=[(f"--workdir={tmp_path / name}",) for name in ("first", "second")],
        program=("-c", IMPATIENT),
    )
    for status, _, errors in ended(hosts):
        assert status == 2
        assert "not the same folder on all hosts: host 1 does not see" in errors
    assert not (tmp_path / "first").exists()
    assert not (tmp_path / "second").exists()


@pytest.mark.slow
def test_two_hosts_evaluate_as_one(vitjax, tmp_path):
    config, workdir = tmp_path / "c.py", tmp_path / "run"
    config.write_text(RESUMED)
    loop.train(experiment.build(configs.load(config)), workdir, say=str)
    arguments = "evaluate", f"--workdir={workdir}", "--split=val", "--json"
    (status, output, errors), (other, nothing, quiet) = ended(commands(*arguments))
    assert (status, other) == (0, 0), errors
    assert nothing == quiet == ""
    found = json.loads(output)["results"]
    expected = json.loads((workdir / "summary.json").read_text())["val"]
    assert found["examples"] == expected["examples"] == 13
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_a_coordinator_that_does_not_answer_is_named(vitjax):
    address = free_address()
    status, output, errors = vitjax(
        *("train", "--config=digits/vit", "--workdir=nowhere", f"--coordinator={address}"),
        *("--num-hosts=2", "--host=1", "--start-timeout=2"),
    )
    assert status == hosts_.LOST, errors
    assert output == ""
    (line,) = errors.splitlines()
    assert f"{address} cannot be reached" in line


def test_a_host_that_waits_for_the_others_is_stopped_from_the_keyboard(tmp_path):
    address = free_address()
    three = f"--coordinator={address}", "--num-hosts=2", "--host=0"
    host = start(["-m", "vitjax", "train", f"--workdir={tmp_path / 'run'}", *three])
    deadline = time.monotonic() + 60
    while True:
        assert time.monotonic() < deadline
        with contextlib.suppress(OSError):
            socket.create_connection(address.split(":")).close()
            break
        time.sleep(0.05)
    time.sleep(0.5)
    host.send_signal(signal.SIGINT)
    output, errors = host.communicate(timeout=5)
    assert (host.returncode, output, errors) == (-signal.SIGINT, "", "")


def test_without_a_cluster_the_flags_are_named(vitjax):
    status, _, errors = vitjax("train", "--config=digits/vit", "--workdir=nowhere", "--distributed")
    assert status == 2
    (line,) = errors.splitlines()
    assert "JAX finds no cluster here" in line
    assert "--coordinator=ADDRESS:PORT --num-hosts=N --host=I" in line
