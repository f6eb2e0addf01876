"""Robustness: errors by hand, runs from the command line, and what is refused."""

import dataclasses
import itertools
import json
import math

import jax
import numpy as np
import pytest
import small_workdirs
from PIL import Image

from vitjax.analysis import changing
from vitjax.analysis.changing import Change, all_changes
from vitjax.analysis.networks import of_runs, spaced
from vitjax.analysis.robustness import mean_corruption_error, robustness
from vitjax.cli import main
from vitjax.core.errors import ConfigError
from vitjax.tasks import runs
from vitjax.training.finite import NotFiniteError

OTHER = {"name": "resnet20", "stage_sizes": [1], "width": 4}
DATA = {**small_workdirs.CLASSIFICATION["data"], "val_examples": 12}


def silent(text):
    """Stands in for `print`."""


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    found = []
    for name, model in (("conv", small_workdirs.CLASSIFICATION["model"]), ("resnet", OTHER)):
        found.append(folder / name)
        found[-1].mkdir()
        config = {**small_workdirs.CLASSIFICATION, "model": model, "data": DATA}
        small_workdirs.make(found[-1], config)
    return found


def test_mean_corruption_error_by_hand():
    reference = {"fog": [0.2, 0.4], "snow": [0.5, 0.5]}
    errors = {"fog": [0.1, 0.2], "snow": [0.5, 1.0]}
    assert mean_corruption_error(errors, reference) == pytest.approx((0.3 / 0.6 + 1.5) / 2)
    assert mean_corruption_error(reference, reference) == 1
    # Of corruptions without errors of the reference nothing can be said.
    assert mean_corruption_error(errors, {**reference, "snow": [0.0, 0.0]}) == pytest.approx(0.5)
    assert math.isnan(mean_corruption_error({"fog": [0.3]}, {"fog": [0.0]}))


def test_examples_are_spread_over_the_split():
    assert spaced(10, 20).tolist() == list(range(10))
    assert spaced(10, 4).tolist() == [0, 3, 6, 9]
    assert spaced(1000, 1).tolist() == [0]


def test_changes_have_the_same_random_numbers_at_all_levels():
    image = np.full((32, 32, 1), 120, np.uint8)
    changes = {(c.name, c.level): c for c in all_changes(["gaussian_noise"], (1, 5), (32, 32))}
    weak, strong = (changes["gaussian_noise", s](image, 0, 7).astype(float) for s in (1, 5))
    assert np.corrcoef(weak.ravel(), strong.ravel())[0, 1] > 0.98
    other = changes["gaussian_noise", 1](image, 0, 8).astype(float)
    assert abs(np.corrcoef(weak.ravel(), other.ravel())[0, 1]) < 0.2
    hidden = [changes["occlusion", f](image, 0, 7) == 0 for f in changing.FRACTIONS]
    assert [np.mean(x) for x in hidden] == [round(f * 64) / 64 for f in changing.FRACTIONS]
    assert all(np.all(more[fewer]) for fewer, more in itertools.pairwise(hidden))
    small = [c.level for c in all_changes([], (1,), (5, 9)) if c.name == "patch_shuffle"]
    assert small == [1, 2, 4]


def test_two_runs_from_the_command_line(workdirs, tmp_path, capsys):
    output = tmp_path / "robust"
    arguments = [*(f"--workdir={folder}" for folder in workdirs), f"--output={output}"]
    arguments += ["--corruptions=jpeg_compression, contrast", "--severities=5,1", "--split=val"]
    assert main(["robustness", *arguments, "--batch-size=5"]) == 0
    printed = capsys.readouterr().out
    assert "mCE (100% is conv)" in printed
    found = json.loads((output / "robustness.json").read_text())
    assert found["examples"] == 12
    assert found["severities"] == [1, 5]
    first, second = found["networks"]
    assert first["mce"] in (1, None)
    assert list(first["corruptions"]) == ["jpeg_compression", "contrast"]
    # As the run itself classifies the images.
    run = runs.load(workdirs[0], say=silent)
    data = runs.build(json.loads((workdirs[0] / "config.json").read_text())).data
    images = np.stack([data.example("val", i) for i in range(12)])
    outputs = jax.jit(run.model.apply)(run.variables, data.normalize(images))
    expected = np.mean(np.argmax(outputs, -1) == data.labels("val"))
    assert first["accuracy"]["value"] == pytest.approx(expected)
    for each in found["networks"]:
        # What changes nothing.
        assert each["patch_shuffle"]["accuracy"][0] == each["accuracy"]["value"]
        assert each["occlusion"]["accuracy"][0] == each["accuracy"]["value"]
        for part in each["corruptions"].values():
            assert part["mean_error"] == pytest.approx(1 - np.mean(part["accuracy"]))
            clean_error = 1 - each["accuracy"]["value"]
            assert part["relative_mean_error"] == pytest.approx(part["mean_error"] - clean_error)
    assert second["patch_shuffle"]["grids"] == [1, 2, 4, 8]
    rows = (output / "robustness_corruptions.csv").read_text().splitlines()
    assert rows[0] == (
        "network,corruption,kind,accuracy_1,accuracy_5,mean_error,relative_mean_error"
    )
    assert len(rows) == 5
    assert len((output / "robustness_patches.csv").read_text().splitlines()) == 1 + 2 * 14
    for name in ("corruptions.png", "patches.png", "examples.png"):
        with Image.open(output / name) as drawn:
            assert drawn.width > 300


