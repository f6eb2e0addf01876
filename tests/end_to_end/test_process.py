"""Settings of the process: the command line sets them, and the library does not."""

import os
import subprocess
import sys

import pytest

STATE = """
import logging, os, sys
import cv2, jax
from absl import flags
print(jax.config.read("jax_cpu_enable_async_dispatch"), logging.getLogger("absl").level,
      sys.unraisablehook is sys.__unraisablehook__, cv2.getNumThreads(), flags.FLAGS.is_parsed())
"""
LIBRARY = """
import pathlib
from vitjax import parallel
from vitjax.training.checkpoints import Checkpoints
from vitjax import data
digits = data.create(
    seed=0, source="digits", batch_size=2, workers=1, train_transforms="pad_and_crop(8, 1)"
)
with digits.train_batches() as batches:
    next(batches)
"""
COMMAND = """
from vitjax.cli import process
process.prepare()
process.start_devices()
"""


def states(middle, folder):
    done = subprocess.run(
        [sys.executable, "-c", STATE + middle + STATE, folder],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_library_sets_nothing(tmp_path):
    before, after = states(LIBRARY, tmp_path / "checkpoints")
    assert before == after


def test_the_command_line_sets_all(tmp_path):
    assert states(COMMAND, tmp_path)[1] == "False 50 False 1 False"


CONFIG = """
import jax

def get_config():
    raise ValueError(f"asynchronous: {jax.config.read('jax_cpu_enable_async_dispatch')}")
"""


@pytest.mark.parametrize("command", [("train", "--workdir=run"), ("data",)], ids=lambda c: c[0])
def test_devices_are_started_before_a_config_runs(vitjax, command, tmp_path):
    (tmp_path / "computes.py").write_text(CONFIG)
    status, _, errors = vitjax(*command, f"--config={tmp_path / 'computes.py'}")
    assert status == 2
    assert "asynchronous: False" in errors


CACHE = """
import contextlib
import io
import logging
import warnings
from vitjax.cli import process
with contextlib.redirect_stderr(io.StringIO()):
    process.prepare()
process.prepare()
logging.getLogger("vitjax.data.loader").warning("skipped %s", "a.png")
for name in ("a", "b"):
    warnings.warn(
        f"Error writing persistent compilation cache entry for '{name}': OSError: [Errno 28] No"
        " space left on device: '/cache/x'"
    )
warnings.warn("another warning")
"""


def test_warnings_are_lines_of_one_form():
    """Also of a full disk under the cache of compiled code, which is reported once."""
    done = subprocess.run(
        [sys.executable, "-c", CACHE],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": "/cache"},
    )
    logged, first, *others = done.stderr.splitlines()
    assert logged == "warning: skipped a.png"
    assert first.startswith("vitjax: warning: /cache: compiled code cannot be kept there (")
    assert "UserWarning: another warning" in others[0]
    assert "persistent" not in done.stderr


COMPILES = """
from vitjax.cli import process
process.prepare()
process.start_devices()
import jax
print(jax.jit(lambda x: 2 * x)(3.0), jax.config.jax_compilation_cache_dir)
"""


@pytest.mark.parametrize("case", ["the user's folder", "a folder that is given", "no folder"])
def test_compiled_code_is_kept_where_it_can_be(case, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "home")
    folder = tmp_path / "home" / "vitjax" / "compiled"
    if case == "a folder that is given":
        environment["JAX_COMPILATION_CACHE_DIR"] = str(folder := tmp_path / "given")
    elif case == "no folder":
        (tmp_path / "home").write_text("a file")
    done = subprocess.run(
        [sys.executable, "-c", COMPILES],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    kept = list(folder.glob("*-cache"))
    if case == "no folder":
        assert done.stdout.split() == ["6.0", "None"]
    else:
        assert done.stdout.split() == ["6.0", str(folder)]
        assert kept
        assert (tmp_path / "home").exists() == (case == "the user's folder")
    assert done.stderr == ""
