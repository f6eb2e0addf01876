"""Names and keywords: what is found, what is refused, and in which words."""

from __future__ import annotations

import functools
import re
import sys
import types

import pytest
from flax import linen as nn
from registering import forgotten

from vitjax.core.errors import ConfigError, UserError
from vitjax.core.registry import Registry
from vitjax.core.text import near_match
from vitjax.core.validation import call, check_keywords, keywords_of
from vitjax.models import MODELS


@pytest.fixture
def tools():
    registry: Registry = Registry("tool")

    @registry.register("hammer", weight=2)
    def hammer(*, strokes: int, nail: str = "long") -> str:
        return f"{nail} nail, {strokes} strokes"

    @registry.register("saw")
    def saw(teeth: int = 10) -> int:
        return teeth

    return registry


def message(error: pytest.ExceptionInfo) -> str:
    return str(error.value)


def test_a_config_error_is_for_the_person_at_the_keyboard():
    assert issubclass(ConfigError, UserError)
    assert issubclass(ConfigError, ValueError)


@pytest.mark.parametrize(
    ("word", "options", "expected"),
    [
        ("learning_rat", ["learning_rate", "name"], "; did you mean 'learning_rate'?"),
        ("vit_s61", ["vit_s16", "vit_b16"], "; did you mean 'vit_s16'?"),
        ("momentum", ["weight_decay"], ""),
        ("x", [], ""),
        (3, ["3a"], "; did you mean '3a'?"),
    ],
)
def test_near_match(word, options, expected):
    assert near_match(word, options) == expected


def test_names_stand_in_order_of_registration(tools):
    assert tools.names() == ("hammer", "saw")
    assert list(tools) == ["hammer", "saw"]
    assert "saw" in tools
    assert "drill" not in tools


def test_register_returns_the_constructor_and_keeps_its_facts(tools):
    def drill(): ...

    assert tools.register("drill", power="mains")(drill) is drill
    assert tools["drill"] is drill
    assert tools.facts("drill") == {"power": "mains"}
    assert tools.facts("hammer") == {"weight": 2}
    assert tools.facts("saw") == {}


def test_a_name_is_registered_once(tools):
    with pytest.raises(ConfigError, match=r"'saw' is registered already, as .*\.saw; register"):
        tools.register("saw")(lambda: None)
    assert tools.create("saw") == 10


def test_an_object_of_the_same_qualified_name_replaces_the_registered_one():
    registry: Registry = Registry("number")

    def run_file(value: int) -> None:
        @registry.register("number", value=value)
        def number() -> int:
            return value

    run_file(1)
    run_file(2)
    assert registry.create("number") == 2
    assert registry.facts("number") == {"value": 2}


def test_a_partial_is_known_by_the_module_that_registers_it():
    registry: Registry = Registry("number")

    def double(x: int) -> int:
        return 2 * x

    file = "registry.register('two')(functools.partial(double, x=1))"
    names = {"registry": registry, "functools": functools, "double": double}
    for module in ("first", "first"):
        exec(file, {**names, "__name__": module})
    with pytest.raises(ConfigError, match=r"as first\..*double; register second\..*double"):
        exec(file, {**names, "__name__": "second"})
    assert registry.create("two") == 2


