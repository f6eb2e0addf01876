"""Files that a person names: what a folder, a wildcard and a list stand for."""

import io
import os
import re
import types
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitjax.core import file_lists
from vitjax.core.errors import ConfigError
from vitjax.core.file_lists import find_images
from vitjax.core.text import natural_key


@pytest.fixture
def photos(tmp_path, monkeypatch):
    names = (
        "p/b/10.jpg p/b/9.JPG p/a²3.png p/a.tif p/.hidden.png p/.cache/x.png p/@eaDir/x.jpg"
        " p/notes.txt p/readme p/b/c/d.webp other/a.png p[1].png @odd.png"
    )
    for name in names.split():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


BELOW = ["p/a.tif", "p/a²3.png", "p/b/9.JPG", "p/b/10.jpg", "p/b/c/d.webp"]


def test_a_folder_stands_for_its_images_in_natural_order(photos):
    said = []
    assert find_images("p", say=said.append) == BELOW
    (line,) = said
    assert line == "Left out: 2 files of other kinds: 1 .txt, 1 without a suffix"


def test_a_link_to_a_folder_above_is_followed_once_and_to_another_one_is_followed(photos):
    (photos / "p" / "b" / "up").symlink_to(photos / "p")
    (photos / "p" / "z").symlink_to(photos / "other")
    assert find_images(["p"]) == [*BELOW, "p/z/a.png"]


@pytest.mark.parametrize(
    ("named", "found"),
    [
        (["p/b/*"], ["p/b/9.JPG", "p/b/10.jpg", "p/b/c/d.webp"]),
        (["p/**/*.png"], ["p/a²3.png"]),
        (["?ther"], ["other/a.png"]),
        (["p[1].png"], ["p[1].png"]),  # which exists under that name
        (["./@odd.png", "p/notes.txt"], ["./@odd.png", "p/notes.txt"]),  # named itself: any suffix
        (["p/b/10.jpg", "p"], ["p/b/10.jpg", *(x for x in BELOW if x != "p/b/10.jpg")]),
        (["other", "other/a.png", "./other/a.png"], ["other/a.png"]),
    ],
)
def test_wildcards_and_names(photos, named, found):
    assert find_images(named) == found


def test_a_list_has_a_path_per_line(photos, monkeypatch):
    (photos / "list.txt").write_bytes("\ufeff# a comment\r\n\r\np/a²3.png\r\nother\n".encode())
    expected = ["p/a²3.png", "other/a.png"]
    assert find_images("@list.txt") == find_images([], ["list.txt"]) == expected
    stdin = types.SimpleNamespace(buffer=io.BytesIO(b"other\n"))
    monkeypatch.setattr(file_lists.sys, "stdin", stdin)
    assert find_images(["@-"]) == ["other/a.png"]


STRANGE = (
    "two\nlines.png",
    "# no comment.png",
    "carriage\r.png",
    "next\x85\u2028\x0c.png",
    " .png",
)


def test_a_list_with_nul_bytes_names_any_file(photos):
    for name in STRANGE:
        (photos / name).touch()
    (photos / "list").write_bytes("".join(f"{name}\0" for name in STRANGE).encode())
    assert find_images("@list") == list(STRANGE)


def test_lines_of_a_list_end_at_line_ends_alone(photos):
    (photos / STRANGE[3]).touch()
    for end in ("\n", "\r\n"):
        (photos / "list").write_bytes(f"{STRANGE[3]}{end}other{end}".encode())
        assert find_images("@list") == [STRANGE[3], "other/a.png"]


def test_the_home_folder(photos, monkeypatch):
    monkeypatch.setenv("HOME", str(photos))
    assert find_images(["~/other", "~/p/a.tif"]) == [
        str(photos / "other/a.png"),
        str(photos / "p/a.tif"),
    ]


def test_what_was_predicted_is_left_out_of_folders_alone(photos):
    written = [photos / "p" / "a.tif", photos / "p" / "b" / "10.jpg"]
    assert find_images("p", apart_from=written) == ["p/a²3.png", "p/b/9.JPG", "p/b/c/d.webp"]
    assert find_images("p/a.tif", apart_from=written) == ["p/a.tif"]
    with pytest.raises(ConfigError, match="predictions wrote all"):
        find_images("other", apart_from=[photos / "other" / "a.png"])


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ([], "no images are given"),
        (["p/a.tiff"], r"no file or folder 'p/a\.tiff'; did you mean 'p/a\.tif'\?"),
        (["q/a.tif"], r"'q/a\.tif' \(there is no folder 'q'\)"),
        (["x.png", "other", "y.png"], r"2 files or folders do not exist: 'x\.png', 'y\.png'"),
        (["nothing*"], r"the wildcard 'nothing\*' matches no image; images are recognised"),
        (["p/*.txt"], r"has no image \(1 file of other kinds: 1 \.txt\); images are recognised"),
        (["p/.cache/empty"], "the folder 'p/.cache/empty' has no image"),
        (["@lst.txt"], r"the list 'lst\.txt' cannot be read: No such file .*did you mean"),
        (["@empty.txt"], "the list 'empty.txt' has no paths"),
        (["@binary.txt"], "is not a text file"),
    ],
)
def test_mistakes_are_named(photos, named, message):
    (photos / "p" / ".cache" / "empty").mkdir()
    (photos / "list.txt").write_text("other")
    (photos / "empty.txt").write_text("\n# nothing\n")
    (photos / "binary.txt").write_bytes(b"a\0b")
    with pytest.raises(ConfigError, match=message):
        find_images(named)


@given(st.lists(st.text(st.sampled_from("a²٣₁9Ⅷ10._")), max_size=6))
def test_any_names_can_be_sorted(names):
    assert sorted(sorted(names, key=natural_key)) == sorted(names)


def test_numbers_sort_by_value_and_superscripts_as_letters():
    names = ["a10", "a9", "a²", "a", "9"]
    assert sorted(names, key=natural_key) == ["9", "a", "a9", "a10", "a²"]


def test_no_code_takes_superscripts_for_digits():
    """`str.isdigit` and `isnumeric` are true for "²", which `int` refuses; `isdecimal` is not."""
    package = Path(file_lists.__file__).parents[1]
    misused = re.compile(r"\.(isdigit|isnumeric)\(")
    assert [path for path in package.rglob("*.py") if misused.search(path.read_text())] == []


def test_names_that_are_not_utf_8(tmp_path):
    name = os.fsdecode(b"\xff.png")
    (tmp_path / name).touch()
    (tmp_path / "list").write_bytes(os.fsencode(tmp_path / name))
    assert find_images([f"@{tmp_path / 'list'}"]) == [str(tmp_path / name)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "files is None; it must be a path or a list of paths"),
        (["a.png", 3], r"files\[1\] is 3; it must be a path"),
    ],
)
def test_what_is_no_path_is_refused(given, words):
    with pytest.raises(ConfigError, match=words):
        find_images(given)
