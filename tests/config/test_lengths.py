import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitjax.config.lengths import Run, check, check_run, spellings
from vitjax.core.errors import ConfigError
from vitjax.optim import schedules
from vitjax.training.settings import LENGTHS, check_train, train_settings


def test_a_run_is_given_in_steps_or_epochs():
    assert Run.of({"steps": 7}, 22.5, where="train").steps == 7
    assert Run.of({"epochs": 2}, 22.5, where="train").steps == 45
    assert Run.of({"epochs": 0.5}, 90, where="train").steps == 45


@pytest.mark.parametrize("section", [{}, {"steps": 1, "epochs": 1}, {"steps": None}])
def test_a_run_is_given_exactly_once(section):
    with pytest.raises(ConfigError, match="exactly one of 'steps' and 'epochs'"):
        Run.of(section, 10, where="train")


@pytest.mark.parametrize("value", [0, -1, "many", True, float("nan")])
def test_a_run_has_a_step(value):
    with pytest.raises(ConfigError, match=r"train\.steps"):
        Run.of({"steps": value}, 10, where="train")


@given(
    steps=st.integers(1, 10**7),
    per_epoch=st.floats(0.01, 10**5),
    value=st.floats(0, 1),
)
def test_units_come_to_steps(steps, per_epoch, value):
    run = Run(steps, per_epoch)

    def resolve(key):
        return run.resolve({key: value}, ["warmup"], where="schedule")["warmup"]

    assert resolve("warmup_fraction") == round(value * steps)
    assert resolve("warmup_epochs") == round(value * per_epoch)
    assert resolve("warmup_steps") == round(value)


def test_other_keys_and_lists_pass():
    run = Run(100, 10)
    resolved = run.resolve(
        {"boundaries_epochs": [1, 2], "factor": 0.1},
        ["boundaries"],
        where="s",
        lists=["boundaries"],
    )
    assert resolved == {"boundaries": [10, 20], "factor": 0.1}


@pytest.mark.parametrize("value", [[], [1, 2], {}, "five", True])
@pytest.mark.parametrize("unit", ["steps", "epochs", "fraction"])
def test_a_length_is_one_number_and_a_list_of_lengths_is_a_list(value, unit):
    run = Run(100, 10)
    bounds = r"in \[0, 1\]" if unit == "fraction" else "at least 0"
    with pytest.raises(ConfigError, match=rf"s\.warmup_{unit} is .*it must be a number {bounds}"):
        run.resolve({f"warmup_{unit}": value}, ["warmup"], where="s")
    if not isinstance(value, list):
        with pytest.raises(ConfigError, match=rf"must be a list of numbers {bounds}"):
            run.resolve({f"warmup_{unit}": value}, ["warmup"], where="s", lists=["warmup"])


def test_two_units_are_one_too_many():
    with pytest.raises(ConfigError, match="exactly one of 'warmup_steps' and 'warmup_epochs'"):
        Run(100, 10).resolve({"warmup_steps": 1, "warmup_epochs": 1}, ["warmup"], where="schedule")


def test_a_length_without_a_unit_is_told_the_units():
    with pytest.raises(ConfigError, match="'warmup_steps', 'warmup_epochs', 'warmup_fraction'"):
        Run(100, 10).resolve({"warmup": 5}, ["warmup"], where="schedule")


def test_a_fraction_is_at_most_one():
    with pytest.raises(ConfigError, match=r"schedule\.warmup_fraction is 5"):
        Run(100, 10).resolve({"warmup_fraction": 5}, ["warmup"], where="schedule")


def test_spellings():
    assert spellings(["every"]) == ["every_steps", "every_epochs", "every_fraction"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**30, 2**31, -1, 1e300])
@pytest.mark.parametrize("unit", ["steps", "epochs"])
def test_a_length_that_no_run_can_have_is_an_error(value, unit):
    with pytest.raises(ConfigError, match=rf"^train\.{unit} is .*; it must be "):
        check_run({unit: value}, where="train")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, 1e300])
@pytest.mark.parametrize("unit", ["steps", "epochs"])
def test_a_length_within_a_run_is_finite(value, unit):
    with pytest.raises(ConfigError, match=rf"^s\.warmup_{unit} is .*; it must be "):
        check({f"warmup_{unit}": value}, ["warmup"], where="s")


@pytest.mark.parametrize("value", [3e9, 10**10, 2 * 10**9])
@pytest.mark.parametrize("unit", ["steps", "epochs"])
def test_a_period_longer_than_any_run_means_never(value, unit):
    keys = {f"{name}_{unit}": value for name in LENGTHS}
    settings = train_settings({"steps": 100, **keys}, Run(100, 22.5))
    assert 100 < settings.log_every <= 2**31 - 1
    assert 100 < settings.evaluate_every <= 2**31 - 1
    check_train({"steps": 100, **keys})
    rate = schedules.create(
        {"name": "step", f"boundaries_{unit}": [50 / 22.5 if unit == "epochs" else 50, value]},
        Run(100, 22.5),
        1.0,
    )
    assert rate(100) == pytest.approx(0.1)


@pytest.mark.parametrize("value", [0, 0.4, -0.0])
def test_a_run_without_a_step_is_told_before_data_is_read(value):
    with pytest.raises(ConfigError, match=r"^train\.steps is .*, less than one step$"):
        check_run({"steps": value}, where="train")


def test_a_product_beyond_all_counters_is_an_error():
    with pytest.raises(ConfigError, match=r"epochs is 1000000, more than 2147483647 steps \(an ep"):
        Run.of({"epochs": 10**6}, 10**4, where="train")
    assert Run.of({"epochs": 10**5}, 10**4, where="train").steps == 10**9
