"""A run's folder: one process writes, and its format is known."""

import json
import os
import subprocess
import sys
import tracemalloc

import pytest

from vitjax.core.atomic import finite
from vitjax.training import workdir
from vitjax.training.logging import Logger, read
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
        workdir.write_config(tmp_path, {"seed": 1})
    assert json.loads((tmp_path / "workdir.json").read_text()) == {"format": 2}
    assert json.loads((tmp_path / "config.json").read_text()) == {"seed": 1}
    assert workdir.read_config(tmp_path).to_dict() == {"seed": 1}


def test_a_folder_without_a_format_is_of_the_first(tmp_path):
    old = {"objective": {"name": "maml", "tasks_at_once": 25}}
    (tmp_path / "config.json").write_text(json.dumps(old))
    with workdir.lock(tmp_path):  # a process that is refused leaves both files as they are
        pass
    new = {"objective": {"name": "maml", "episodes_at_once": 25}}
    assert workdir.read_config(tmp_path).to_dict() == new
    workdir.write_config(tmp_path, new)
    assert workdir.read_config(tmp_path).to_dict() == new
    assert json.loads((tmp_path / "workdir.json").read_text()) == {"format": 2}


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
    with pytest.raises(WorkdirError, match=r"has format 99 .* reads formats 1 to 2"):
        workdir.read_config(tmp_path)
    with pytest.raises(WorkdirError, match=r"has format 99"), workdir.lock(tmp_path):
        raise AssertionError
    assert (tmp_path / "workdir.json").read_text() == '{"format": 99}'


GOOD = [
    {"step": step, "split": "train", "loss": 1.0 / step, "iou": [0.5, None]} for step in (1, 2, 3)
]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"",
        b"17",
        b"null",
        b"[" * 100_000,
        b"\x00\xff\xfe",
        b'{"step": "two", "split": "train"}',
        b'{"split": "train", "loss": 1.0}',
        b'{"step": 2, "loss": 1.0}',
        b'{"step": 2, "split": "train", "loss": "low"}',
        b'{"step": 2, "split": "train", "loss": [[1], ["low"]]}',
        b'{"step": 2, "split": "train"} {}',
    ],
    ids=lambda line: repr(line[:20]),
)
def test_a_damaged_line_of_metrics_hides_no_other(tmp_path, line, caplog):
    path = tmp_path / workdir.METRICS
    lines = [json.dumps(record).encode() for record in GOOD]
    path.write_bytes(b"\n".join([lines[0], line, *lines[1:], b'{"step": 4, "spl']))
    assert list(read(path)) == GOOD
    assert "1 damaged line (2)" in caplog.text


def test_metrics_that_are_no_file_are_an_error(tmp_path):
    (tmp_path / workdir.METRICS).mkdir()
    with pytest.raises(WorkdirError, match=r"metrics.jsonl: cannot be read"):
        list(read(tmp_path / workdir.METRICS))
    assert list(read(tmp_path / "none")) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_of_any_kind_leaves_no_lock_behind(tmp_path, error):
    with pytest.raises(type(error)), workdir.lock(tmp_path / "run"):
        raise error
    assert not (tmp_path / "run").exists()


def test_a_lock_that_cannot_be_cleaned_hides_no_error(tmp_path, monkeypatch):
    def fail(*arguments, **keywords):
        raise OSError(30, "Read-only file system")

    def lock_and_fail():
        with workdir.lock(tmp_path):
            monkeypatch.setattr("pathlib.Path.unlink", fail)
            raise WorkdirError("the cause")

    with pytest.raises(WorkdirError, match="the cause"):
        lock_and_fail()


def test_of_a_large_lock_little_is_read(tmp_path):
    with open(tmp_path / workdir.LOCK, "wb") as file:
        file.truncate(3 * 10**9)
    tracemalloc.start()
    with workdir.lock(tmp_path):
        pass
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


VALUES = {
    **{"loss": 1.5, "lost": float("nan"), "large": float("inf"), "count": 3, "none": None},
    **{"per_class": [0.5, float("nan"), 1], "pairs": [[1, 2], [3, 4.5]]},
    **{"empty": [], "deep": [[[[1.0, None]]]]},
}


def test_what_a_run_writes_survives_each_resume(tmp_path):
    for step in (1, 2, 3):
        logger = Logger(tmp_path, step=step - 1, total=3)
        logger.write(step, "val", VALUES)
        logger.close()
    records = list(read(tmp_path / workdir.METRICS))
    assert records == [{"step": step, "split": "val", **finite(VALUES)} for step in (1, 2, 3)]
    Logger(tmp_path, step=2, total=3).close()
    assert list(read(tmp_path / workdir.METRICS)) == records[:2]


def test_metrics_are_read_one_record_at_a_time(tmp_path):
    path = tmp_path / workdir.METRICS
    path.write_text('{"step": 1, "split": "a"}\n' * 50_000 + "{\n" * 50_000)
    tracemalloc.start()
    Logger(tmp_path, step=1, total=3).close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22
    assert path.stat().st_size == 50_000 * len('{"step": 1, "split": "a"}\n')
