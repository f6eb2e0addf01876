import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.slow
def test_a_sharded_run_that_is_killed_three_times_ends_with_the_same_bits():
    # In so few steps the memory has not settled.
    script = SCRIPTS / "soak.py", "--steps=60", "--every=20", "--growth=1e9"
    done = subprocess.run([sys.executable, *script], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 steps, 3 kills" in done.stdout
    assert "the same bits" in done.stdout


def test_growth_is_not_hidden_by_memory_that_is_returned_once():
    growth = runpy.run_path(str(SCRIPTS / "soak.py"))["growth"]
    sample = np.arange(100)
    returned = np.where(sample < 34, 8e8, 5e8)
    assert growth(returned) == 0
    # 30 bytes per step; from the lowest sample, the 35th, to the 61st in 400 steps.
    assert growth(returned + 300.0 * sample) == pytest.approx(300 * (60 - 34) / 400)
    assert growth(returned - 300.0 * sample) < 0
