import json
import socket
import subprocess
import sys
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
loaded = config.load(sys.argv[3])
config.override(loaded, ["--config.train.steps=20"])
loop.train(experiment.build(loaded), sys.argv[4])
"""


def test_two_hosts_give_the_numbers_of_one(vitjax, config, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", HOST, address, str(number), config, tmp_path / "two"],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for number in range(2)
    ]
    for host in hosts:
        _, errors = host.communicate(timeout=300)
        assert host.returncode == 0, errors
    status, _, errors = vitjax(
        "train", f"--config={config}", f"--workdir={tmp_path / 'one'}", "--config.train.steps=20"
    )
    assert status == 0, errors
    two, one = (json.loads((tmp_path / run / "summary.json").read_text()) for run in ("two", "one"))
    assert "2 hosts" in two["device"]
    for split in ("test", "val"):
        assert two[split]["examples"] == one[split]["examples"] == 180
        assert two[split]["accuracy"] == one[split]["accuracy"]
        assert two[split]["loss"] == pytest.approx(one[split]["loss"], rel=1e-5)
