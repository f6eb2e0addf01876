"""What the documentation shows does what it says."""

import re
from pathlib import Path

import jax
import numpy as np

DOCS = Path(__file__).parents[2] / "docs"


def test_maml_in_under_forty_lines_learns_sinusoids():
    (program, *_) = re.findall(r"```python\n(.*?)```", (DOCS / "few_shot.md").read_text(), re.S)
    assert len(program.splitlines()) < 40
    steps = "range(10_000)"
    assert steps in program
    names: dict = {}
    exec(compile(program.replace(steps, "range(400)"), "few_shot.md", "exec"), names)
    keys = jax.random.split(jax.random.key(1), 200)

    def error(params, steps):
        losses = jax.jit(jax.vmap(lambda key: names["meta_loss"](params, key, steps)))(keys)
        return float(np.mean(losses))

    fresh = [
        (jax.random.normal(names["key"], s) * s[0] ** -0.5, np.zeros(s[1])) for s in names["sizes"]
    ]
    # A sine of a random amplitude has 3.25 in the mean, whatever one knows of it beforehand.
    assert error(names["params"], 1) < 0.8 * error(fresh, 1)
    assert error(names["params"], 1) < 0.95 * error(names["params"], 0)
