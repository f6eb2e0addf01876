"""Bad values for every key that a config can have, by the key's annotation.

Each is told in one line that names the key, by the checks that come before data is read.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
import types
import typing
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal

import pytest
from damaging import assert_answered, run

import vitjax.data
from vitjax.core.constraints import Bounds, Constraint, Length, OneOf
from vitjax.core.errors import ConfigError
from vitjax.core.validation import _hints, check_value, keywords_of
from vitjax.data.creation import _kind_of
from vitjax.data.samplers.base import SAMPLERS
from vitjax.data.sources.base import SOURCES
from vitjax.data.transforms.base import TRANSFORMS
from vitjax.data.transforms.pipeline import parse
from vitjax.losses.class_weights import WEIGHTINGS
from vitjax.losses.segmentation import LOSSES
from vitjax.models.registry import MODELS
from vitjax.objectives import objectives
from vitjax.optim.arguments import annotations_of
from vitjax.optim.lookup import find_optimizer, optimizer_names
from vitjax.optim.optimizers import Settings as OptimizerSettings
from vitjax.optim.schedules import schedules
from vitjax.parallel.base import MODES
from vitjax.parallel.rules import RULES
from vitjax.training import experiment as experiments
from vitjax.training import sections
from vitjax.training.checkpoints import Checkpoints
from vitjax.training.settings import LENGTHS, Settings, Start

BAD = [
    *(math.nan, math.inf, -math.inf, 1e300, -1e300, 10**18, 10**30, 10**400, -(10**18)),
    *(-1, 0, 0.5, 1.5, 2, True, None, "maybe", "", "x" * 10**5, "nan", [], [[]], [[[[1]]]], {}),
    *([math.nan], [math.inf, 1.0], [-1, -1], ["maybe"], [None], [[["a", math.nan]]]),
    *({"a": math.nan}, {"a": {"b": 1}}, {"name": 5}, {"name": "maybe"}),
]
LARGEST_FLOAT = 3.4028234663852886e38
# Annotations of which a config's values are no part: what a caller or the trainer gives.
FUNCTIONS = (typing.Callable, types.FunctionType)


def fits(value: Any, hint: Any) -> bool:
    """Whether ``hint`` allows ``value``, by the words of its docstrings and no code of vitjax."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        constraints = [each for each in inner[1:] if isinstance(each, Constraint)]
        return fits(value, inner[0]) and all(satisfies(value, each) for each in constraints)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in inner)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    kind = origin or hint
    if kind in (int, float):
        number = numbers.Integral if kind is int else numbers.Real
        if not isinstance(value, number) or isinstance(value, bool):
            return False
        most = LARGEST_FLOAT if isinstance(value, float) else 2**63 - 1
        return -most <= value <= most  # False for nan
    if kind in (bool, str, types.NoneType):
        return isinstance(value, kind)
    if kind in (list, tuple, Sequence):
        if not isinstance(value, list):
            return False
        if kind is tuple and inner and inner[-1] is not Ellipsis:
            return len(value) == len(inner) and all(map(fits, value, inner))
        return not inner or all(fits(each, inner[0]) for each in value)
    if kind in (dict, Mapping):
        return isinstance(value, dict) and all(
            fits(each, inner[1]) for each in (value.values() if inner else ())
        )
    if dataclasses.is_dataclass(kind):
        return isinstance(value, dict)  # its keys are swept by themselves
    if kind is Any:
        return True
    raise AssertionError(f"a config cannot hold {hint}")


def satisfies(value: Any, constraint: Constraint) -> bool:
    if isinstance(constraint, Bounds):
        low, high = constraint.at_least, constraint.at_most
        return (
            (low is None or value >= low)
            and (high is None or value <= high)
            and (constraint.above is None or value > constraint.above)
            and (constraint.below is None or value < constraint.below)
        )
    if isinstance(constraint, Length):
        return constraint.at_least <= len(value) <= (constraint.at_most or len(value))
    if isinstance(constraint, OneOf):
        return value in constraint.options
    return constraint.allows(value)


