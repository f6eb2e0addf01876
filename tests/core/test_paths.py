"""A leading ~ is the home folder, in whatever form a path is given."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from vitjax.core.atomic import write_text
from vitjax.core.paths import expanded, given_twice


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    return str(tmp_path)


def test_a_leading_tilde_is_the_home_folder(home):
    assert expanded("~") == home
    assert expanded("~/a b/c.png") == f"{home}/a b/c.png"
    assert expanded(Path("~/runs")) == Path(home, "runs")
    assert expanded("~root/x") in ("~root/x", "/root/x")


def test_a_folder_is_the_same_by_any_path(home):
    Path(home, "a").mkdir()
    Path(home, "link").symlink_to("a")
    assert given_twice([]) is None
    assert given_twice(["~/a", "~/b", Path(home)]) is None
    assert given_twice(["~/a", f"{home}/b/../a"]) == f"{home}/b/../a"
    assert given_twice([Path(home, "link"), Path("~/a")]) == "~/a"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a/~/b",
        "./~",
        "~one",
        "~~",
        "hf:~/x",
        "x | y",
        "~ /x",
        "~nobody-of-this-name/x",
        3,
        None,
    ],
)
def test_what_is_no_path_in_the_home_folder_is_unchanged(value):
    assert expanded(value) == value


def test_lists_and_sections_are_expanded_item_by_item(home):
    section = {"path": "~/a", "deep": {"paths": ["~/b", "c"], "pair": ("~/d", 1)}, "seed": 0}
    expected = {
        "path": f"{home}/a",
        "deep": {"paths": [f"{home}/b", "c"], "pair": (f"{home}/d", 1)},
        "seed": 0,
    }
    assert expanded(section) == expected
    assert section["path"] == "~/a"
    assert expanded(ConfigDict(section).to_dict()) == expected


def test_files_are_written_below_the_home_folder(home):
    write_text(Path("~/folder/a.txt"), "a")
    assert Path(home, "folder", "a.txt").read_text() == "a"
