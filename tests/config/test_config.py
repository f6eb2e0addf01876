"""Config files: loaded, overridden, saved and read again, with errors that name the key."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Union, get_args, get_origin, get_type_hints

import hypothesis
import ml_collections
import numpy as np
import pytest
from hypothesis import strategies as st

from vitjax import config as configs
from vitjax.config import overrides
from vitjax.core.errors import ConfigError
from vitjax.data.samplers.base import SAMPLERS
from vitjax.data.sources import SOURCES
from vitjax.models.registry import MODELS
from vitjax.objectives.base import objectives
from vitjax.optim.schedules import schedules
from vitjax.parallel.base import MODES


@pytest.fixture
def config():
    return ml_collections.ConfigDict(
        {
            "seed": 0,
            "model": {"name": "vit_s16", "drop_path": 0.1, "pool": None},
            "optimizer": {"learning_rate": 1e-3, "nesterov": True, "betas": (0.9, 0.999)},
            "data": {"sizes": [32, 32], "epochs": 5, "path": "photos"},
        }
    )


def write(path, text):
    path.write_text(text)
    return path


# -------------------------------------------------------------------------------------------- load


GOOD = """
import ml_collections
def get_config():
    return ml_collections.ConfigDict({"seed": 3, "model": {"name": "vit"}})