def bad_values(hint: Any) -> list[Any]:
    """Values that ``hint`` does not allow: those of `BAD`, and neighbours of its bounds."""
    neighbours = []
    for bounds in bounds_within(hint):
        neighbours += [end - 1 for end in (bounds.at_least, bounds.above) if end is not None]
        neighbours += [end + 1 for end in (bounds.at_most, bounds.below) if end is not None]
        neighbours += [end for end in (bounds.above, bounds.below) if end is not None]
    return [value for value in (*BAD, *neighbours) if not fits(value, hint)]


def bounds_within(hint: Any) -> list[Bounds]:
    found = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Bounds)]
    return found + [each for part in typing.get_args(hint) for each in bounds_within(part)]


# ------------------------------------------------------------------------------------ the sections


@dataclasses.dataclass(frozen=True)
class Part:
    """Keys that one place of a config may have, with the annotations of their values.

    Attributes:
        title: of the test.
        path: the keys that lead to the place.
        base: the values that the place has beside the key in question.
        hints: key to annotation.
        data: section ``data`` of the config around it.
        around: other sections of the config around it.
    """

    title: str
    path: tuple[str, ...]
    base: Mapping[str, Any]
    hints: Mapping[str, Any]
    data: str = "digits"
    around: Mapping[str, Any] = dataclasses.field(default_factory=dict)


DATA = {
    "digits": {"source": "digits", "batch_size": 8},
    "cells": {"source": "cells", "batch_size": 2},
    "glyphs": {"source": "glyphs", "batch_size": 2, "episodes": {}},
    "sinusoid": {"source": "sinusoid", "batch_size": 2, "episodes": {}},
}
OBJECTIVE = {
    "digits": {"name": "classification"},
    "cells": {"name": "segmentation"},
    "glyphs": {"name": "maml"},
    "sinusoid": {"name": "maml"},
}
MODEL = {"digits": "mlp_omniglot", "cells": "unet", "glyphs": "conv4", "sinusoid": "mlp_sinusoid"}
# Keys whose annotation leaves something open, and why.
OPEN = {
    "class_weights": "names of classes, or a section that is checked by its name",
    "inner_optimizer": "a section that is checked by its name",
    "losses": "sections that are checked by their names",
    "sampler": "a section that is checked by its name",
    "rules": "a section that is checked by its name",
    "class_split": "lists of classes, which are compared with the data",
    "mask": "a tree like the parameters",
    "weight_decay_mask": "a tree like the parameters",
    "trust_ratio_mask": "a tree like the parameters",
    "encoder": "a model and its fields, which are checked where it is built",
}
GIVEN = {
    **dict.fromkeys(("run_classes", "training", "counts"), "by the data"),
    **dict.fromkeys(sections.OFFERED | {"axis_name"}, "by the trainer"),
}


def hints_of(function: Any, without: Sequence[str] = ()) -> dict[str, Any]:
    resolved = _hints(function)
    keys = [key for key in keywords_of(function) if key not in GIVEN and key not in without]
    missing = [key for key in keys if key not in resolved]
    assert not missing, f"{function}: {missing} have no annotation that resolves"
    return {key: resolved[key] for key in keys}


def required(function: Any) -> dict[str, Any]:
    """Values for the parameters without a default, all of which are text or numbers."""
    keys = [k for k, p in keywords_of(function).items() if p.default is inspect.Parameter.empty]
    return {key: "nothing" for key in keys if key not in GIVEN}


def units(names: Sequence[str], several: Sequence[str] = ()) -> dict[str, Any]:
    """Annotations of lengths: what a length must be is said once more here."""
    length = Annotated[float, Bounds(at_least=0)]
    fraction = Annotated[float, Bounds(at_least=0, at_most=1)]
    found = {}
    for name in names:
        for unit, hint in (("steps", length), ("epochs", length), ("fraction", fraction)):
            found[f"{name}_{unit}"] = (Sequence[hint] if name in several else hint) | None
    return found


