import platform
import subprocess
import sys

import pytest

from vitjax.parallel.cpu import keep_freed_memory

COMPILE = """
import jax
from vitjax.cli import process
from vitjax.nn import convolution
process.start_devices()
convolve = jax.jit(lambda x, k: convolution.convolve(x, k))
x, k = jax.numpy.ones((2, 8, 8, 64)), jax.numpy.ones((3, 3, 64, 64))
print("ynn_fusion" in convolve.lower(x, k).compile().as_text())
"""


def test_glibc_takes_the_settings():
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


@pytest.mark.parametrize(
    "own", ["", "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"]
)
def test_eigen_convolves_unless_the_user_chose(own, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", own)
    ended = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True)
    assert ended.stdout.strip() == str(bool(own)), ended.stderr
