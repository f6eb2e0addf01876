"""Tables that list image files: what they may look like, and errors that name the cell."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitjax.data
from vitjax.core.errors import UserError
from vitjax.data import DataError
from vitjax.data.sources import SOURCES

WHOLE = {"val_fraction": 0, "test_fraction": 0}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve images whose grey value is their number, in a folder beside the tables."""
    for index in range(12):
        Image.new("L", (3, 2), index).save(tmp_path / f"{index}.png")
    return tmp_path


def table(folder: Path, *lines: str, name: str = "photos.csv", encoding: str = "utf-8") -> str:
    (folder / name).write_text("\n".join(lines) + "\n", encoding=encoding)
    return str(folder / name)


def read(path: str, source: str = "manifest", **keywords):
    return SOURCES.create(source, path=path, **keywords)


def images(split) -> list[tuple[int, object]]:
    """The number of each image, and its label."""
    samples = [split.read(index) for index in range(len(split))]
    return [(int(s.image[0, 0, 0]), np.asarray(s.label).tolist()) for s in samples]


def test_splits_labels_and_weights_are_read(photos):
    path = table(
        photos,
        "weight,Split,file name,Label",
        "1,training,0.png,dog",
        "0.5,Train,1.png,cat",
        "1,valid,2.png,cat",
        "2,TEST,3.png,dog",
        "0,train,4.png,cat",
    )
    source = read(path)
    assert source.class_names == ("cat", "dog")
    found = {name: images(split) for name, split in source.splits.items()}
    assert found == {"train": [(0, 1), (1, 0), (4, 0)], "val": [(2, 0)], "test": [(3, 1)]}
    assert source.example_weights["train"].tolist() == [1, 0.5, 0]
    assert source.split("val").name(0) == str(photos / "2.png")
    assert any("in proportion to the column 'weight'" in note for note in source.notes)


@pytest.mark.parametrize(
    ("head", "row", "name"),
    [
        ("path,label", "{}.png,{}", "a.csv"),
        ("Image\tClass", "{}.png\t{}", "a.tsv"),
        ("FILENAME;category", "{}.png;{}", "a.csv"),
        ("img_path|species|more", '{}.png|"{}"|x', "a.txt"),
        ("\ufeffpath , label", " {}.png , {} ", "a.csv"),
    ],
)
def test_usual_forms_of_tables(photos, head, row, name):
    rows = [row.format(index, "cat" if index % 3 else "dog") for index in range(12)]
    source = read(table(photos, head, *rows, name=name), **WHOLE)
    expected = [(index, 0 if index % 3 else 1) for index in range(12)]
    assert images(source.split("train")) == expected
    assert source.class_names == ("cat", "dog")
    held = read(table(photos, head, *rows, name=name), val_fraction=1 / 3, test_fraction=0)
    assert np.bincount(held.split("val").labels).tolist() == [3, 1]


def test_parquet(photos):
    pyarrow = pytest.importorskip("pyarrow")
    write_table = pytest.importorskip("pyarrow.parquet").write_table
    columns = {"image": ["3.png", "5.png"], "label": [7, 12], "split": ["train", "train"]}
    write_table(pyarrow.table(columns), photos / "a.parquet")
    source = read(str(photos / "a.parquet"))
    assert images(source.split("train")) == [(3, 0), (5, 1)]
    assert source.class_names == ("7", "12")
    columns["label"][1] = None
    write_table(pyarrow.table(columns), photos / "a.parquet")
    with pytest.raises(DataError, match=r"a.parquet, row 2, column 'label': is empty"):
        read(str(photos / "a.parquet"))
    (photos / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"a.parquet: cannot be read as Parquet"):
        read(str(photos / "a.parquet"))


def test_numbers_as_classes_are_in_order(photos):
    rows = [f"{i}.png,{label}" for i, label in enumerate(["10", "9", "2", "b", "a"])]
    assert read(table(photos, "path,label", *rows), **WHOLE).class_names == (
        *("2", "9", "10"),
        *("a", "b"),
    )