"""


def test_load_returns_what_get_config_returns(tmp_path):
    config = configs.load(write(tmp_path / "vit.py", GOOD))
    assert config.seed == 3
    assert config.model.name == "vit"
    assert configs.load(str(tmp_path / "vit.py")).to_dict() == config.to_dict()


def test_load_takes_a_plain_dict(tmp_path):
    config = configs.load(write(tmp_path / "a.py", "def get_config(): return {'a': {'b': 1}}"))
    assert isinstance(config, ml_collections.ConfigDict)
    assert config.a.b == 1


def test_text_after_a_colon_is_handed_to_get_config(tmp_path):
    path = write(tmp_path / "a.py", "def get_config(source='npz'): return {'source': source}")
    assert configs.load(path).source == "npz"
    assert configs.load(f"{path}:tfds").source == "tfds"
    assert configs.load(f"{path}:a:b.py").source == "a:b.py"


def test_an_error_in_get_config_says_how_it_was_called(tmp_path):
    path = write(tmp_path / "a.py", GOOD)
    with pytest.raises(ConfigError, match=r"a\.py: get_config\('tfds'\): .*argument"):
        configs.load(f"{path}:tfds")
    path = write(tmp_path / "b.py", "def get_config(): raise KeyError('nothing')")
    with pytest.raises(ConfigError, match=r"b\.py: get_config\(\): .*nothing"):
        configs.load(path)


def test_each_load_is_fresh(tmp_path):
    path = write(tmp_path / "vit.py", GOOD)
    configs.load(path).seed = 9
    assert configs.load(path).seed == 3


def test_load_of_no_file_says_the_near_match(tmp_path):
    write(tmp_path / "resnet.py", GOOD)
    with pytest.raises(ConfigError) as error:
        configs.load(tmp_path / "resnte.py")
    assert str(error.value) == (
        f"no config file '{tmp_path}/resnte.py'; did you mean '{tmp_path}/resnet.py'?"
    )
    with pytest.raises(ConfigError, match=r"^no config file '/nowhere/at/all\.py'$"):
        configs.load("/nowhere/at/all.py")
    with pytest.raises(ConfigError, match="no config file"):
        configs.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{}", r"a config is a Python file \(.py\)"),
        ("a.py", "seed = 3", r"a.py: has no function get_config\(\)"),
        ("a.py", "def get_config(: pass", "a.py: SyntaxError: "),
        ("a.py", "import nothing_of_that_name", "a.py: ModuleNotFoundError: .*nothing_of_that"),
        ("a.py", "def get_config(): return [1]", r"get_config\(\) returns list, not a ConfigDict"),
        ("a.py", "def get_config(): return None", "returns NoneType"),
    ],
)
def test_load_of_a_broken_file_says_what_is_wrong(tmp_path, name, text, message):
    with pytest.raises(ConfigError, match=message):
        configs.load(write(tmp_path / name, text))


# ---------------------------------------------------------------------------------------- override


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("seed=7", 7),
        ("seed=7.0", 7),
        ("seed=1e3", 1000),
        ("seed=1.5", 1.5),
        ("model.name=resnet50", "resnet50"),
        # Where the config has text, what looks like a number is text.
        ("model.name=50", "50"),
        ("model.name=True", "True"),
        ("model.name=", ""),
        ("model.name=a=b", "a=b"),
        ("model.drop_path=0", 0.0),
        ("model.drop_path=3e-4", 3e-4),
        ("model.pool=token", "token"),
        ("model.pool=3", 3),
        ("model.pool=none", "none"),
        ("optimizer.nesterov=false", False),
        ("optimizer.nesterov=True", True),
        ("optimizer.betas=(0.9,0.95)", (0.9, 0.95)),
        ("optimizer.betas=[0.9,0.95]", (0.9, 0.95)),
        ("data.sizes=(8,)", (8,)),
        ("data.new=[1,2]", (1, 2)),
        ("new.section.key=1", 1),
        ("data.other=none", "none"),
        ("data.other=1_000", 1000),
        ("data.other='3'", "3"),
    ],
)
def test_override_sets_a_value_of_the_old_ones_type(config, argument, expected):
    configs.override(config, [f"--config.{argument}"])
    value = config
    for key in argument.partition("=")[0].split("."):
        value = value[key]
    value = tuple(value) if isinstance(value, list) else value
    assert value == expected
    assert type(value) is type(expected)


def test_a_float_stays_a_float(config):
    configs.override(config, ["--config.optimizer.learning_rate=1"])
    assert type(config.optimizer.learning_rate) is float
    configs.override(config, ["--config.data.epochs=3"])
    assert type(config.data.epochs) is int


def test_none_takes_a_key_away(config):
    configs.override(config, ["--config.model=None", "--config.model.name=resnet"])
    assert config.model.to_dict() == {"name": "resnet"}
    configs.override(config, ["--config.seed=None", "--config.nothing=None"])
    assert "seed" not in config
    assert "nothing" not in config
    # Text stays text: some options are called none.
    configs.override(config, ["--config.model.name=none", "--config.model.positions=none"])
    assert config.model.to_dict() == {"name": "none", "positions": "none"}


def test_a_locked_config_can_be_overridden(tmp_path):
    path = tmp_path / "locked.py"
    path.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config():\n"
        "    config = ConfigDict({'model': {'name': 'a'}})\n"
        "    config.lock()\n"
        "    return config\n"
    )
    config = configs.load(path)
    configs.override(config, ["--config.model.depth=3", "--config.train.steps=5"])
    assert config.to_dict() == {"model": {"name": "a", "depth": 3}, "train": {"steps": 5}}


def test_the_last_override_counts(config):
    configs.override(config, ["--config.seed=1", "--config.seed=2"])
    assert config.seed == 2
    configs.override(config, [])
    assert config.seed == 2


@pytest.mark.parametrize(
    "argument",
    ["--config.seed", "seed=3", "--config.=3", "--config.model..name=a", "--config=3", "--seed=3"],
)
def test_an_override_has_a_form(config, argument):
    with pytest.raises(ConfigError) as error:
        configs.override(config, [argument])
    assert str(error.value) == f"{argument!r}: an override reads --config.section.key=value"


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        # A list where there is a number, and the reverse.
        ("model.drop_path=0.1,0.2", (0.1, 0.2)),
        ("seed=(3,5)", (3, 5)),
        ("data.sizes=32", 32),
        ("optimizer.betas=0.9", 0.9),
        ("optimizer.betas=0.9,inf", (0.9, math.inf)),
        # Words of numbers, in any case.
        ("model.drop_path=inf", math.inf),
        ("model.drop_path=-Infinity", -math.inf),
        ("seed=inf", math.inf),
        ("data.other=-inf", -math.inf),
        ("data.other=(true,False,Inf,None)", (True, False, math.inf, None)),
        # Text, booleans and numbers in each other's place: the reader of the key knows its types.
        ("seed=many", "many"),
        ("seed=true", True),
        ("optimizer.nesterov=2", 2),
        ("optimizer.nesterov=auto", "auto"),
        ("data.sizes=auto", "auto"),
        ("data.path=['a','b']", ("a", "b")),
        # In text, only a list or a dict is not text.
        ("data.path=inf", "inf"),
        ("data.path=2024", "2024"),
        ("data.path=~/photos", "~/photos"),
        (r"data.pattern='\d'", r"\d"),
    ],
)
def test_the_reader_of_a_key_decides_its_type(config, argument, expected):
    path = argument.partition("=")[0]
    configs.override(config, [f"--config.{argument}"])
    value = configs.flatten(config)[path]
    value = tuple(value) if isinstance(value, list) else value
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize("text", ["nan", "NaN", "(nan, 1.0)"])
def test_nan_is_a_number(config, text):
    configs.override(config, [f"--config.model.drop_path={text}"])
    assert math.isnan(np.ravel(config.model.drop_path)[0])


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("model=resnet18", {"name": "resnet18"}),
        ("model='resnet18'", {"name": "resnet18"}),
        ("model={'name': 'vit', 'sizes': (1, 2)}", {"name": "vit", "sizes": (1, 2)}),
        # Sections that the config lacks.
        ("schedule=cosine", {"name": "cosine"}),
        ("objective=maml", {"name": "maml"}),
        ("data.sampler=class_balanced", {"name": "class_balanced"}),
        ("parallel=pmap", {"mode": "pmap"}),
        ("data=digits", {"source": "digits"}),
        # Sections without a name, and values, by a dict; a number for a section of one.
        ("optimizer={}", {}),
        ("seed={'a': {'b': true}}", {"a": {"b": True}}),
        ("losses={'dice': 1.0}", {"dice": 1.0}),
        ("losses.cross_entropy=2", {"cross_entropy": 2}),
    ],
)
def test_a_section_is_replaced_by_a_name_or_a_dict(config, argument, expected):
    config.losses = {"cross_entropy": {"weight": 0.5}}
    path = argument.partition("=")[0].partition(".cross")[0]
    configs.override(config, [f"--config.{argument}"])
    section = config
    for key in path.split("."):
        section = section[key]
    assert section.to_dict() == expected
    # It is a section: its keys can be set.
    configs.override(config, [f"--config.{path}.more=1"])
    assert section.more == 1


@pytest.mark.parametrize("replacement", ["model=resnet20", "model={'name': 'resnet20'}"])
def test_a_section_is_replaced_before_its_keys_are_set_in_any_order(config, replacement):
    keys = ["model.width=8", "seed=3", "model.norm.eps=0.1"]
    expected = {"name": "resnet20", "width": 8, "norm": {"eps": 0.1}}
    for place in range(len(keys) + 1):
        arguments = [*keys[:place], replacement, *keys[place:]]
        changed = ml_collections.ConfigDict(config)
        configs.override(changed, [f"--config.{argument}" for argument in arguments])
        assert changed.model.to_dict() == expected
        assert changed.seed == 3
    # Of two names the last counts.
    for arguments, name in (
        (["model.name=vit_ti16", replacement], "resnet20"),
        ([replacement, "model.name=vit_ti16"], "vit_ti16"),
    ):
        changed = ml_collections.ConfigDict(config)
        configs.override(changed, [f"--config.{argument}" for argument in arguments])
        assert changed.model.to_dict() == {"name": name}


@pytest.mark.parametrize("keys", ["{'a.b': 1}", "{3: 1}", "{None: 1}", "{'a': {(1, 2): 1}}"])
def test_a_key_that_no_section_can_have_is_named(config, keys):
    with pytest.raises(ConfigError, match=r"config\.classes.*cannot be a key"):
        configs.override(config, [f"--config.classes={keys}"])


def test_a_path_through_a_value_is_refused(config):
    with pytest.raises(ConfigError, match=r"config.model.name is a value \('vit_s16'\)"):
        configs.override(config, ["--config.model.name.size=3"])


@pytest.mark.parametrize("value", ["3", "true", "(1,2)"])
@pytest.mark.parametrize("path", ["model", "schedule", "data"])
def test_a_section_with_a_name_is_not_replaced_by_a_value(config, path, value):
    before = config.to_dict()
    with pytest.raises(ConfigError) as error:
        configs.override(config, [f"--config.{path}={value}"])
    assert str(error.value) == (
        f"--config.{path}={value}: config.{path} is a section; a name (--config.{path}=NAME) or a"
        f" dict (--config.{path}={{'key': value}}) replaces it, and --config.{path}.KEY=VALUE sets"
        " a key"
    )
    assert config.to_dict() == before


@pytest.mark.parametrize("value", ["5", "0.5", "foo", "true", "(1,2)"])
@pytest.mark.parametrize("path", ["train", "init", "checkpoint", "losses"])
@pytest.mark.parametrize("present", [True, False])
def test_a_section_of_keys_is_not_replaced_by_a_value(config, path, value, present):
    if present:
        config[path] = {"a": 1}
    elif path == "losses":
        return  # without a section, any key may be a value
    with pytest.raises(ConfigError) as error:
        configs.override(config, [f"--config.{path}={value}"])
    assert str(error.value) == (
        f"--config.{path}={value}: config.{path} is a section; a dict (--config.{path}={{'key':"
        f" value}}) replaces it, and --config.{path}.KEY=VALUE sets a key"
    )


def test_a_boolean_in_the_place_of_a_number_stays_one_for_the_reader(config):
    for path in ("model.drop_path", "optimizer.learning_rate", "seed"):
        configs.override(config, [f"--config.{path}=True"])
        assert configs.flatten(config)[path] is True


def test_a_section_without_a_name_is_not_replaced_by_text(config):
    config.optimizer.groups = {"a": 1}
    with pytest.raises(ConfigError, match=r"optimizer\.groups is a section; a dict"):
        configs.override(config, ["--config.optimizer.groups=adam"])


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("data.classes", "(0, 255)", (0, 255)),
        ("data.classes", "0,1", (0, 1)),
        ("data.classes", "[[7], [8, 9]]", [[7], [8, 9]]),
        ("objective.class_weights", "inverse", "inverse"),
        ("objective.class_weights", "[1, 2.5]", [1, 2.5]),
        ("parallel.rules", "fsdp", "fsdp"),
        ("parallel.rules", "[('a', None)]", [("a", None)]),
    ],
)
def test_a_key_that_may_be_a_section_or_a_value(config, path, text, expected):
    section, key = path.split(".")
    config[section] = {key: {"a": 1, "b": 2}}
    configs.override(config, [f"--config.{path}={text}"])
    assert config[section][key] == expected
    configs.override(config, [f"--config.{path}={{'c': 1}}", f"--config.{path}.d=2"])
    assert config[section][key].to_dict() == {"c": 1, "d": 2}


def takes_both(annotation: object) -> bool:
    """Whether values of an annotation are dicts, and lists or text."""
    if get_origin(annotation) is Annotated:
        return takes_both(get_args(annotation)[0])
    united = get_origin(annotation) in (Union, UnionType)
    kinds = [get_origin(each) or each for each in get_args(annotation) if each is not NoneType]
    return united and Mapping in kinds and len(set(kinds)) > 1


def test_the_keys_that_may_be_a_section_or_a_value():
    """By the annotations of what sections construct."""
    constructed = {
        "data": SOURCES, "data.sampler": SAMPLERS, "parallel": MODES, "objective": objectives,
        "model": MODELS, "schedule": schedules,
    }  # fmt: skip
    found = set()
    for section, registry in constructed.items():
        for name in registry:
            constructor = getattr(registry[name], "func", registry[name])  # of a partial
            if isinstance(constructor, type) and not dataclasses.is_dataclass(constructor):
                constructor = constructor.__init__
            hints = get_type_hints(constructor, include_extras=True)
            found |= {f"{section}.{key}" for key, each in hints.items() if takes_both(each)}
    assert found == overrides._EITHER


# ------------------------------------------------------------------------------------ save, flatten


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
keys = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
trees = st.dictionaries(
    keys,
    st.recursive(
        scalars | st.lists(st.integers() | st.text(max_size=3), max_size=3),
        lambda inner: st.dictionaries(keys, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@hypothesis.given(trees)
def test_json_gives_back_what_was_saved(tree):
    config = ml_collections.ConfigDict(tree)
    text = configs.to_json(config)
    assert configs.from_json(text).to_dict() == config.to_dict()
    assert configs.to_json(configs.from_json(text)) == text
    assert configs.to_dict(config) == tree


@hypothesis.given(trees)
def test_flatten_names_every_value(tree):
    flat = configs.flatten(tree)
    assert list(flat) == sorted(flat, key=lambda key: key.split("."))
    rebuilt: dict = {}
    for path, value in flat.items():
        *sections, key = path.split(".")
        section = rebuilt
        for name in sections:
            section = section.setdefault(name, {})
        section[key] = value
    assert rebuilt == tree


@hypothesis.given(trees.filter(bool), st.data())
def test_an_override_of_a_value_by_itself_changes_nothing(tree, data):
    config = ml_collections.ConfigDict(tree)
    flat = configs.flatten(tree)
    path = data.draw(st.sampled_from(list(flat)))
    value = flat[path]
    hypothesis.assume(not isinstance(value, dict) and value not in (None, "None"))
    # Text that is a list or a dict replaces text as such.
    hypothesis.assume(
        not isinstance(configs.parse_value(str(value)), list | tuple | dict)
        or (isinstance(value, list))
    )
    text = value if isinstance(value, str) else repr(value)
    configs.override(config, [f"--config.{path}={text}"])
    assert config.to_dict() == tree


def test_to_json_sorts_keys(config):
    text = configs.to_json(config)
    assert list(json.loads(text)) == ["data", "model", "optimizer", "seed"]
    assert text == configs.to_json(ml_collections.ConfigDict(json.loads(text)))


def test_to_dict_holds_what_json_holds(config):
    plain = configs.to_dict(config)
    assert plain["optimizer"]["betas"] == [0.9, 0.999]
    assert plain["model"]["pool"] is None
    assert type(plain["model"]) is dict


def test_a_value_that_json_cannot_hold_is_named(config):
    config.model.activation = print
    with pytest.raises(ConfigError, match=r"^config.model.activation: .* is a builtin_function"):
        configs.to_json(config)
    with pytest.raises(ConfigError, match="so that it can be saved with the run"):
        configs.to_dict({"a": {"b": {1, 2}}})


def test_flatten_of_nested_sections_and_of_an_empty_one(config):
    config.schedule = {}
    flat = configs.flatten(config)
    assert flat["model.name"] == "vit_s16"
    assert flat["seed"] == 0
    assert len(flat["schedule"]) == 0
    assert configs.flatten({}) == {}


def test_a_placeholder_needs_a_value_and_gets_it_from_the_command_line(config):
    config.data.files = ml_collections.config_dict.required_placeholder(str)
    with pytest.raises(ConfigError, match=r"^config\.data\.files has no value.*--config"):
        configs.to_json(config)
    configs.override(config, ["--config.data.files=a"])
    assert configs.to_dict(config)["data"]["files"] == "a"


def test_keys_that_json_cannot_sort_are_refused():
    for section in ({"a": {1: 2, "b": 3}}, ml_collections.ConfigDict({"a": {1: 2, "b": 3}})):
        with pytest.raises(ConfigError, match="keys of a section must be strings"):
            configs.to_json(section)
