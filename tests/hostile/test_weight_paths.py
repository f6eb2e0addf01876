"""Paths of weights that are no files, or not what their names say: nothing blocks or escapes."""

import json
import os
import socket
import zipfile

import numpy as np
import pytest
from reading import assert_told, read_in_a_process

from vitjax.weights import WeightsError
from vitjax.weights.formats import files

ARRAYS = {"w": np.ones(3, np.float32)}


def pipe(path):
    os.mkfifo(path)
    return path


def link(path, target):
    path.symlink_to(target)
    return path


def loop(path):
    path.with_name("back").symlink_to(path.name)
    path.symlink_to("back")
    return path


def bound(path):
    # The address of a socket is short.
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)
    return path


def folder(path):
    path.mkdir()
    return path


def folder_of_a_pipe(path):
    path.mkdir()
    pipe(path / "model.safetensors")
    return path


def index_of_a_pipe(path):
    path.mkdir()
    pipe(path / "shard.safetensors")
    index = path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "shard.safetensors"}}))
    return path


def checkpoint_of_a_pipe(path):
    return pipe(path.with_name("m.index"))


def card_of_a_pipe(path):
    path.mkdir()
    pipe(path / "config.json")
    (path / "model.safetensors").write_bytes(b"")
    return path


PATHS = {
    "a pipe": (pipe, "is a pipe, a device or a folder"),
    "a device without end": (lambda path: link(path, "/dev/zero"), "is a pipe, a device"),
    "a device that is empty": (lambda path: link(path, "/dev/null"), "is a pipe, a device"),
    "a socket": (bound, "is a pipe, a device"),
    "a link to itself": (loop, "is a link to back"),
    "a link to nothing": (lambda path: link(path, "nowhere"), "is a link to nowhere"),
    "a folder": (folder, "is a folder without any of"),
    "a folder with a pipe": (folder_of_a_pipe, "no such file|is a folder without"),
    "an index of a pipe": (index_of_a_pipe, "missing: shard.safetensors"),
    "a checkpoint that is a pipe": (checkpoint_of_a_pipe, "is a pipe, a device"),
    "a card that is a pipe": (card_of_a_pipe, "is empty"),
    "a long name": (lambda path: path.with_name("n" * 300), "cannot be read: File name too long"),
    "a long path": (lambda path: path / ("n/" * 5000), "cannot be read: File name too long"),
    "a file as a folder": (lambda path: "/etc/passwd/model.pth", "no such file"),
    "of the kernel": (lambda path: "/proc/self/mem", ""),
}


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    parent = tmp_path_factory.mktemp("paths")
    made = {}
    for number, (name, (make, _)) in enumerate(PATHS.items()):
        (parent / f"{number}").mkdir()
        made[name] = make(parent / f"{number}" / "model.pth")
    found = read_in_a_process(made.values())
    return dict(zip(made, zip(found, made.values(), strict=True), strict=True))


@pytest.mark.parametrize("name", PATHS)
def test_what_is_no_file_is_told_at_once(name, read):
    found, path = read[name]
    words = PATHS[name][1].split("|")
    assert "TRACEBACK" not in found.message
    assert any(each in found.message for each in words), found
    assert_told(found, path)


@pytest.mark.parametrize(
    "name", ["a\0b.pth", "a\nb.pth", "a\x1b[31m.pth", os.fsdecode(b"\xff.pth"), "\u202egnp.pth"]
)
def test_an_odd_name_is_told_as_a_terminal_shows_it(name, tmp_path):
    for read in (files.read, files.metadata, files.located):
        with pytest.raises(WeightsError, match=r"no such file|cannot be read|damaged") as caught:
            read(tmp_path / name)
        assert str(caught.value).isprintable()


def test_a_file_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    path = tmp_path / "w.npz"
    files.write(path, ARRAYS)

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.exists", denied)
    with pytest.raises(WeightsError, match=r"w\.npz: cannot be read: Permission denied"):
        files.read(path)


def test_nothing_of_an_archive_is_written_to_the_disk(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    files.write(inside / "w.npz", {"../../outside": np.ones(2), "/tmp/absolute": np.ones(2)})
    found = files.read(inside / "w.npz")
    assert set(found) == {"../../outside", "/tmp/absolute"}
    assert [path.name for path in tmp_path.rglob("*")] == ["inside", "w.npz"]


def test_the_files_of_an_index_may_be_links_as_in_a_cache(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    files.write(tmp_path / "blobs" / "0a1b", ARRAYS, "safetensors")
    link(tmp_path / "snapshot" / "shard.safetensors", "../blobs/0a1b")
    index = tmp_path / "snapshot" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "shard.safetensors"}}))
    assert set(files.read(tmp_path / "snapshot")) == {"w"}


def test_bombs_in_many_files_of_an_index_are_counted_together(tmp_path):
    """Each of them may be as large as a file of its own."""
    zeros = np.zeros(25 * 2**20, np.uint8)
    places = {}
    for number in range(6):
        path = tmp_path / f"{number}.npz"
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            archive.open(f"w{number}.npy", "w") as file,
        ):
            np.lib.format.write_array(file, zeros)
        places[f"w{number}"] = f"{number}.npz"
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert files.read(tmp_path / "0.npz")["w0"].size == zeros.size
    with pytest.raises(
        WeightsError, match=r"5\.npz: refused: its [\d,]+ bytes would unpack to 157"
    ):
        files.read(index)