def test_columns_folder_and_suffix_are_given(photos, tmp_path):
    other = tmp_path / "tables"
    other.mkdir()
    path = table(other, "image,image_path,dx,class", "x,3,cat,1", "y,4,dog,2")
    keywords = {"path_column": "image_path", "label_column": "dx", "suffix": ".png"}
    source = read(path, root=str(photos), **keywords, **WHOLE)
    assert images(source.split("train")) == [(3, 0), (4, 1)]
    with pytest.raises(DataError, match=r"'image' and 'image_path' can both be meant; config.data"):
        read(path, root=str(photos))
    absolute = table(other, "path,label", f"{photos / '5.png'},a", f"{photos / '6.png'},b")
    assert images(read(absolute, **WHOLE).split("train")) == [(5, 0), (6, 1)]


def test_chosen_classes(photos):
    rows = [f"{i}.png,{'abc'[i % 3]},{'train' if i < 9 else 'test'}" for i in range(12)]
    source = read(table(photos, "path,label,split", *rows), classes=["c", "a"])
    assert images(source.split("test")) == [(9, 1), (11, 0)]
    assert "classes: 2 of 3; 4 images of the others (b) are left out" in source.notes


def test_numbers_to_predict(photos):
    rows = [f"{i}.png,{i / 4},{-i}" for i in range(12)]
    path = table(photos, "path,x,y", *rows)
    source = read(path, "number_manifest", label_columns=["y", "x"], **WHOLE)
    assert images(source.split("train"))[5] == (5, [-5.0, 1.25])
    assert source.class_names == ("y", "x")
    data = vitjax.data.create(
        source="number_manifest", path=path, label_columns=["x"], batch_size=4, val_fraction=0.25
    )
    assert data.target == "number"
    assert {split: data.num_examples(split) for split in data.splits} == {
        **{"train": 8, "val": 3},
        "test": 1,
    }
    with data.train_batches() as batches:
        batch = next(batches)
    np.testing.assert_array_equal(batch["label"], batch["image"][:, 0, 0, 0] / 4)


@pytest.mark.parametrize(
    ("lines", "keywords", "message"),
    [
        (["path,label", "0.png,a", "1.pgn,b"], {}, r"line 3, column 'path': no file .*1.pgn'; did"),
        (["path,label", "0,a", "1,b"], {}, r"2 of 2 rows name a file.*config.data.suffix"),
        (["path,label", "0.png,a", ",b"], {}, r"line 3, column 'path': is empty"),
        (["path,label", "0.png,a", "1.png,"], {}, r"line 3, column 'label': is empty"),
        (["path,label", "", "0.png,a", "1.png"], {}, r"line 4: has 1 cells.*2 columns"),
        (
            ["path,label,split", "0.png,a,tran"],
            {},
            r"line 2, column 'split': 'tran' is not a split",
        ),
        (["path,label,split", "0.png,a,"], {}, r"line 2, column 'split': '' is not a split"),
        (["path,label,weight", "0.png,a,x"], {}, r"line 2, column 'weight': 'x' is not a finite"),
        (["path,label,weight", "0.png,a,nan"], {}, r"column 'weight': 'nan' is not a finite"),
        (["path,label,weight", "0.png,a,-1"], {}, r"line 2, column 'weight': -1 is below 0"),
        (["path,label,split", "0.png,a,train", "1.png,b,test"], {}, r"'test' has the class 'b'"),
        (["path,label", '0.png,"a', "1.png,b"], {}, r"line 3: unexpected end of data"),
        (["0.png,a", "1.png,b"], {}, r"none of its columns \(0.png, a\) is called .*path_column"),
        (["path,what", "0.png,a"], {}, r"none of its columns .*label_column"),
        (["path,path", "0.png,a"], {}, r"two columns are called 'path'"),
        (["path,label"], {}, r"has no rows \(columns: path, label\)"),
        ([], {}, r"is empty; its first line must name the columns"),
        (["path,what", "0.png,a"], {"label_column": "waht"}, r"'waht'.*did you mean 'what'"),
        (["path,label", "0.png,a"], {"root": "nowhere"}, r"no folder 'nowhere'"),
        (["path,label", "0.png,a", "1.png,b"], {"classes": ["a", "bb"]}, r"'bb', which is not"),
    ],
)
def test_errors_name_line_and_column(photos, lines, keywords, message):
    with pytest.raises(UserError, match=message) as caught:
        read(table(photos, *lines), **keywords)
    assert not re.search(r"\?[.,;]|\? nor", str(caught.value))