def nested(title: str, path: tuple[str, ...], hints: Mapping[str, Any], **keywords: Any) -> list:
    """The parts of the sections within a section."""
    found = []
    for key, hint in hints.items():
        for member in (hint, *typing.get_args(hint)):
            if isinstance(member, type) and dataclasses.is_dataclass(member):
                own = hints_of(member)
                base = {k: 3 if k == "patience" else v for k, v in required(member).items()}
                found.append(Part(f"{title}.{key}", (*path, key), base, own, **keywords))
    return found


def parts() -> list[Part]:
    found = [Part("config", (), {}, {"seed": _hints(sections.Sections)["seed"]})]
    found += _optimizers() + _schedules() + _engine() + _data() + _objectives()
    return found


def _optimizers() -> list[Part]:
    own = {"name": "sgd", "learning_rate": 0.1}
    found = [Part("optimizer", ("optimizer",), own, hints_of(OptimizerSettings))]
    for name in optimizer_names():
        constructor = find_optimizer(name, "name")
        hints = dict(annotations_of(name, constructor))
        for key in ("learning_rate", "weight_decay", "weight_decay_rate"):
            hints.pop(key, None)
        base = {"name": name, "learning_rate": 0.1}
        base |= {key: 1 for key in required(constructor) if key != "learning_rate"}
        found.append(Part(f"optimizer {name}", ("optimizer",), base, hints))
    hints = dict(annotations_of("adam", find_optimizer("adam", "name")))
    del hints["learning_rate"]
    path = ("objective", "inner_optimizer")
    return [*found, Part("inner optimizer", path, {"name": "adam"}, hints, "glyphs")]


def _schedules() -> list[Part]:
    found = []
    for name in schedules:
        facts = schedules.facts(name)
        lengths = ("warmup", "cooldown", *facts.get("lengths", ()))
        hints = hints_of(schedules[name], without=lengths)
        hints |= {"warmup_from": Annotated[float, Bounds(at_least=0)]}
        hints |= units(lengths, facts.get("lists", ()))
        found.append(Part(f"schedule {name}", ("schedule",), {"name": name}, hints))
    return found


def _engine() -> list[Part]:
    length = Annotated[float, Bounds(at_least=0, at_most=2**31 - 1)]
    train = hints_of(Settings, without=LENGTHS) | units(LENGTHS)
    found = [
        Part("train", ("train",), {"steps": 3}, train),
        Part("train steps", ("train",), {"steps": 3}, {"steps": length}),
        Part("train epochs", ("train",), {"epochs": 3}, {"epochs": length}),
        *nested("train", ("train",), train),
        Part("init", ("init",), {"from_checkpoint": "x.npz"}, hints_of(Start)),
    ]
    given = ("directory", "read_only", "free_keys", "higher_is_better", "explain")
    hints = hints_of(Checkpoints, without=given) | units(["every"])
    found.append(Part("checkpoint", ("checkpoint",), {}, hints))
    modes = [
        Part(f"parallel {name}", ("parallel",), {"mode": name}, hints_of(MODES[name]))
        for name in MODES
    ]
    rules = [
        Part(f"rule {name}", ("parallel", "rules"), {"name": name}, hints_of(RULES[name]))
        for name in RULES
    ]
    return [*found, *modes, *rules]


