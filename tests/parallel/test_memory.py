import platform
import subprocess
import sys

import pytest

from vitjax.parallel.memory import keep_freed_memory

GLIBC = platform.libc_ver()[0] == "glibc"

# The product needs 128 MiB to work in; 32,768 pages of 4 KiB are taken anew where none are kept.
STEPS = """
import resource
import jax, jax.numpy as jnp
from vitjax import parallel

parallel.create(devices=1)
step = jax.jit(lambda x, w: (jnp.sin(x) @ w) @ w.T @ w)
x, w = jnp.ones((2**14, 2**11)), jnp.ones((2**11, 8))
faults = []
for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    jax.block_until_ready(step(x, w))
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults[2:]), max(faults))
"""


def test_glibc_takes_the_settings():
    assert keep_freed_memory() == GLIBC


@pytest.mark.skipif(not GLIBC, reason="memory is kept where glibc is")
def test_a_step_takes_no_new_pages():
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True)
    least, first = map(int, done.stdout.split())
    assert first > 30_000 > 3_000 > least
