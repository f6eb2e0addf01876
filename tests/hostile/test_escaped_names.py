"""Names of files with control characters, line ends and bytes that are not UTF-8 in messages."""

from __future__ import annotations

import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

import vitjax.data
from vitjax.cli.entry import main
from vitjax.core.errors import UserError
from vitjax.core.file_tree import FileTree
from vitjax.data import DataError
from vitjax.data.examples import check_image
from vitjax.data.image_files import measure, read_image
from vitjax.data.mask_files import measure_mask, palette_of, read_mask
from vitjax.tasks.reading import check_heads

ODD = {
    "not UTF-8": os.fsdecode(b"caf\xe9"),
    "a line end": "a\nb",
    "an escape": "c\x1b[2J\x1b[31mred",
    "a direction": "a\u202egnp.exe",
    "other line ends": "a\r\x0b\x0c\x85\u2028b",
}


def assert_shown(text, lines=1):
    """Checks that a terminal shows all of ``text`` as it is."""
    assert len(text.rstrip("\n").splitlines()) == lines, text
    hidden = {c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")} - {"\n"}
    assert not hidden, text
    assert "\u202e" not in text


@pytest.fixture(params=ODD)
def name(request):
    return ODD[request.param]


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        Image.fromarray(pixels).save(file, "PNG")


@pytest.mark.parametrize(
    "read", [lambda f: read_image(f, 3), read_mask, measure, measure_mask, palette_of]
)
@pytest.mark.parametrize("content", [b"", b"x", None])
def test_an_image_that_cannot_be_read(tmp_path, name, read, content):
    file = tmp_path / f"{name}.png"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError) as told:
        read(file)
    assert_shown(str(told.value))


def test_a_mask_that_was_compressed_with_loss(tmp_path, name):
    file = tmp_path / f"{name}.jpg"
    with open(file, "wb") as opened:
        Image.new("L", (8, 8)).save(opened, "JPEG")
    for read in (read_mask, measure_mask):
        with pytest.raises(DataError, match="a mask cannot be a JPEG file") as told:
            read(file)
        assert_shown(str(told.value))


def test_a_folder_that_cannot_be_listed(tmp_path, name):
    with pytest.raises(UserError, match="cannot be listed") as told:
        FileTree((".png",)).listing(str(tmp_path / name))
    assert_shown(str(told.value))


def test_images_of_other_sizes(tmp_path, name):
    for index, side in enumerate((4, 4, 5)):
        save(tmp_path / "p" / name / f"{index}{name}.png", np.zeros((side, 4), np.uint8))
        save(tmp_path / "p" / "b" / f"{index}.png", np.zeros((4, 4), np.uint8))
    data = vitjax.data.create(
        source="folder", path=str(tmp_path / "p"), batch_size=6, val_fraction=0, test_fraction=0
    )
    with pytest.raises(DataError, match="after the transforms") as told:
        next(data.train_batches())
    assert_shown(str(told.value))
    with pytest.raises(DataError) as told:
        check_image(np.zeros(3), name)
    assert_shown(str(told.value))


def test_several_images_to_predict(tmp_path, name):
    files = [tmp_path / f"{name}{index}.png" for index in range(2)]
    for file in files:
        file.write_bytes(b"x")
    with pytest.raises(DataError) as told:
        check_heads(list(map(str, files)))
    assert_shown(str(told.value), lines=4)


def test_data_is_described(tmp_path, capsys):
    for kind in (*ODD.values(), "b"):
        for index in range(3):
            pixels = np.full((8, 8), 9 * index + len(kind), np.uint8)
            save(tmp_path / "p" / kind / f"{index}{kind}.png", pixels)
    transforms = "resize(8) | center_crop(8)"
    arguments = [f"--config.data.path={tmp_path / 'p'}", "--config.data.batch_size=2"]
    arguments += [f"--config.data.{split}_transforms={transforms}" for split in ("train", "eval")]
    status = main(["data", "--config=folder/vit", f"--output={tmp_path / 'a.png'}", *arguments])
    shown = capsys.readouterr()
    assert status == 0, shown.err
    assert_shown(shown.out, lines=len(shown.out.split("\n")) - 1)
    assert_shown(shown.err, lines=0)


def _tree(root, *names, count=3):
    for name in names:
        for index in range(count):
            save(root / name / f"{index}.png", np.full((4, 4), index, np.uint8))


def _table(root, *rows, head="path,label"):
    text = "\n".join([head, *rows])
    (root / "a.csv").write_bytes(text.encode(errors="surrogateescape"))
    return {"source": "manifest", "path": str(root / "a.csv")}


