"""Folders with links, pipes and devices, and files that change: told in words, and never a hang."""

from __future__ import annotations

import io
import itertools
import os
import signal
import socket
import time
import zipfile
from array import array
from collections import Counter

import numpy as np
import pytest
from PIL import Image

import vitjax.data
from tests.helpers.damaging import damaged
from vitjax.cli.entry import main
from vitjax.core import counting
from vitjax.core.errors import ConfigError, UserError
from vitjax.core.file_lists import find_images, subfolders
from vitjax.core.file_tree import IMAGE_SUFFIXES, FileTree, Listing
from vitjax.data import CorruptImage, DataError
from vitjax.data.image_files import measure, read_image
from vitjax.data.mask_files import measure_mask, palette_of, read_mask
from vitjax.data.sources import SOURCES
from vitjax.data.sources.mask_lists import read_list
from vitjax.data.sources.real_files import same_files
from vitjax.data.sources.tables import read_table


@pytest.fixture(autouse=True)
def _no_test_waits_for_ever():
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture
def photos(tmp_path):
    """A function that makes a folder with images, by folder: each shows a number of its own."""
    numbers = iter(range(256))

    def make(*folders, count=3):
        for folder in folders:
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                image = np.full((4, 4), next(numbers), np.uint8)
                Image.fromarray(image).save(tmp_path / folder / f"{index}.png")
        return tmp_path

    return make


def make_special(kind, path):
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            folder = os.open(path.parent, os.O_RDONLY)  # the names of sockets are short
            made.bind(f"/proc/self/fd/{folder}/{path.name}")
            os.close(folder)
    else:
        path.symlink_to("/dev/zero")


SPECIAL = ("FIFO", "socket", "device")


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_is_left_out_of_folders(photos, kind):
    root = photos("cat", "dog")
    make_special(kind, root / "cat" / "x.png")
    source = SOURCES.create("folder", path=str(root), val_fraction=0, test_fraction=0)
    assert len(source.split("train")) == 6
    assert f"{root}: 1 files are not images and are left out (1 FIFO, socket or device)" in (
        source.notes
    )
    said = []
    assert len(find_images(str(root / "*" / "*.png"), say=said.append)) == 6
    assert said == ["Left out: 1 file of other kinds: 1 FIFO, socket or device"]
    assert len(find_images(str(root))) == 6


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_is_told_where_it_is_named(photos, kind):
    root = photos("images", "masks")
    for place in ("images/x.png", "masks/0.png"):
        (root / place).unlink(missing_ok=True)
        make_special(kind, root / place)
    for read in (lambda f: read_image(f, 3), read_mask, measure, measure_mask, palette_of):
        with pytest.raises(
            CorruptImage, match=f"x.png: cannot be read: it is a {kind}, not a file"
        ):
            read(root / "images" / "x.png")
    assert find_images(str(root / "images" / "x.png"))  # which is reported when it is read
    (root / "a.csv").write_text("path,label\nimages/1.png,a\nimages/x.png,b\n")
    with pytest.raises(DataError, match=rf"line 3, column 'path': .*x.png is a {kind}, not a file"):
        SOURCES.create("manifest", path=str(root / "a.csv"))
    make_special(kind, root / "list.csv")
    with pytest.raises(DataError, match=rf"list.csv: cannot be read: it is a {kind}, not a file$"):
        read_list(str(root / "list.csv"))
    with pytest.raises(DataError, match=rf"list.csv: cannot be read: it is a {kind}, not a file$"):
        read_table(str(root / "list.csv"))
    with pytest.raises(DataError, match=r"masks/0|0.png: this image has no mask"):
        SOURCES.create("masks", path=str(root), classes=(0, 255))
    (root / "images" / "x.png").unlink()
    (root / "images" / "x.png").mkdir()  # a folder is a folder, whatever it is called
    assert len(find_images(str(root / "images"))) == 3


def test_a_list_without_an_end(monkeypatch):
    monkeypatch.setattr("vitjax.core.file_lists.MOST_TEXT", 1000)
    with pytest.raises(ConfigError, match=r"'/dev/zero' is not a list of files: it has more than"):
        find_images([], ["/dev/zero"])


