"""Plans in processes of their own: more devices than there are, and measured memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def run(*command, **variables):
    # Without the settings of the tests, which compile other code and start eight devices.
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | variables
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=environment, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_mesh_of_more_devices_than_there_are_is_simulated():
    arguments = ["--config=digits/resnet", "--mesh=data=256", "--device=v5e", "--json"]
    smaller = ["--config.data.batch_size=256", "--config.model.width=4"]
    found = run("-m", "vitjax", "plan", *arguments, *smaller)
    assert found["devices"] == 256
    assert found["batch_size_per_device"] == 1
    assert found["device_memory"] == 16e9


@pytest.mark.slow
def test_a_plan_is_what_a_run_takes_that_compiles(tmp_path):
    # With its step in the cache a process can take more or less, and the memory of a network with
    # convolutions differs from run to run on several cores: see docs/plan.md.
    command = "scripts/bench/plan.py", "digits/vit", "--json"
    row = run(*command, JAX_COMPILATION_CACHE_DIR=str(tmp_path))
    assert row["measured"] > 150e6
    assert 0.85 < row["ratio"] < 1.15, row
