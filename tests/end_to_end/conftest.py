import os
import subprocess
import sys
from pathlib import Path

import pytest

# One real device, as on a user's laptop; the other tests' eight simulated ones are slow.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}

TINY = """
from ml_collections import ConfigDict

def get_config():
    config = ConfigDict()
    config.seed = 1
    config.model = dict(
        name="vit_ti16", patch_size=4, width=16, depth=2, num_heads=2, mlp_width=32,
        dropout=0.1, drop_path=0.1,
    )
    config.data = dict(
        source="digits", batch_size=64, eval_batch_size=96,
        train_transforms="random_affine(degrees=10, translate=0.1)",
    )
    config.objective = dict(name="classification", label_smoothing=0.1, mixup=0.2)
    config.optimizer = dict(name="adamw", learning_rate=3e-3, weight_decay=0.05, clip_norm=1.0)
    config.schedule = dict(name="cosine", warmup_steps=5)
    config.train = dict(steps=60, ema_decay=0.95, log_every_steps=10, evaluate_every_steps=20)
    config.checkpoint = dict(every_steps=10, keep=3)
    return config
"""


@pytest.fixture(scope="session")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    path.write_text(TINY)
    return path


# For what may be killed: half an entry in the cache of compiled code would be there forever.
READS_THE_CACHE = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1e9"}


def start(*arguments, environment=READS_THE_CACHE):
    return subprocess.Popen(
        [sys.executable, "-m", "vitjax", *map(str, arguments)],
        env={**ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


@pytest.fixture(scope="session")
def vitjax():
    """Runs the command line to its end: (status, standard output, standard error)."""

    def run(*arguments, environment=None):
        process = start(*arguments, environment=environment or {})
        output, errors = process.communicate(timeout=300)
        return process.returncode, output, errors

    run.start = start
    return run


@pytest.fixture(scope="session")
def trained(vitjax, config, tmp_path_factory):
    """The folder of a run that was never stopped, and what it said."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    status, output, errors = vitjax("train", f"--config={config}", f"--workdir={workdir}")
    assert status == 0, errors
    return workdir, output, errors