def _quoted(text):
    """A cell of a table."""
    return f'"{text}"'


# What is wrong with data below ``root`` in which something is called ``name``, as a source says.
WRONG = {
    "a folder that does not exist": lambda root, name: {
        "source": "folder",
        "path": f"{root}/{name}",
    },
    "a folder that is empty": lambda root, name: (
        (root / name).mkdir(),
        {"source": "folder", "path": f"{root}/{name}"},
    )[1],
    "a file as a folder": lambda root, name: (
        (root / name).touch(),
        {"source": "folder", "path": f"{root}/{name}"},
    )[1],
    "a class without images": lambda root, name: (
        _tree(root, "a", "b"),
        (root / name).mkdir(),
        (root / name / "x.txt").touch(),
        {"source": "folder", "path": str(root)},
    )[-1],
    "a class that train lacks": lambda root, name: (
        _tree(root, "train/a", f"val/{name}"),
        {"source": "folder", "path": str(root)},
    )[1],
    "a file in two splits": lambda root, name: (
        _tree(root, "train/a", "val/b", "val/a"),
        os.link(root / "train" / "a" / "0.png", root / "val" / "a" / f"{name}.png"),
        {"source": "folder", "path": str(root), "classes": "all"},
    )[-1],
    "too few to hold out": lambda root, name: (
        _tree(root / name, "a", "b", count=1),
        {"source": "folder", "path": f"{root}/{name}", "val_fraction": 0.9},
    )[1],
    "a split that is no folder": lambda root, name: (
        _tree(root, "a"),
        {"source": "folder", "path": str(root), "splits": {"train": name}},
    )[1],
    "a table that does not exist": lambda root, name: {
        "source": "manifest",
        "path": f"{root}/{name}.csv",
    },
    "a table that is empty": lambda root, name: (
        (root / f"{name}.csv").touch(),
        {"source": "manifest", "path": f"{root}/{name}.csv"},
    )[1],
    "a row without its file": lambda root, name: _table(root, f"{_quoted(name)},a"),
    "a row of an unknown split": lambda root, name: (
        _tree(root, "a"),
        _table(root, f"a/0.png,a,{_quoted(name)}", head="path,label,split"),
    )[1],
    "a column without a usual name": lambda root, name: _table(
        root, "a,a", head=f"{_quoted(name)},x"
    ),
    "an image in two splits of a table": lambda root, name: (
        save(root / f"{name}.png", np.zeros((4, 4), np.uint8)),
        _table(
            root,
            *(f"{_quoted(name + '.png')},a,{split}" for split in ("train", "val")),
            head="path,label,split",
        ),
    )[1],
    "no arrays": lambda root, name: {"source": "npz", "path": f"{root}/{name}.npz"},
    "damaged arrays": lambda root, name: (
        (root / f"{name}.npz").write_bytes(b"PK"),
        {"source": "npz", "path": f"{root}/{name}.npz"},
    )[1],
    "an image without its mask": lambda root, name: (
        _tree(root, "images", "masks"),
        save(root / "images" / f"{name}.png", np.zeros((4, 4), np.uint8)),
        {"source": "masks", "path": str(root)},
    )[-1],
    "a folder without masks": lambda root, name: (
        _tree(root, name),
        {"source": "masks", "path": f"{root}/{name}"},
    )[1],
    "an image and a mask of other sizes": lambda root, name: (
        save(root / "images" / f"{name}.png", np.zeros((4, 4), np.uint8)),
        save(root / "masks" / f"{name}.png", np.zeros((5, 4), np.uint8)),
        {"source": "masks", "path": str(root), "classes": (0, 255)},
    )[-1],
    "a list of masks without a file": lambda root, name: (
        _tree(root, "images", "masks"),
        (root / "l.csv").write_bytes(
            b"image,mask\n" + name.replace("\n", "").encode(errors="surrogateescape") + b",x\n"
        ),
        {"source": "masks", "path": str(root), "lists": "l.csv"},
    )[-1],
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_error_of_a_source_is_one_line(tmp_path, name, wrong):
    if wrong == "a column without a usual name" and not name.isprintable():
        name = name.replace("\n", " ")  # the first line of a table has its columns
    section = WRONG[wrong](tmp_path, name)
    transforms = {} if section["source"] == "masks" else {"eval_transforms": "center_crop(4)"}
    with pytest.raises(UserError) as told:
        vitjax.data.create(batch_size=1, **transforms, **section)
    assert_shown(str(told.value))
