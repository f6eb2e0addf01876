"""Values against annotations: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jax
import numpy as np
import pytest
from flax import linen as nn

from vitjax.core.errors import ConfigError
from vitjax.core.validation import (
    Bounds,
    FloatOrInfinity,
    Fraction,
    Length,
    NonNegativeFloat,
    NonNegativeInt,
    OneOf,
    PositiveFloat,
    PositiveInt,
    Rate,
    call,
    check_keywords,
    check_value,
    validate_fields,
)

if TYPE_CHECKING:
    from vitjax.nowhere import Missing

Sides = PositiveInt | tuple[PositiveInt, PositiveInt]
SHAPES = {"round": 1, "square": 2}


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (3, int),
        (np.int64(3), PositiveInt),
        (3, float),
        (np.float32(0.5), Fraction),
        (0, NonNegativeInt),
        (0.0, NonNegativeFloat),
        (1, Fraction),
        (0.999, Rate),
        (1e-9, PositiveFloat),
        (3.4e38, float),
        (-(2**63) + 1, int),
        (None, int | None),
        ("a", Literal["a", "b"]),
        (True, Literal[True, "auto"]),
        ("square", Annotated[str, OneOf(SHAPES)]),
        ([1, 2], Sequence[int]),
        ((), Sequence[int]),
        ([1, 2], tuple[int, int]),
        ([[0, 1], [2, 3]], Sequence[tuple[int, int]]),
        (16, Sides),
        ([16, 8], Sides),
        ({"a": 1}, Mapping[str, int]),
        (nn.relu, Any),
        (object(), nn.Module),  # of what a config cannot hold, nothing is known
        ("x", int | nn.Module),
    ],
)
def test_values_that_fit(value, hint):
    check_value(value, hint, "key")


@pytest.mark.parametrize(
    ("value", "hint", "words"),
    [
        (True, int, "key is True; it must be an integer"),
        (1.0, PositiveInt, "key is 1.0; it must be an integer at least 1"),
        (0, PositiveInt, "key is 0; it must be at least 1"),
        (-1, NonNegativeInt, "key is -1; it must be at least 0"),
        (1.0, Rate, "key is 1.0; it must be in [0, 1)"),
        (1.5, Fraction, "key is 1.5; it must be in [0, 1]"),
        (0, PositiveFloat, "key is 0; it must be above 0"),
        (float("nan"), PositiveFloat, "key is nan; it must be finite"),
        (float("inf"), NonNegativeFloat, "key is inf; it must be finite"),
        ((1.0, float("-inf")), tuple[Rate, Rate], "key[0] is 1.0; it must be in [0, 1)"),
        (float("nan"), Rate | None, "key is nan; it must be finite"),
        (float("nan"), float, "key is nan; it must be finite"),
        (float("inf"), float | None, "key is inf; it must be finite"),
        ([1, float("nan")], float | Sequence[float], "key[1] is nan; it must be finite"),
        ({"a": -math.inf}, Mapping[str, float], "key.a is -inf; it must be finite"),
        (1e300, float, "key is 1e+300; it must be at most 3.4e+38 in magnitude, the largest float"),
        (10**400, PositiveFloat, "between -9223372036854775807 and 9223372036854775807"),
        (2**63, int | None, "it must be between -9223372036854775807 and 9223372036854775807"),
        ("0.1", Rate, "key is '0.1'; it must be a number in [0, 1)"),
        (7, Annotated[int, Bounds(at_most=5)], "key is 7; it must be at most 5"),
        (2, Annotated[int, Bounds(above=2, below=9)], "key is 2; it must be in (2, 9)"),
        ("1", int | None, "key is '1'; it must be an integer or None"),
        (0, PositiveInt | None, "key is 0; it must be at least 1"),
        (
            "tokne",
            Literal["token", "mean", "max"],
            "key is 'tokne'; it must be 'token', 'mean' or 'max'; did you mean 'token'?",
        ),
        (
            "tokne",
            Literal["token", "mean"] | None,
            "key is 'tokne'; it must be 'token' or 'mean' or None; did you mean 'token'?",
        ),
        (1, Literal[True, "auto"], "key is 1; it must be True or 'auto'"),
        (
            "sqare",
            Annotated[str, OneOf(SHAPES)],
            "key is 'sqare'; it must be 'round' or 'square'; did you mean 'square'?",
        ),
        (3, Annotated[str, OneOf(SHAPES)], "key is 3; it must be 'round' or 'square'"),
        ("ab", Sequence[str], "key is 'ab'; it must be a list of strings"),
        ([1, "2"], Sequence[int], "key[1] is '2'; it must be an integer"),
        ([4, 0], Sequence[PositiveInt], "key[1] is 0; it must be at least 1"),
        ([1], tuple[int, int], "key is [1]; it must be a list of 2 integers"),
        ([1], tuple[int, str], "key is [1]; it must be a list of 2 values"),
        (
            [[0, 1], [2]],
            Sequence[tuple[int, int]],
            "key[1] is [2]; it must be a list of 2 integers",
        ),
        (
            [1, 2, 3],
            Sides,
            "key is [1, 2, 3]; it must be an integer at least 1 or a list of 2 integers at least 1",
        ),
        ([16, 0], Sides, "key[1] is 0; it must be at least 1"),
        (
            [],
            Annotated[Sequence[int], Length()],
            "key is []; it must be a list of integers with at least 1 item",
        ),
        ([1], Annotated[Sequence[int], Length(2, 2)], "a list of integers with 2 items"),
        ([1], Annotated[Sequence[int], Length(2, 4)], "a list of integers with 2 to 4 items"),
        ({"a": "b"}, Mapping[str, int], "key.a is 'b'; it must be an integer"),
        (3, Mapping, "key is 3; it must be a section of keys"),
    ],
)
def test_values_that_do_not_fit(value, hint, words):
    with pytest.raises(ConfigError) as error:
        check_value(value, hint, "key")
    assert words in str(error.value)
    assert len(str(error.value)) < 400
    if words.startswith("key") and not words.endswith(("float", "and")):
        assert str(error.value) == words


def test_a_value_without_a_short_repr_is_answered_in_a_short_line():
    within_itself: list = []
    within_itself.append(within_itself)
    for value, words in (
        (10**5000, "key is <int>; it must be between -9223372036854775807 and"),
        ("a" * 10**7, "key is 'aaa"),
        ("a\n" * 10**6, "key is 'a\\na"),
        ([0] * 10**6, "key is [0, 0"),
        (within_itself, "key is [[...]]"),
    ):
        with pytest.raises(ConfigError) as error:
            check_value(value, PositiveInt, "key")
        assert str(error.value).startswith(words)
        assert len(str(error.value).splitlines()) == 1
        assert len(str(error.value)) < 400


class Encoder(nn.Module):
    depth: PositiveInt = 12
    dropout: Rate = 0.0
    widths: Sequence[PositiveInt] = (4,)
    patch_size: Sides = 16
    shape: Annotated[str, OneOf(SHAPES)] = "round"

    def __post_init__(self):
        validate_fields(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.widths[0])(x)


def test_a_linen_module_checks_its_fields():
    with pytest.raises(ConfigError, match=r"^depth is 0; it must be at least 1$"):
        Encoder(depth=0)
    with pytest.raises(ConfigError, match=r"^widths\[1\] is 2.5; it must be an integer"):
        Encoder(widths=[2, 2.5])
    with pytest.raises(ConfigError, match=r"did you mean 'square'"):
        Encoder(shape="squar")


def test_a_linen_module_made_from_json_has_a_hash():
    module = Encoder(widths=[3, 4], patch_size=[8, 8])
    assert module.widths == (3, 4)
    assert hash(module) == hash(module.clone())
    variables = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 2), np.float32))
    assert variables["params"]["Dense_0"]["kernel"].shape == (2, 3)


class DeepEncoder(Encoder):
    heads: PositiveInt = 3


def test_fields_of_a_base_class_are_checked_too():
    with pytest.raises(ConfigError, match=r"config.model.heads is 0"):
        call(DeepEncoder, {"heads": 0}, where="config.model")
    with pytest.raises(ConfigError, match=r"config.model.dropout is 1; it must be in \[0, 1\)"):
        call(DeepEncoder, {"dropout": 1}, where="config.model")


@dataclasses.dataclass(frozen=True)
class Stopping:
    patience: PositiveInt
    metric: str = "val/loss"


@dataclasses.dataclass(frozen=True)
class Settings:
    every: PositiveInt = 1
    stopping: Stopping | None = None
    names: Sequence[str] = ()
    missing: Missing | None = None

    def __post_init__(self) -> None:
        validate_fields(self, "config.train")


def test_a_dataclass_checks_its_fields():
    assert Settings(names=["a", "b"]).names == ("a", "b")
    with pytest.raises(ConfigError, match=r"^config\.train\.every is 0; it must be at least 1$"):
        Settings(every=0)
    with pytest.raises(ConfigError, match=r"^config\.train\.stopping is 3; .* section of keys"):
        Settings(stopping=3)  # type: ignore[arg-type]


def test_an_annotation_that_does_not_resolve_spoils_no_other():
    assert Settings(missing="anything").missing == "anything"  # type: ignore[arg-type]


def test_a_section_becomes_the_dataclass_of_its_annotation():
    made = call(Settings, {"stopping": {"patience": 3}}, where="config.train")
    assert made == Settings(stopping=Stopping(3))
    assert call(Settings, {"stopping": None}, where="config.train").stopping is None


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"patience": 0}, "config.train.stopping.patience is 0; it must be at least 1"),
        ({"patence": 3}, "unknown key 'patence'; did you mean 'patience'? (known: patience"),
        ({}, "config.train.stopping: the key 'patience' is missing"),
        ({"patience": 1, "metric": 3}, "config.train.stopping.metric is 3; it must be a string"),
    ],
)
def test_a_section_in_a_section_is_checked(section, words):
    with pytest.raises(ConfigError) as error:
        check_keywords(Settings, {"stopping": section}, where="config.train")
    assert words in str(error.value)


def test_where_may_be_a_phrase():
    def saw(*, teeth: PositiveInt): ...

    with pytest.raises(ConfigError, match=r"^tool 'saw': teeth is 0; it must be at least 1$"):
        check_keywords(saw, {"teeth": 0}, where="tool 'saw'")


@dataclasses.dataclass
class Limited:
    limit: float = math.inf
    margin: FloatOrInfinity = math.inf
    rate: float = 0.1

    def __post_init__(self):
        validate_fields(self, "config.objective")


def test_a_default_is_not_checked_and_infinity_may_be_allowed():
    assert Limited().limit == math.inf
    assert call(Limited, {}, where="config.objective").margin == math.inf
    for margin in (math.inf, -math.inf, 1e300, 3):
        assert call(Limited, {"margin": margin}, where="config.objective").margin == margin
    with pytest.raises(ConfigError, match=r"margin is nan; it must be a number or inf"):
        call(Limited, {"margin": math.nan}, where="config.objective")
    with pytest.raises(ConfigError, match=r"margin is 'inf'; it must be a number or inf"):
        call(Limited, {"margin": "inf"}, where="config.objective")
    with pytest.raises(ConfigError, match=r"objective\.rate is inf; it must be finite"):
        call(Limited, {"rate": math.inf}, where="config.objective")
    with pytest.raises(ConfigError, match=r"rate is 1e\+300; .* the largest float32"):
        Limited(rate=1e300)


def test_a_number_of_float64_is_for_runs_in_float64():
    with jax.enable_x64(True):
        assert Limited(rate=1e300).rate == 1e300
        with pytest.raises(ConfigError, match="finite"):
            Limited(rate=-math.inf)
