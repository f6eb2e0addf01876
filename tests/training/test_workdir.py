"""A run's folder: one process writes, and its format is known."""

import json
import os
import subprocess
import sys

import pytest

from vitjax.training import workdir
from vitjax.training.workdir import WorkdirError

TRY = (
    "import sys, pathlib\nfrom vitjax.training import workdir\n"
    "with workdir.lock(pathlib.Path(sys.argv[1])): print('held')\n"
)


def attempt(folder):
    return subprocess.run(
        [sys.executable, "-c", TRY, folder], capture_output=True, text=True, check=False
    )


def test_one_process_holds_a_folder(tmp_path):
    folder = tmp_path / "a" / "run"
    with workdir.lock(folder):
        done = attempt(folder)
        assert f"another run (process {os.getpid()} on {os.uname().nodename}) is" in done.stderr
        assert done.returncode != 0
    assert attempt(folder).stdout == "held\n"
    with workdir.lock(folder):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(WorkdirError, match=r"file/run: cannot write there \(Not a directory\)"),
        workdir.lock(tmp_path / "file" / "run"),
    ):
        raise AssertionError


def test_a_run_carries_its_format(tmp_path):
    with workdir.lock(tmp_path):
        assert json.loads((tmp_path / "workdir.json").read_text()) == {"format": workdir.FORMAT}


def test_a_folder_without_a_format_is_read(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert workdir.read_config(tmp_path).to_dict() == {}


@pytest.mark.parametrize("text", ["", '{"a": ', "3", "[]", "\0"])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        (workdir.CONFIG, workdir.read_config),
        (workdir.DATA, workdir.read_data),
        (workdir.ABOUT, workdir.check_format),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, read, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(WorkdirError, match=rf"{name}: the file is damaged \("):
        read(tmp_path)


def test_another_format_is_refused_and_left_alone(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "workdir.json").write_text('{"format": 99}')
    with pytest.raises(WorkdirError, match=r"has format 99 .* reads format 1"):
        workdir.read_config(tmp_path)
    with pytest.raises(WorkdirError, match=r"has format 99"), workdir.lock(tmp_path):
        raise AssertionError
    assert (tmp_path / "workdir.json").read_text() == '{"format": 99}'