def _data() -> list[Part]:
    found = []
    for name in SOURCES:
        episodic = bool(SOURCES.facts(name).get("episodic"))
        base = {"source": name, "batch_size": 2, **required(SOURCES[name])}
        base |= {"episodes": {}} if episodic else {}
        target = SOURCES.facts(name).get("target", "class")
        around = {"class": "digits", "mask": "cells", "number": "sinusoid"}[target]
        if target == "number" and not episodic:
            continue  # no objective of vitjax learns from it
        kind = _kind_of(name, episodic)
        hints = hints_of(kind.settings_class) | hints_of(SOURCES[name])
        for part in (("data", hints), *((n.title, n.hints) for n in nested("data", (), hints))):
            inner = part[0].split(".")[1:]
            own = base if not inner else {}
            found.append(Part(f"{name} {part[0]}", ("data", *inner), own, part[1], around))
            if inner:
                found[-1] = dataclasses.replace(found[-1], around={"data": base})
    settings = _kind_of("glyphs", True).settings_class
    hints = hints_of(settings)
    found += nested("episodes", ("data",), hints, data="glyphs")
    for name in SAMPLERS:
        path = ("data", "sampler")
        found.append(Part(f"sampler {name}", path, {"name": name}, hints_of(SAMPLERS[name])))
    return found


def _objectives() -> list[Part]:
    found = []
    for name in objectives:
        method = objectives[name]
        targets = method.targets or ("class",)
        data = "glyphs" if method.episodic else {"class": "digits", "mask": "cells"}[targets[0]]
        hints = hints_of(method)
        found.append(Part(f"objective {name}", ("objective",), {"name": name}, hints, data))
        found += nested(f"objective {name}", ("objective",), hints, data=data)
    for name in LOSSES:
        hints = hints_of(LOSSES[name]) | {"weight": Annotated[float, Bounds(at_least=0)]}
        found.append(Part(f"loss {name}", ("objective", "losses", name), {}, hints, "cells"))
    for name in WEIGHTINGS:
        path = ("objective", "class_weights")
        found.append(Part(f"weighting {name}", path, {"name": name}, hints_of(WEIGHTINGS[name])))
    return found


def config_with(part: Part, values: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """The config around a part, with ``values`` in it."""
    config: dict[str, Any] = {
        "model": {"name": MODEL[part.data]},
        "data": {**DATA[part.data]},
        "objective": {**OBJECTIVE[part.data]},
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "train": {"steps": 3},
        **part.around,
    }
    section = config
    for key in part.path[:-1]:
        section[key] = dict(section.get(key, {}))
        section = section[key]
    if part.path:
        section[part.path[-1]] = {**part.base, **values}
    else:
        config |= values
    return config


class DataRead(Exception):
    """The checks are over: data would be read now."""


@pytest.fixture
def checked(monkeypatch):
    """`vitjax.build` until data would be read: what ``vitjax train`` does first."""

    def read(**_):
        raise DataRead

    monkeypatch.setattr(vitjax.data, "create", read)
    return experiments.build


PARTS = parts()


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.title)
def test_every_bad_value_is_told_before_data_is_read(part, checked):
    with pytest.raises(DataRead):
        checked(config_with(part))
    accepted, unclear = [], []
    for place, (key, hint) in enumerate(part.hints.items()):
        # All of them are checked below, once for each annotation.
        for value in bad_values(hint)[place % 4 :: 4]:
            if value is None and key in part.base:
                continue  # None takes some keys away
            try:
                checked(config_with(part, {key: value}))
            except DataRead:
                accepted.append(f"{key} = {value!r:.60}")
            except ConfigError as error:
                text = str(error)
                if key not in text or len(text.splitlines()) > 1 or len(text) > 3000:
                    unclear.append(f"{key} = {value!r:.60}: {text[:200]}")
    assert not accepted
    assert not unclear


def test_every_annotation_refuses_all_values_that_it_does_not_allow():
    hints = {repr(hint): hint for part in PARTS for hint in part.hints.values()}
    hints |= {repr(hint): hint for name in MODELS for hint in hints_of(MODELS[name]).values()}
    hints |= {repr(h): h for name in TRANSFORMS for h in hints_of(TRANSFORMS[name]).values()}
    assert len(hints) > 60
    accepted, refused, answers = [], [], []
    for hint in hints.values():
        bad = bad_values(hint)
        for value in bad:
            try:
                check_value(value, hint, "key")
            except ConfigError as error:
                answers.append(str(error))
            else:
                accepted.append((value, hint))
        for value in BAD:
            if fits(value, hint):
                try:
                    check_value(value, hint, "key")
                except ConfigError as error:
                    refused.append((value, hint, str(error)))
    assert not accepted
    assert not refused
    assert len(answers) > 1000
    assert all(text.startswith("key") and len(text) < 3000 for text in answers)