def test_a_link_that_leads_nowhere_is_named_when_it_is_read(photos):
    root = photos("cat", "dog")
    (root / "cat" / "gone.png").symlink_to(root / "nothing.png")
    (root / "cat" / "itself.png").symlink_to("itself.png")
    split = SOURCES.create("folder", path=str(root), val_fraction=0, test_fraction=0).split("train")
    names = [split.name(index) for index in range(len(split))]
    for name in ("gone.png", "itself.png"):
        place = names.index(str(root / "cat" / name))
        with pytest.raises(CorruptImage, match=rf"{name}: cannot be read: (No such|Too many)"):
            split.read(place)


LINKS = {
    "hard": lambda link, target: os.link(target, link),
    "symbolic": lambda link, target: link.symlink_to(target),
    "of links": lambda link, target: (
        link.with_suffix(".to").symlink_to(target),
        link.symlink_to(link.with_suffix(".to")),
    ),
}


@pytest.mark.parametrize("kind", LINKS)
def test_an_image_is_once_in_a_class(photos, kind):
    root = photos("train/cat", "train/dog", "val/cat")
    LINKS[kind](root / "train" / "cat" / "9.png", root / "train" / "cat" / "1.png")
    source = SOURCES.create("folder", path=str(root))
    assert {split: len(held) for split, held in source.splits.items()} == {"train": 6, "val": 3}
    assert (
        f"train: 1 link to an image of the same class is left out ({root}/train/cat/9.png)"
        in source.notes
    )


@pytest.mark.parametrize("kind", LINKS)
def test_an_image_in_two_splits_is_refused(photos, kind):
    root = photos("train/cat", "train/dog", "val/cat")
    LINKS[kind](root / "val" / "cat" / "9.png", root / "train" / "dog" / "1.png")
    words = "train/dog/1.png in the split 'train' and .*val/cat/9.png in 'val' are the same file"
    with pytest.raises(DataError, match=words):
        SOURCES.create("folder", path=str(root))
    (root / "a.csv").write_text(
        "path,label,split\ntrain/cat/0.png,cat,train\ntrain/dog/1.png,dog,train\n"
        "val/cat/9.png,cat,val\n"
    )
    with pytest.raises(DataError, match=words):
        SOURCES.create("manifest", path=str(root / "a.csv"))


@pytest.mark.parametrize("kind", LINKS)
def test_an_image_in_two_classes_is_told_and_trained_on(photos, kind):
    root = photos("cat", "dog", count=20)
    for index in range(10):
        LINKS[kind](root / "cat" / f"x{index}.png", root / "dog" / f"{index}.png")
    source = SOURCES.create("folder", path=str(root), val_fraction=0.3, test_fraction=0.3)
    (words,) = [note for note in source.notes if note.startswith("warning")]
    assert words.startswith(f"warning: {root}: 10 files are listed with different labels, by links")
    assert f"{root}/cat/x0.png = {root}/dog/0.png" in words
    real = {
        split: {os.stat(held.name(index)).st_ino for index in range(len(held))}
        for split, held in source.splits.items()
    }
    assert sum(map(len, source.splits.values())) == 50
    assert sum(map(len, real.values())) == len(set().union(*real.values())) == 40


def test_a_file_that_a_table_names_twice_is_in_one_split(photos):
    root = photos("a", count=10)
    rows = [f"a/{index}.png,{index % 2}" for index in range(10)]
    (root / "a.csv").write_text("\n".join(["path,label", *rows, *rows[:5], *rows[:5]]))
    source = SOURCES.create("manifest", path=str(root / "a.csv"), val_fraction=0.4)
    names = {
        split: {held.name(index) for index in range(len(held))}
        for split, held in source.splits.items()
    }
    assert names["val"]
    assert not names["train"] & names["val"]
    assert not any("different" in note for note in source.notes)