def test_providers_are_imported_at_the_first_lookup(tmp_path, monkeypatch):
    (tmp_path / "tool_provider.py").write_text(
        "import tools\ntools.registry.register('hammer')(lambda: tools.registry.names())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry = Registry("tool", providers=("tool_provider",))
    module = types.ModuleType("tools")
    module.registry = registry  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tools", module)
    registry.register("saw")(lambda: None)
    assert "tool_provider" not in sys.modules
    assert registry.names() == ("saw", "hammer")
    assert registry.create("hammer") == ("saw", "hammer")
    monkeypatch.delitem(sys.modules, "tool_provider")


def test_a_provider_that_fails_fails_at_every_lookup(tmp_path, monkeypatch):
    (tmp_path / "broken_provider.py").write_text("raise RuntimeError('broken')\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry = Registry("tool", providers=("broken_provider",))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            registry["saw"]


@pytest.mark.parametrize("look", [lambda r: r["hamer"], lambda r: r.facts("hamer")])
def test_an_unknown_name_says_the_near_match_and_all_names(tools, look):
    with pytest.raises(ConfigError) as error:
        look(tools)
    assert message(error) == ("unknown tool 'hamer'; did you mean 'hammer'? (known: hammer, saw)")
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__


@pytest.mark.parametrize("name", [None, 3, ["saw"], {"name": "saw"}])
def test_a_name_of_another_type_is_an_unknown_name(tools, name):
    with pytest.raises(ConfigError, match=re.escape(f"unknown tool {name!r}")):
        tools[name]


def test_create_calls_the_constructor(tools):
    assert tools.create("hammer", strokes=3) == "long nail, 3 strokes"
    assert tools.create("hammer", strokes=1, nail="short") == "short nail, 1 strokes"


def test_create_may_be_given_a_keyword_called_name():
    registry: Registry = Registry("thing")
    registry.register("thing")(lambda *, name: name)
    # `name` is Linen's own field, so no constructor can ask a config for it.
    with pytest.raises(ConfigError, match="unknown key 'name'"):
        registry.create("thing", name="a")


def test_create_says_where_the_wrong_key_stands(tools):
    with pytest.raises(ConfigError) as error:
        tools.create("hammer", strokes=1, nial="short")
    assert message(error) == (
        "tool 'hammer': unknown key 'nial'; did you mean 'nail'? (known: strokes, nail)"
    )
    with pytest.raises(ConfigError, match=r"^config\.tool: unknown key 'x'"):
        tools.create("hammer", where="config.tool", strokes=1, x=2)


def test_create_says_which_key_is_missing(tools):
    with pytest.raises(ConfigError) as error:
        tools.create("hammer", nail="short")
    assert message(error) == "tool 'hammer': the key 'strokes' is missing"


def test_keywords_of_leaves_out_what_a_config_cannot_give():
    def function(positional, /, both, *rest, only=1, **more): ...

    assert list(keywords_of(function)) == ["both", "only"]


def test_keywords_of_a_linen_module_are_its_own_fields():
    class Module(nn.Module):
        width: int
        depth: int = 2

    assert list(keywords_of(Module)) == ["width", "depth"]
    assert call(Module, {"width": 3}, where="config.model").width == 3
    with pytest.raises(ConfigError, match="unknown key 'parent'"):
        call(Module, {"width": 3, "parent": None}, where="config.model")


def test_what_the_caller_gives_cannot_be_written_by_a_person():
    def build(*, num_classes: int, width: int = 1) -> tuple[int, int]:
        return num_classes, width

    assert call(build, {"width": 5}, where="config.model", num_classes=10) == (10, 5)
    with pytest.raises(ConfigError) as error:
        call(build, {"num_classes": 3}, where="config.model", num_classes=10)
    assert message(error) == (
        "config.model: unknown key 'num_classes' (known: width); --config.model.num_classes=None"
        " removes it"
    )


def test_all_unknown_keys_are_named_at_once_with_what_removes_them():
    def build(width: int = 1, depth: int = 2, drop_path: float = 0): ...

    keys = {"patch_size": 16, "drop_pth": 0.1, "width": 3, "pooling": "mean"}
    with pytest.raises(ConfigError) as error:
        check_keywords(build, keys, where="config.model", name="resnet18")
    assert message(error) == (
        "config.model: unknown keys 'patch_size', 'drop_pth' ('drop_path'?), 'pooling' (known:"
        " width, depth, drop_path); --config.model.patch_size=None --config.model.pooling=None"
        " removes them, and --config.model=resnet18 replaces the section by 'resnet18' with its"
        " defaults"
    )
    # What is no section of a config has no override.
    with pytest.raises(ConfigError, match=r"^tool 'saw': unknown keys 'a', 'b' \(known: [^)]*\)$"):
        check_keywords(build, ["a", "b"], where="tool 'saw'")


def test_keys_that_are_read_elsewhere_are_no_errors():
    def build(*, width: int = 1): ...

    check_keywords(build, ["width", "name"], where="config.model", also=["name"])
    with pytest.raises(ConfigError, match=r"known: width, name\)"):
        check_keywords(build, ["nome"], where="config.model", also=["name"])


def test_a_function_without_keywords_says_so():
    with pytest.raises(ConfigError, match=r"unknown key 'a' \(known: none\)"):
        check_keywords(lambda: None, ["a"], where="config.schedule")


def test_an_error_inside_the_constructor_is_its_own():
    def build(*, width):
        raise TypeError("width is a thing of beauty")

    with pytest.raises(TypeError, match="thing of beauty"):
        call(build, {"width": 1}, where="config.model")


def test_a_section_names_a_constructor(tools):
    section = {"name": "saw", "teeth": 4}
    constructor, rest = tools.from_section(section, "config.tool")
    assert constructor(**rest) == 4
    assert section == {"name": "saw", "teeth": 4}
    constructor, rest = tools.from_section({"kind": "saw", "name": 1}, "config.tool", key="kind")
    assert rest == {"name": 1}
    missing = r"^config.tool: the key 'name' is missing \(known: hammer, saw\)$"
    with pytest.raises(ConfigError, match=missing):
        tools.from_section({"teeth": 4}, "config.tool")
    with pytest.raises(ConfigError, match=r"^config.tool.name: unknown tool 'sew'.*'saw'"):
        tools.from_section({"name": "sew"}, "config.tool")


@pytest.mark.parametrize("name", [[1], {"a": 1}, None, 3])
def test_what_is_no_text_is_no_name(tools, name):
    assert name not in tools
    with pytest.raises(ConfigError, match="unknown tool"):
        tools[name]


def test_tests_forget_what_they_register():
    before = (MODELS.names(), dict(MODELS._facts), dict(MODELS._origins))
    with forgotten():
        MODELS.register("of_this_test", paper="none")(lambda: None)
        assert "of_this_test" in MODELS
    assert (MODELS.names(), MODELS._facts, MODELS._origins) == before
