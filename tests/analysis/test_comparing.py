"""Layers of runs are compared on the images of their data."""

import json

import numpy as np
import pytest
import small_workdirs
from PIL import Image

from vitjax import figures
from vitjax.analysis import similarity
from vitjax.analysis.comparing import compare_layers
from vitjax.analysis.networks import spaced
from vitjax.cli import main
from vitjax.core.errors import ConfigError
from vitjax.tasks import runs

OTHER = {"name": "resnet20", "stage_sizes": [1], "width": 4}
DATA = {**small_workdirs.CLASSIFICATION["data"], "val_examples": 12}


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    folders = []
    for model in (small_workdirs.CLASSIFICATION["model"], OTHER):
        folders.append(tmp_path_factory.mktemp("run"))
        config = {**small_workdirs.CLASSIFICATION, "model": model, "data": DATA}
        small_workdirs.make(folders[-1], config)
    return folders


def test_two_runs_are_compared(workdirs, tmp_path, capsys):
    output = tmp_path / "compared"
    arguments = [f"--workdir={folder}" for folder in workdirs]
    assert (
        main(["compare-layers", *arguments, f"--output={output}", "--split=val", "--batch-size=8"])
        == 0
    )
    assert "cka.png" in capsys.readouterr().out
    found = json.loads((output / "cka.json").read_text())
    names = [network["layers"] for network in found["networks"]]
    assert names[1] == ["stem", "stage1", "representation"]
    values = np.array(found["cka"])
    assert values.shape == (len(names[0]), 3)
    assert np.all(values < 1.01)
    with Image.open(output / "cka.png") as drawn:
        assert drawn.width > 300
    assert found["examples"] == 12


def _config(folder):
    return json.loads((folder / "config.json").read_text())


def test_a_run_is_compared_with_itself(workdirs):
    found = compare_layers(
        workdirs[:1], split="val", batch_size=12, examples=8, say=lambda text: None
    )
    assert found["examples"] == 8
    np.testing.assert_allclose(np.diag(found["cka"]), 1, rtol=1e-9)
    assert (workdirs[0] / "layers" / "cka.json").exists()
    run = runs.load(workdirs[0], say=lambda text: None)
    data = runs.build(_config(workdirs[0])).data
    with data.eval_batches("val") as batches:
        images = np.concatenate([batch["image"][batch["mask"]] for batch in batches])
    # Not the first ones, which in a split in the order of its classes are of some classes alone.
    inputs = data.normalize(images[spaced(len(images), 8)])
    own = similarity.Network(run.model, run.variables)
    expected = similarity.compare(own, own, [(inputs, inputs)])
    np.testing.assert_allclose(found["cka"], expected.cka, rtol=1e-4, atol=1e-5)


def test_images_of_a_small_last_batch_are_left_out(workdirs, tmp_path):
    lines: list[str] = []
    found = compare_layers(
        workdirs[:1], split="val", batch_size=9, output=tmp_path, say=lines.append
    )
    assert found["examples"] == 9
    assert "3 images of 12 left out: the last batch needs at least 4" in lines


def test_two_checkpoints_of_a_run_are_compared(workdirs, tmp_path):
    arguments = [f"--workdir={workdirs[0]}", "--split=val", f"--output={tmp_path}"]
    pair = ["--checkpoint=2", "--with-checkpoint=1"]
    assert main(["compare-layers", *arguments, *pair, "--batch-size=12"]) == 0
    found = json.loads((tmp_path / "cka.json").read_text())
    assert [each["step"] for each in found["networks"]] == [2, 1]
    assert [each["name"][-6:] for each in found["networks"]] == ["step 2", "step 1"]
    np.testing.assert_allclose(np.diag(found["cka"]), 1, rtol=1e-6)  # they have the same weights


def test_what_cannot_be_compared_is_refused(workdirs, tmp_path):
    def refused(words, folders=workdirs, **options):
        options = {"split": "val", "output": tmp_path / "out", **options}
        with pytest.raises(ConfigError, match=words):
            compare_layers(folders, say=lambda text: None, **options)
        assert not (tmp_path / "out").exists()

    refused("two checkpoints are compared of one run", with_checkpoint=1)
    refused("one or two networks", [])
    refused("3 are given", [*workdirs, workdirs[0]])
    refused("'cubic'", kernel="cubic")
    refused("no such split; did you mean 'val'", split="vla")
    refused("stage9", layers="stage9")
    refused("--examples is 3; it must be at least 4", examples=3)
    refused("--batch-size is 3; it must be at least 4", batch_size=3)
    refused("--layers is None; it must be a string", layers=None)
    refused("--layers is empty", layers="")
    refused("is given twice", [workdirs[0], workdirs[0]])
    refused("both checkpoints are that of step", workdirs[:1], with_checkpoint="last")
    refused(r"workdirs\[1\] is None; it must be a path", [workdirs[0], None])
    (tmp_path / "file").touch()
    refused("is a file; it must be a folder", output=tmp_path / "file")
    own = tmp_path / "own"
    own.mkdir()
    (own / "cka.json").write_text("mine")
    refused("cka.json: the file exists already, and no earlier command", output=own)
    assert (own / "cka.json").read_text() == "mine"
    folder = tmp_path / "other"
    folder.mkdir()
    data = {**DATA, "val_examples": 15}
    small_workdirs.make(folder, {**small_workdirs.CLASSIFICATION, "data": data})
    refused("have different data", [workdirs[0], folder])


def test_names_must_match_the_values(tmp_path):
    with pytest.raises(ValueError, match="for 1 and 2 layers"):
        figures.layer_similarities(
            np.zeros((2, 2)), ("a", "b"), (["x"], ["y", "z"]), tmp_path / "a.png"
        )
