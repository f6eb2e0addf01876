"""Files of the user's own: imported, kept with a run, imported again from there."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys

import cloudpickle
import pytest

from vitjax import config as configs
from vitjax.config import user_code
from vitjax.core.errors import ConfigError
from vitjax.core.registry import Registry

THINGS: Registry = Registry("thing")

THING = """
import dataclasses
from test_user_code import THINGS

@THINGS.register("thing")
@dataclasses.dataclass
class Thing:
    size: int = {size}
"""
CONFIG = """
def get_config():
    return {"seed": 3, "imports": ("things.py",)}
"""


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setitem(sys.modules, "test_user_code", sys.modules[__name__])
    monkeypatch.setattr(THINGS, "_constructors", {})
    monkeypatch.setattr(THINGS, "_origins", {})
    for name in [name for name in sys.modules if name.startswith(user_code.PACKAGE)]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "things.py").write_text(THING.format(size=1))
    (tmp_path / "mine" / "config.py").write_text(CONFIG)
    return tmp_path / "mine"


def test_files_are_imported_relative_to_the_config(folder, monkeypatch):
    monkeypatch.chdir("/")
    config = configs.load(folder / "config.py")
    assert THINGS.create("thing", size=4).size == 4
    assert config.imports == (str(folder / "things.py"),)
    assert THINGS["thing"].__module__ == "vitjax_user.things"


def test_a_file_may_be_loaded_twice_and_edited_between(folder):
    configs.load(folder / "config.py")
    first = THINGS["thing"]
    configs.load(folder / "config.py")
    assert THINGS["thing"] is first  # the text is the same
    (folder / "things.py").write_text(THING.format(size=2))
    configs.load(folder / "config.py")
    assert THINGS.create("thing").size == 2


def test_a_config_that_registers_something_is_itself_imported(folder):
    (folder / "own.py").write_text(THING.format(size=5) + CONFIG.replace("things", "more"))
    (folder / "more.py").write_text("from vitjax_user.own import Thing\n")
    config = configs.load(folder / "own.py")
    assert config.imports == (str(folder / "own.py"), str(folder / "more.py"))
    assert THINGS.create("thing").size == 5


def test_a_config_that_registers_nothing_gets_no_key(folder):
    (folder / "plain.py").write_text("def get_config(): return {'seed': 1}")
    assert "imports" not in configs.load(folder / "plain.py")


def test_a_run_keeps_the_files_and_is_enough(folder, tmp_path):
    said: list[str] = []
    config = configs.to_dict(configs.load(folder / "config.py"))
    saved = user_code.save(config, tmp_path / "run", said.append)
    assert saved == {"seed": 3, "imports": ["code/things.py"]}
    assert config["imports"] == [str(folder / "things.py")]
    shutil.rmtree(folder)
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    code = (
        "import sys, types\n"
        "from vitjax.config import user_code\n"
        "from vitjax.core.registry import Registry\n"
        "module = sys.modules['test_user_code'] = types.ModuleType('test_user_code')\n"
        "module.THINGS = Registry('thing')\n"
        "config = {'imports': ['code/things.py']}\n"
        f"user_code.restore(config, {str(tmp_path / 'elsewhere')!r})\n"
        "print(config['imports'], module.THINGS['thing'].__module__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True
    )
    copy = str(tmp_path / "elsewhere" / "code" / "things.py")
    assert done.stdout == f"['{copy}'] vitjax_user.things\n"
    assert said == []


def test_an_edited_file_is_reported(folder, tmp_path):
    said: list[str] = []
    user_code.save(configs.load(folder / "config.py").to_dict(), tmp_path, said.append)
    (folder / "things.py").write_text(THING.format(size=2))
    user_code.save(configs.load(folder / "config.py").to_dict(), tmp_path, said.append)
    assert len(said) == 1
    assert str(folder / "things.py") in said[0]
    user_code.restore({"imports": ["code/things.py"]}, tmp_path, said.append)
    assert THINGS.create("thing").size == 2
    assert len(said) == 1
    (tmp_path / "code" / "things.py").write_text(THING.format(size=3))
    user_code.restore({"imports": ["code/things.py"]}, tmp_path, said.append)
    assert "code/things.py was edited" in said[1]


@pytest.mark.parametrize(
    ("imports", "words"),
    [
        (("thing.py",), r"no file '.*thing\.py'; did you mean '.*things\.py'"),
        ("things.py", r"config\.imports is 'things\.py'; it must be a list of Python files"),
        ((3,), r"config\.imports is \(3,\); it must be a list"),
        (("things.txt",), r"things\.txt: not a Python file"),
        (("broken.py",), r"broken\.py: ZeroDivisionError: "),
        (("a/things.py", "things.py"), "have the same name"),
        (("things.py", "other.py"), r"other\.py: thing 'thing' is registered already, as vitjax_u"),
    ],
)
def test_what_cannot_be_imported_is_named(folder, imports, words):
    (folder / "a").mkdir()
    (folder / "a" / "things.py").write_text("")
    (folder / "things.txt").write_text("")
    (folder / "broken.py").write_text("1 / 0")
    (folder / "other.py").write_text(THING.format(size=1).replace("class Thing", "class Other"))
    with pytest.raises(ConfigError, match=words):
        user_code.load({"imports": imports}, folder)


def test_a_file_that_fails_leaves_no_module(folder):
    (folder / "broken.py").write_text("1 / 0")
    with pytest.raises(ConfigError):
        user_code.run(folder / "broken.py")
    assert "vitjax_user.broken" not in sys.modules


def test_worker_processes_receive_what_a_file_defines(folder):
    configs.load(folder / "config.py")
    sent = cloudpickle.dumps(THINGS.create("thing", size=7))
    code = f"import pickle; print(pickle.loads({sent!r}).size)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "7\n"
    assert pickle.loads(sent).size == 7
