"""What tests of whole runs share: processes without simulated devices, a small config."""

import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

from vitjax import config as configs
from vitjax.training import experiment as experiments

# One real device, as on a user's laptop; the other tests' eight simulated ones are slow.
FLAGS = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
ENVIRONMENT = {**os.environ, "XLA_FLAGS": " ".join(FLAGS)}
# For what may be killed: half an entry in the cache of compiled code would be there forever.
READS_THE_CACHE = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1e9"}
# Killed after each test: one that goes on by mistake would slow down all others.
STARTED = []


def start(arguments, environment=None):
    """Starts Python with ``arguments`` in the repository."""
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env={**ENVIRONMENT, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    STARTED.append(process)
    return process


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
    config.train = dict(
        steps=60, ema_decay=0.95, log_every_steps=10, evaluate_every_steps=20, report=False
    )
    config.checkpoint = dict(every_steps=10, keep=3)
    return config
"""


def final_state(workdir, step=60):
    """The state of a run's last checkpoint, as it lies on disk."""
    built = experiments.build(configs.from_json((workdir / "config.json").read_text()))
    store = built.checkpoints(workdir / "checkpoints", read_only=True)
    restored = store.restore(built.abstract_state(), config=built.config, step=step)
    store.close()
    return restored.state


def assert_same_bits(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def wait_for_checkpoint(process, workdir, step):
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        done = [int(p.name) for p in workdir.glob("checkpoints/*") if p.name.isdigit()]
        if max(done, default=-1) >= step:
            return
        time.sleep(0.002)
    raise AssertionError("no checkpoint in four minutes")
