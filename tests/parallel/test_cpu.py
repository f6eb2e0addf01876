import platform
import subprocess
import sys

import pytest

from vitjax.parallel.cpu import keep_freed_memory

COMPILE = """
import jax
from vitjax.cli import process
process.start_devices()
convolve = jax.jit(lambda x, k: jax.lax.conv(x, k, (1, 1), "SAME"))
x, k = jax.numpy.ones((2, 3, 8, 8)), jax.numpy.ones((4, 3, 3, 3))
print("ynn" in convolve.lower(x, k).compile().as_text())
"""


def test_glibc_takes_the_settings():
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


@pytest.mark.parametrize("own", ["", "--xla_cpu_experimental_ynn_fusion_type=+eltwise"])
def test_eigen_convolves_unless_the_user_chose(own, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", own)
    ended = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True)
    assert ended.stdout.strip() == str(bool(own)), ended.stderr