def test_a_mask_data_set_has_no_image_in_two_splits(photos):
    root = photos("train/images", "train/masks", "test/images", "test/masks")
    for kind in ("images", "masks"):
        (root / "test" / kind / "9.png").symlink_to(root / "train" / kind / "1.png")
    words = r"train/images/1.png in the split 'train' and .*test/images/9.png in 'test'"
    with pytest.raises(DataError, match=words):
        SOURCES.create("masks", path=str(root))


def test_splits_of_links_into_a_pool(photos):
    root = photos("pool", count=8)
    for index in range(8):
        split, name = ("train", "val")[index > 5], ("cat", "dog")[index % 2]
        (root / "data" / split / name).mkdir(parents=True, exist_ok=True)
        (root / "data" / split / name / f"{index}.png").symlink_to(root / "pool" / f"{index}.png")
    source = SOURCES.create("folder", path=str(root / "data"))
    assert {split: len(held) for split, held in source.splits.items()} == {"train": 6, "val": 2}
    assert not any(" are left out" in note or "warning" in note for note in source.notes)


def test_equal_inodes_alone_are_no_links(photos):
    root = photos("a")
    paths = [str(root / "a" / f"{index}.png") for index in range(3)]
    os.link(paths[0], root / "a" / "x.png")
    paths.append(str(root / "a" / "x.png"))
    # Some file systems of networks give all files one, and some give none.
    assert same_files(paths.__getitem__, np.full(4, 7, np.uint64)) == [[0, 3]]
    assert same_files(paths.__getitem__, np.zeros(4, np.uint64)) == []
    assert same_files(paths.__getitem__, np.asarray([5, 1, 5, 5], np.uint64)) == [[0, 3]]
    assert same_files(paths.__getitem__, np.zeros(0, np.uint64)) == []


@pytest.mark.parametrize("terminal", [False, True])
def test_a_long_listing_says_how_far_it_is(photos, monkeypatch, capsys, terminal):
    root = photos("a", "b")
    monkeypatch.setattr(counting, "_FIRST", 0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    monkeypatch.setenv("COLUMNS", "300")
    tree = FileTree(IMAGE_SUFFIXES)
    assert len(tree.files_below(str(root))) == 6
    shown = capsys.readouterr().err
    if terminal:
        assert shown.startswith(f"\r\x1b[Klisting {root}: ")
        assert shown.endswith("\r\x1b[K")
        assert "\n" not in shown
    else:
        assert shown == f"listing {root}: 2 files\n"


def test_a_short_listing_says_nothing(photos, capsys):
    FileTree(IMAGE_SUFFIXES).files_below(str(photos("a", "b")))
    assert capsys.readouterr() == ("", "")


def test_a_listing_is_stopped_from_the_keyboard(photos, monkeypatch, capsys):
    root, listed = photos("a", "b"), os.scandir

    def scandir(path):
        if os.fspath(path).endswith("b"):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)  # as a slow disk
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    began = time.monotonic()
    assert main(["data", "--config=folder/vit", f"--config.data.path={root}"]) == 130
    assert time.monotonic() - began < 10
    assert capsys.readouterr().err == "vitjax: stopped from the keyboard\n"


def test_a_folder_that_is_removed_while_it_is_listed(photos, monkeypatch):
    root, listed = photos("a", "b"), os.scandir

    def scandir(path):
        if os.fspath(path).endswith("b"):
            raise FileNotFoundError(2, "No such file or directory", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=r"/b: cannot be listed: No such file or directory"):
        SOURCES.create("folder", path=str(root))


def created(root, **keywords):
    settings = {"val_fraction": 0, "test_fraction": 0, "batch_size": 3, **keywords}
    return vitjax.data.create(source="folder", path=str(root), **settings)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file.unlink(), "1.png: cannot be read: No such file or directory"),
        (lambda file: file.write_bytes(b""), "1.png: cannot be decoded: it is empty"),
        (lambda file: Image.new("L", (9, 9)).save(file), "1.png: is uint8 of shape .9, 9, 3."),
        (lambda file: (file.unlink(), file.mkdir()), "1.png: cannot be read: it is a folder"),
        (lambda file: (file.unlink(), os.mkfifo(file)), "1.png: cannot be read: it is a FIFO"),
    ],
)
def test_an_image_that_changes_after_the_listing(photos, change, words):
    root = photos("cat", "dog")
    data = created(root)
    change(root / "cat" / "1.png")
    batches = data.train_batches()
    with pytest.raises(DataError, match=words):
        [next(batches) for _ in range(2)]


