"""The files of an evaluation belong together."""

import json
from pathlib import Path

import pytest

from vitjax.training import evaluation_files
from vitjax.training.task import Table

TABLES = {"per_class": Table(("class", "recall"), [("a", 0.5)]), "rest": Table(("n",), [(1,)])}


def written(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_all_are_written(tmp_path):
    paths = evaluation_files.write(tmp_path, "val", {"loss": float("nan")}, TABLES)
    assert [path.name for path in paths] == ["val.json", "val_per_class.csv", "val_rest.csv"]
    assert written(tmp_path)["val_per_class.csv"] == "class,recall\na,0.5\n"
    files = {"per_class": "val_per_class.csv", "rest": "val_rest.csv"}
    assert json.loads(written(tmp_path)["val.json"]) == {"loss": None, "files": files}


@pytest.mark.parametrize("failing", ["val.json", "val_per_class.csv", "val_rest.csv"])
def test_or_none_is(tmp_path, monkeypatch, failing):
    evaluation_files.write(tmp_path, "val", {"loss": 1.0}, TABLES)
    before = written(tmp_path)
    for method in ("write_text", "write_bytes"):
        real = getattr(Path, method)

        def write(path, *arguments, real=real, **keywords):
            real(path, *arguments, **keywords)
            if failing in path.name:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, method, write)
    with pytest.raises(OSError, match=rf"No space left on device: .*{failing}"):
        evaluation_files.write(
            tmp_path, "val", {"loss": 2.0}, {"per_class": TABLES["rest"], "rest": TABLES["rest"]}
        )
    assert written(tmp_path) == before