def test_numbers_of_numpy_and_a_single_run(workdirs, tmp_path):
    options = {"corruptions": ["all"], "examples": np.int64(2), "split": "val"}
    robustness(
        str(workdirs[0]), tmp_path, severities=range(3, 4), seed=np.int32(1), say=silent, **options
    )
    found = json.loads((tmp_path / "robustness.json").read_text())
    assert (found["severities"], found["seed"], found["examples"]) == ([3], 1, 2)
    assert len(found["networks"][0]["corruptions"]) == 15


def test_what_cannot_be_measured_is_refused(workdirs, tmp_path, capsys):
    output = tmp_path / "out"

    def refused(words, folders=workdirs, **options):
        options = {"split": "val", **options}
        with pytest.raises(ConfigError, match=words):
            robustness(folders, output, say=silent, **options)
        assert not output.exists()

    refused("needs the folder of a run", [])
    refused("is given twice", [workdirs[0], f"{workdirs[1]}/../{workdirs[0].name}"])
    refused("unknown corruption 'fgo'; did you mean 'fog'", corruptions="snow,fgo")
    refused("--severities has 6", severities=(1, 6))
    refused("--severities: give at least one", severities=())
    refused("--corruptions: give at least one", corruptions=[])
    refused(r"--severities\[0\] is '3'; it must be an integer", severities="3")
    refused(r"--severities\[0\] is 3.0; it must be an integer", severities=(3.0,))
    refused(r"--corruptions\[0\] is None; it must be a string", corruptions=None)
    refused(r"--corruptions\[0\] is 1; it must be a string", corruptions=[1])
    refused("workdirs is None; it must be a path or a list of paths", None)
    refused("no such split; did you mean 'val'", split="vla")
    refused("--examples is 0", examples=0)
    few_shot = tmp_path / "few_shot"
    few_shot.mkdir()
    small_workdirs.make(few_shot, small_workdirs.FEW_SHOT)
    refused("networks that classify images", [few_shot])
    arguments = [f"--workdir={workdirs[0]}", f"--output={output}", "--split=val"]
    assert main(["robustness", *arguments, "--corruptions=jpeg_compresion"]) == 2
    assert "did you mean 'jpeg_compression'" in capsys.readouterr().err
    assert main(["robustness", *arguments, "--corruption=fog"]) == 2
    assert "did you mean '--corruptions'" in capsys.readouterr().err
    output.write_text("a file")
    assert main(["robustness", *arguments]) == 2
    assert "is a file; it must be a folder" in capsys.readouterr().err


def test_a_network_of_nan_is_an_error(workdirs, tmp_path, monkeypatch):
    def diverged(*arguments, **options):
        return [
            dataclasses.replace(each, variables=jax.tree.map(lambda x: x * np.nan, each.variables))
            for each in of_runs(*arguments, **options)
        ]

    monkeypatch.setattr("vitjax.analysis.robustness.of_runs", diverged)
    with pytest.raises(NotFiniteError, match="conv gives values that are NaN"):
        robustness(workdirs[:1], tmp_path / "out", split="val", corruptions="fog", say=silent)
    assert not (tmp_path / "out").exists()


def test_a_broken_change_leaves_nothing(workdirs, tmp_path, monkeypatch):
    def broken(image, rng):
        raise KeyboardInterrupt

    monkeypatch.setattr(
        "vitjax.analysis.robustness.all_changes", lambda *arguments: [Change("fog", 1, broken)]
    )
    with pytest.raises(KeyboardInterrupt):
        robustness(workdirs[:1], tmp_path / "out", split="val", say=silent)
    assert not (tmp_path / "out").exists()