def test_an_image_that_may_not_be_read(photos, monkeypatch):
    root = photos("cat", "dog")
    data = created(root)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("vitjax.data.image_formats.open_regular", refuse)
    with pytest.raises(DataError, match=r"png: cannot be read: Permission denied \(config.data.on"):
        next(data.train_batches())


def test_a_class_of_the_longest_name(photos):
    name = "x" * 255
    source = SOURCES.create("folder", path=str(photos(name, "dog")))
    assert source.class_names == ("dog", name)


ROWS = b"path,label\n" + b"".join(b"a/%d.png,%d\n" % (index, index % 2) for index in range(3))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\0" * 1000, "line 1: has a NUL byte"),
        (b",".join(b"%d" % n * 99 for n in range(999)), r"has no rows .columns: 0{50}"),
        (ROWS.replace(b"a/1", b"a\0/1"), "line 3: has a NUL byte"),
        (ROWS + b'"a/2.png,1\n', "line 5: unexpected end of data"),
        (ROWS + b'"a/2.png,1\n' * 2, "line 6: .*expected after"),
        (ROWS + b'"a/2.png"x,1\n', "line 5: .*expected after"),
        (b"x" * 20_000_000, "field larger than field limit"),
        (ROWS + b"a/1.png," + b"y" * 10_000_000 + b"\n", "line 5: field larger"),
        (ROWS.decode().encode("utf-16"), "line 1: is not UTF-8"),
        (b"\xff" * 99, "line 1: is not UTF-8"),
        (ROWS.replace(b"\n", b"\r"), None),
        (b"\xef\xbb\xbf" + ROWS, None),
        (ROWS + b"\n\n  \n", None),
    ],
)
def test_odd_tables(photos, content, words):
    root = photos("a")
    (root / "a.csv").write_bytes(content)

    def read():
        return SOURCES.create("manifest", path=str(root / "a.csv"), val_fraction=0, test_fraction=0)

    if words is None:
        assert len(read().split("train")) == 3
    else:
        with pytest.raises(DataError, match=rf"a.csv.*{words}") as told:
            read()
        assert "\n" not in str(told.value)
        assert len(str(told.value)) < 1000


def read_table_file(content, path):
    """Reads the content of a table as a source does; the text of an error."""
    path.write_bytes(content)
    try:
        return SOURCES.create("manifest", path=str(path), val_fraction=0, test_fraction=0)
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_damaged_tables(photos, suffix, fuzz):
    root = photos("a")
    content = ROWS
    if suffix == ".parquet":
        arrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        table = {"path": [f"a/{index}.png" for index in range(3)], "label": ["0", "1", "0"]}
        file = io.BytesIO()
        parquet.write_table(arrow.table(table), file)
        content = file.getvalue()
    assert len(read_table_file(content, root / f"a{suffix}").split("train")) == 3
    for what, copy in damaged(content, count=150 * fuzz):
        answer = read_table_file(copy, root / f"a{suffix}")
        if isinstance(answer, str):
            assert f"a{suffix}" in answer, (what, answer)
            assert "\n" not in answer, (what, answer)


