import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ENVIRONMENT

HOST = """
import sys
import jax
jax.config.update("jax_platforms", "cpu")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from vitjax import config
from vitjax.training import experiment, loop
from vitjax.training.interruption import Interrupted
loaded = config.load(sys.argv[3])
config.override(loaded, sys.argv[5:])
try:
    loop.train(experiment.build(loaded), sys.argv[4])
except Interrupted as interrupted:
    print(interrupted)
    sys.exit(128 + interrupted.signal)
"""


def start_two(config, workdir, *overrides):
    """Two processes that JAX takes for two hosts."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    return [
        subprocess.Popen(
            [sys.executable, "-c", HOST, address, str(number), config, workdir, *overrides],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for number in range(2)
    ]


def test_two_hosts_give_the_numbers_of_one(vitjax, config, tmp_path):
    length = "--config.train.steps=20"
    for host in start_two(config, tmp_path / "two", length):
        _, errors = host.communicate(timeout=300)
        assert host.returncode == 0, errors
    workdir = f"--workdir={tmp_path / 'one'}"
    status, _, errors = vitjax("train", f"--config={config}", workdir, length)
    assert status == 0, errors
    two, one = (json.loads((tmp_path / run / "summary.json").read_text()) for run in ("two", "one"))
    assert "2 hosts" in two["device"]
    for split in ("test", "val"):
        assert two[split]["examples"] == one[split]["examples"] == 180
        assert two[split]["accuracy"] == one[split]["accuracy"]
        assert two[split]["loss"] == pytest.approx(one[split]["loss"], rel=1e-5)


def test_all_hosts_leave_when_one_is_told_to(config, tmp_path):
    workdir = tmp_path / "run"
    hosts = start_two(
        config,
        workdir,
        "--config.train.steps=100000",
        "--config.train.evaluate_every_steps=100000",
        "--config.checkpoint.every_steps=100000",
    )
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
        assert "'pmap' is for one host; several take 'jit'" in errors
    assert not (tmp_path / "run").exists()
