"""Files that are written completely or not at all."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from vitjax.core.atomic import finite, naming, new_file, replace


def test_a_new_file_comes_whole_with_its_folder(tmp_path):
    path = tmp_path / "a" / "b.txt"
    with new_file(path) as unfinished:
        unfinished.write_text("half")
        assert not path.exists()
        assert unfinished.parent == path.parent  # renaming works within a file system
    assert path.read_text() == "half"
    assert os.listdir(path.parent) == ["b.txt"]


def test_json_has_the_numbers_of_numpy_and_no_nan():
    value = {"a": np.int32(3), "b": (np.float32(0.5), np.nan), "c": [True, np.float64("inf"), None]}
    assert json.dumps(finite(value)) == '{"a": 3, "b": [0.5, null], "c": [true, null, null]}'


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "b.txt"
    path.write_text("old")

    def fail():
        with new_file(path) as unfinished:
            unfinished.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["b.txt"]


def test_of_many_who_write_at_once_one_is_seen_whole(tmp_path):
    path = tmp_path / "b.txt"
    together = threading.Barrier(8)

    def write(letter):
        with new_file(path) as unfinished, open(unfinished, "w") as file:
            for _ in range(100):
                together.wait()
                file.write(letter)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in [letter * 100 for letter in "abcdefgh"]
    assert os.listdir(tmp_path) == ["b.txt"]


def test_content_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    order = []
    fsync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: order.append("fsync") or fsync(file))
    monkeypatch.setattr(os, "replace", lambda *paths: order.append("replace") or rename(*paths))
    (tmp_path / "part").write_text("all")
    replace(tmp_path / "part", tmp_path / "file")
    assert order == ["fsync", "replace"]
    assert (tmp_path / "file").read_text() == "all"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
def test_a_full_disk_is_reported_with_the_file_s_name():
    path = Path("/dev/full")
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"), naming(path):
        path.write_text("x")
