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


def test_the_report_names_what_grows_by_more_than_its_limit(capsys):
    soak = runpy.run_path(str(SCRIPTS / "soak.py"))
    steps = 10.0 * np.arange(1, 101)
    memory = np.stack([1e8 + 500 * steps, 1e6 + 3 * steps, 0 * steps + 147, 9e8 - steps], axis=1)
    assert soak["report"](memory, (2048, 2, 0, np.inf)) == ["Python's blocks"]
    assert soak["report"](memory, (400, 4, 0, np.inf)) == ["bytes in use"]
    memory[60:, 2] += 1
    assert soak["report"](memory, (2048, 4, 0, np.inf)) == ["JAX's arrays"]
    assert capsys.readouterr().out.count("JAX's arrays: 147 after ten steps") == 3
