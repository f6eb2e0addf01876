import runpy
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_growth_is_not_hidden_by_memory_that_is_returned_once():
    growth = runpy.run_path(str(SCRIPTS / "soak.py"))["growth"]
    sample = np.arange(100)
    returned = np.where(sample < 34, 8e8, 5e8)
    assert growth(returned) == 0
    # 30 bytes per step; from the lowest sample, the 35th, to the 61st in 400 steps.
    assert growth(returned + 300.0 * sample) == pytest.approx(300 * (60 - 34) / 400)
    assert growth(returned - 300.0 * sample) < 0
