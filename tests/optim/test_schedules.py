import math

import jax
import numpy as np
import optax
import pytest

from vitjax.config.lengths import Run
from vitjax.core.errors import ConfigError
from vitjax.optim import schedules

RUN = Run(1000, 100)


def values(section, run=RUN, peak=2.0):
    schedule = schedules.create(section, run, peak)
    return np.asarray(jax.vmap(schedule)(np.arange(run.steps + 1)))


def test_constant_without_a_section():
    np.testing.assert_array_equal(values({}), 2.0)


def test_cosine_with_warmup_is_optax_s():
    ours = values({"name": "cosine", "warmup_steps": 100, "final": 0.1})
    reference = optax.warmup_cosine_decay_schedule(0, 2.0, 100, 1000, end_value=0.2)
    np.testing.assert_allclose(ours, jax.vmap(reference)(np.arange(1001)), atol=1e-6)


def test_linear_is_optax_s():
    reference = optax.linear_schedule(2.0, 0.5, 1000)
    ours = values({"name": "linear", "final": 0.25})
    np.testing.assert_allclose(ours, jax.vmap(reference)(np.arange(1001)), atol=1e-6)


def test_step_counts_boundaries_from_the_start_of_the_run():
    ours = values({"name": "step", "boundaries_epochs": [3, 6], "factor": 0.1, "warmup_epochs": 1})
    assert ours[0] == 0
    np.testing.assert_allclose(ours[[100, 299, 300, 599, 600]], [2, 2, 0.2, 0.2, 0.02], rtol=1e-5)


def test_one_cycle_rises_to_its_peak_and_falls():
    ours = values({"name": "one_cycle", "peak_fraction": 0.25, "initial": 0.1, "final": 0.01})
    np.testing.assert_allclose(ours[[0, 250, 1000]], [0.2, 2.0, 0.02], rtol=1e-5)
    assert (np.diff(ours[:251]) >= 0).all()
    assert (np.diff(ours[250:]) <= 0).all()
    # Half-way up and half-way down a cosine.
    np.testing.assert_allclose(ours[[125, 625]], [1.1, 1.01], rtol=1e-5)


def test_reciprocal_sqrt_with_cooldown():
    ours = values({"name": "reciprocal_sqrt", "timescale_steps": 100, "cooldown_fraction": 0.2})
    np.testing.assert_allclose(ours[300], 2 * math.sqrt(100 / 400), rtol=1e-6)
    np.testing.assert_allclose(ours[800] / ours[900], 2.0, rtol=1e-5)
    assert ours[1000] == 0


@pytest.mark.parametrize("name", schedules.schedules.names())
def test_every_schedule_warms_up_and_cools_down(name):
    section = {"name": name, "warmup_steps": 50, "cooldown_steps": 50, "warmup_from": 0.5}
    if name == "step":
        section["boundaries_steps"] = [500]
    ours, plain = values(section), values({**section, "warmup_from": 1.0})
    np.testing.assert_allclose(ours[0], plain[0] / 2, rtol=1e-6)
    assert ours[-1] == 0
    assert np.isfinite(ours).all()
    assert ours.max() <= 2.0


def test_the_step_may_be_traced_or_whole():
    schedule = schedules.create({"name": "cosine", "warmup_steps": 3}, RUN, 1.0)
    np.testing.assert_allclose(jax.jit(schedule)(7), schedule(7), rtol=1e-6)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "cosin"}, "did you mean 'cosine'"),
        ({"name": "cosine", "finl": 0.1}, "'finl'; did you mean 'final'"),
        ({"name": "cosine", "warmup": 5}, "'warmup'; did you mean 'warmup_"),
        ({"name": "cosine", "warmup_steps": 600, "cooldown_steps": 600}, "longer than the run"),
        ({"name": "step"}, "boundaries_steps"),
        ({"name": "step", "boundaries_steps": 5}, "must be a list"),
    ],
)
def test_mistakes_are_named(section, message):
    with pytest.raises(ConfigError, match=message):
        schedules.create(section, RUN, 1.0)