def open_parts(hint: Any) -> bool:
    """Whether an annotation leaves something open: any value, or a section of any keys."""
    if any(not isinstance(each, Bounds) for each in getattr(hint, "__metadata__", ())):
        return open_parts(typing.get_args(hint)[0]) and typing.get_args(hint)[0] is not Any
    inner = typing.get_args(hint)
    if hint in (Any, Mapping, dict, list, tuple, Sequence):
        return True
    kinds = [each for each in inner if not isinstance(each, Constraint) and each is not Ellipsis]
    return typing.get_origin(hint) is not Literal and any(map(open_parts, kinds))


def test_no_key_is_open_without_a_reason():
    found = {key for part in PARTS for key, hint in part.hints.items() if open_parts(hint)}
    for registry in (MODELS, TRANSFORMS):
        hints = [pair for name in registry for pair in hints_of(registry[name]).items()]
        found |= {key for key, hint in hints if open_parts(hint)}
    assert found == set(OPEN)


@pytest.mark.parametrize("name", list(TRANSFORMS))
def test_bad_arguments_of_transforms_are_told(name):
    needed = ", ".join(f"{key}={value}" for key, value in NEEDED.get(name, {}).items())
    parse(f"{name}({needed})", "config.data.train_transforms")
    accepted, unclear = [], []
    for key, hint in hints_of(TRANSFORMS[name]).items():
        for value in bad_values(hint):
            more = {k: v for k, v in NEEDED.get(name, {}).items() if k != key}
            text = ", ".join(f"{k}={v}" for k, v in {**more, key: literal(value)}.items())
            try:
                parse(f"{name}({text})", "config.data.train_transforms")
            except ConfigError as error:
                words = str(error)
                if key not in words or len(words.splitlines()) > 1 or len(words) > 3000:
                    unclear.append(f"{text:.60}: {words:.200}")
            else:
                accepted.append(f"{text:.60}")
    assert not accepted
    assert not unclear


# Arguments without a default.
NEEDED = {
    "corrupt": {"corruption": "'fog'"},
    "resize": {"size": 8},
    "center_crop": {"size": 8},
    "crop": {"size": 8},
    "pad_and_crop": {"size": 8},
    "random_resized_crop": {"size": 8},
    "pad_to_multiple": {"multiple": 8},
    "shift": {"pixels": 2},
    "two_views": {"first": "'flip'"},
}


def literal(value: Any) -> str:
    """``value`` as a pipeline has it; infinity is a number of too many digits."""
    return repr(value).replace("inf", "1e999")


@pytest.mark.parametrize("name", ["conv4", "mlp_omniglot", "resnet12", "vit_ti16", "unet"])
def test_bad_fields_of_models_are_told_before_data_is_read(name, checked):
    hints = hints_of(MODELS[name])
    around = {"model": {"name": name}}
    data = "cells" if name == "unet" else "digits"
    part = Part(name, ("model",), {"name": name}, hints, data, around)
    for place, (key, hint) in enumerate(hints.items()):
        for value in bad_values(hint)[place % 4 :: 4]:
            with pytest.raises(ConfigError, match=key):
                checked(config_with(part, {key: value}))


def test_the_command_says_it_fast_and_leaves_no_workdir(tmp_path):
    arguments = ["--config=digits/vit", f"--workdir={tmp_path / 'run'}"]
    ended = run("-m", "vitjax", "train", *arguments, "--config.optimizer.adam_b1=2")
    assert_answered(ended, "config.optimizer.adam_b1 is 2; it must be in [0, 1)")
    assert not (tmp_path / "run").exists()
