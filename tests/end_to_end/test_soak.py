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


def test_growth_is_that_of_the_last_four_fifths():
    growth = runpy.run_path(str(SCRIPTS / "soak.py"))["growth"]
    flat = np.r_[np.linspace(0, 1e9, 200), np.full(800, 1e9)]
    assert growth(flat) == pytest.approx(0, abs=1e-3)
    assert growth(flat + 500.0 * np.arange(1000)) == pytest.approx(50)  # a sample every ten steps