def test_a_parquet_file_of_rows_that_cost_nothing(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "a.parquet"
    parquet.write_table(
        arrow.table({name: arrow.repeat("a", 10**6) for name in ("path", "x")}), file
    )
    with pytest.raises(
        DataError, match=r"a.parquet: has 1,000,000 rows in [\d,]+ bytes, which are"
    ):
        read_table(str(file))


def test_foreign_files_among_masks(photos):
    root = photos("images", "masks")
    for name in ("Thumbs.db", "notes.txt", ".DS_Store", "mask.psd", "x.xcf"):
        (root / "masks" / name).write_bytes(b"x")
    source = SOURCES.create("masks", path=str(root), classes=tuple(range(256)))
    assert sum(map(len, source.splits.values())) == 3
    (root / "masks" / "9.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"masks/9.png: this mask has no image"):
        SOURCES.create("masks", path=str(root), classes=(0, 1))


@pytest.mark.parametrize("kind", SPECIAL)
def test_support_folders(photos, kind):
    root = photos("support/cat", "support/dog")
    make_special(kind, root / "support" / "cat" / "x.png")
    make_special(kind, root / "support" / "bird")
    assert subfolders(root / "support") == ["cat", "dog"]
    assert len(find_images(root / "support" / "cat")) == 3


def test_many_classes_take_time_in_proportion(tmp_path, monkeypatch):
    """Listing is faked: ten thousand folders take longer to make than to read."""
    names = tuple(f"class {number:05d}" for number in range(10_000))
    folders = {str(tmp_path): names} | {str(tmp_path / name): () for name in names}

    def listed(self, path, counting):
        files = () if folders[path] else ("0.png", "1.png")
        inodes = array("Q", [hash(path + file) & 0xFFFFFFFF for file in files])
        return Listing(folders[path], files, inodes, Counter())

    monkeypatch.setattr(FileTree, "_list", listed)
    monkeypatch.setattr("vitjax.core.file_tree._identity", lambda path: (0, hash(path)))
    began = time.process_time()
    for classes in ("train", names):
        source = SOURCES.create(
            "folder", path=str(tmp_path), classes=classes, val_fraction=0, test_fraction=0
        )
        assert source.class_names == names
    assert time.process_time() - began < 6


def files_of(source):
    return {
        split: {os.stat(held.name(index)).st_ino for index in range(len(held))}
        for split, held in source.splits.items()
    }


@pytest.mark.parametrize("kind", ["manifest", "number_manifest"])
def test_a_table_that_names_each_image_twice(photos, kind):
    root = photos("a", count=20)
    rows = [f"a/{index}.png,{index % 2 + again}" for again in range(2) for index in range(20)]
    if kind == "manifest":  # two annotators who agree
        rows = [f"a/{index}.png,{index % 2}" for index in range(20)] * 2
    (root / "a.csv").write_text("\n".join(["path,label", *rows]))
    source = SOURCES.create(kind, path=str(root / "a.csv"), val_fraction=0.2, test_fraction=0.1)
    assert {split: len(held) for split, held in source.splits.items()} == {
        "train": 28, "val": 8, "test": 4,
    }  # fmt: skip
    files = files_of(source)
    assert sum(map(len, files.values())) == len(set().union(*files.values())) == 20
    warnings = [note for note in source.notes if note.startswith("warning")]
    if kind == "manifest":
        assert not warnings
    else:
        (words,) = warnings
        assert "20 files are listed with different labels, in several rows: " in words
        assert " = " not in words


def test_a_class_that_links_to_another_is_held_out_with_it(photos):
    root = photos("a", count=10)
    (root / "b").symlink_to("a")
    source = SOURCES.create("folder", path=str(root), val_fraction=0.2)
    assert {split: len(held) for split, held in source.splits.items()} == {"train": 14, "val": 4,
                                                                            "test": 2}  # fmt: skip
    files = files_of(source)
    assert sum(map(len, files.values())) == len(set().union(*files.values())) == 10
    (words,) = [note for note in source.notes if note.startswith("warning")]
    assert "the classes a, b are one folder" in words
    with pytest.raises(DataError, match=r"cannot hold out .*; warning: .*the classes a, b are one"):
        SOURCES.create("folder", path=str(root), val_fraction=0.95)


@pytest.mark.parametrize("key", ["val_fraction", "val_last"])
def test_masks_of_images_that_are_linked_are_held_out_together(photos, key):
    root = photos("images", "masks", count=8)
    for kind, index in itertools.product(("images", "masks"), range(8)):
        os.link(root / kind / f"{index}.png", root / kind / f"x{index}.png")
    given = {key: 4 if key == "val_last" else 0.25}
    source = SOURCES.create("masks", path=str(root), ignore="others", classes=(0, 255), **given)
    files = files_of(source)
    assert len(source.split("val")) == (8 if key == "val_last" else 4)
    assert not files["train"] & files["val"]


def test_linked_classes_in_two_splits_of_a_class_split(photos):
    root = photos("a", "b", "c", "d", count=4)
    (root / "e").symlink_to("a")
    split = {"train": ["a", "b"], "val": ["e", "c"]}
    episodes = {"ways": 2, "shots": 1, "queries": 1, "class_split": split}
    settings = {"source": "folder", "path": str(root), "val_fraction": 0, "test_fraction": 0}
    words = r"class_split: the class 'a' of 'train' and the class 'e' of 'val' have the same image"
    words += ".*; warning: .*the classes a, e are one folder"
    with pytest.raises(DataError, match=words):
        vitjax.data.create(batch_size=1, episodes=episodes, **settings)
    split["val"] = ["c", "d"]
    assert vitjax.data.create(batch_size=1, episodes=episodes, **settings).num_classes == 2


@pytest.mark.parametrize("stream", ["full", "closed", None])
@pytest.mark.parametrize("terminal", [False, True])
def test_counting_needs_nobody_who_listens(photos, monkeypatch, stream, terminal):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

        def isatty(self):
            return terminal

    opened = None if stream is None else Full()
    if stream == "closed":
        opened.close()
    root = photos("a", "b")
    monkeypatch.setattr(counting, "_FIRST", 0)
    monkeypatch.setattr("sys.stderr", opened)
    assert len(FileTree(IMAGE_SUFFIXES).files_below(str(root))) == 6


def test_the_line_that_counts_fits_the_terminal(photos, monkeypatch, capsys):
    root = photos("a" * 200, "b")
    monkeypatch.setattr(counting, "_FIRST", 0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    FileTree(IMAGE_SUFFIXES).files_below(str(root / ("a" * 200)))
    shown = capsys.readouterr().err.split("\r\x1b[K")
    assert max(map(len, shown)) == 39
    assert any(line.endswith(": 3 files") for line in shown)


def test_a_text_file_that_is_too_large_is_not_read(tmp_path):
    for name, read in {
        "a.csv": lambda path: SOURCES.create("manifest", path=path),
        "a.txt": read_list,
        "a.json": lambda path: vitjax.data.episodes.class_splits.load(path),
    }.items():
        with open(tmp_path / name, "wb") as file:
            file.truncate(1 << 43)  # which takes no place on the disk
        words = rf"{name}: cannot be read.*8,796,093,022,208 bytes, and at most"
        with pytest.raises(UserError, match=words):
            read(str(tmp_path / name))


@pytest.mark.parametrize("kind", [*SPECIAL, "folder"])
@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.npz"])
def test_a_source_that_is_no_file(tmp_path, kind, name):
    if kind == "folder":
        (tmp_path / name).mkdir()
    else:
        make_special(kind, tmp_path / name)
    source = "npz" if name == "a.npz" else "manifest"
    with pytest.raises(DataError, match=rf"{name}.* is a {kind}") as told:
        SOURCES.create(source, path=str(tmp_path / name))
    assert "did you mean" not in str(told.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_archives_of_images(tmp_path, save, fuzz):
    file, path = io.BytesIO(), tmp_path / "a.npz"
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), np.uint8)
    save(file, x_train=images, y_train=np.arange(20) % 2)
    for what, copy in damaged(file.getvalue(), count=200 * fuzz):
        path.write_bytes(copy)
        answer = ""
        try:
            SOURCES.create("npz", path=str(path))
        except DataError as error:
            answer = str(error)
        assert not answer or str(path) in answer, what
        assert "\n" not in answer, what


def test_an_archive_that_inflates_to_far_more(tmp_path):
    path = tmp_path / "a.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x_train.npy", "w") as record,
    ):
        for _ in range(300):
            record.write(bytes(1 << 20))
    with pytest.raises(DataError, match=r"a.npz cannot be read.* would unpack to 314,572,800"):
        SOURCES.create("npz", path=str(path))