def test_errors_of_files(photos):
    path = table(photos, "path,label", "0.png,é", encoding="latin-1")
    with pytest.raises(DataError, match=r"photos.csv, line 2: is not UTF-8"):
        read(path)
    with pytest.raises(DataError, match=r"photo.csv does not exist; did you mean '.*photos.csv'"):
        read(str(photos / "photo.csv"))
    with pytest.raises(DataError, match=r"is a folder, which source='folder' reads"):
        read(str(photos))
    with pytest.raises(DataError, match=r"0.png: a table is a file of the kind .csv"):
        read(str(photos / "0.png"))
    numbers = table(photos, "path,label", "0.png,1", "1.png,two")
    with pytest.raises(DataError, match=r"line 3, column 'label': 'two' is not a finite number"):
        read(numbers, "number_manifest")


def test_examples_are_drawn_by_weight(photos):
    weights = [0, 1, 1, 2, 4, 8, 0, 0, 0, 0, 0, 0]
    rows = [f"{i}.png,{'ab'[i % 2]},{w}" for i, w in enumerate(weights)]
    section = {"path": table(photos, "path,label,weight", *rows), **WHOLE}
    data = vitjax.data.create(source="manifest", batch_size=1500, **section)
    with data.train_batches() as batches:
        drawn = np.bincount(next(batches)["image"][:, 0, 0, 0], minlength=12) / 1500
    np.testing.assert_allclose(drawn, np.array(weights) / 16, atol=0.05)
    assert not drawn[np.array(weights) == 0].any()
    # By name, times the weights of classes: those of a are 1, 4 and those of b 1, 2, 8.
    sampler = {"name": "weighted", "class_weights": {"a": 0}}
    data = vitjax.data.create(source="manifest", batch_size=1500, sampler=sampler, **section)
    with data.train_batches() as batches:
        drawn = np.bincount(next(batches)["image"][:, 0, 0, 0], minlength=12) / 1500
    np.testing.assert_allclose(drawn[[1, 3, 5]], np.array([1, 2, 8]) / 11, atol=0.05)
    # Another sampler does not read them.
    sampler = {"name": "shuffled"}
    data = vitjax.data.create(source="manifest", batch_size=12, sampler=sampler, **section)
    with data.train_batches() as batches:
        assert sorted(next(batches)["image"][:, 0, 0, 0]) == list(range(12))


def test_weights_that_are_all_zero(photos):
    path = table(photos, "path,label,weight", "0.png,a,0", "1.png,b,0")
    with pytest.raises(UserError, match="all examples of train have the weight 0"):
        vitjax.data.create(source="manifest", path=path, batch_size=2, **WHOLE)


def test_a_manifest_makes_episodes(photos):
    rows = [f"{i}.png,{'abcd'[i % 4]},{'train' if i % 4 < 2 else 'test'}" for i in range(12)]
    data = vitjax.data.create(
        source="manifest",
        path=table(photos, "path,label,split", *rows),
        classes="all",
        batch_size=1,
        episodes={"ways": 2, "shots": 1, "queries": 1},
    )
    assert data.classes("test") == ("c", "d")
