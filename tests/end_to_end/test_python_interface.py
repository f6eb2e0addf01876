"""Runs from Python: the README's example, and what a run needs beside its folder."""

import re
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

import vitjax as api

README = Path(__file__).resolve().parents[2] / "README.md"


def small():
    return ConfigDict(
        {
            "model": {"name": "vit_ti16", "patch_size": 4, "width": 8, "depth": 1, "num_heads": 1},
            "data": {"source": "digits", "batch_size": 64, "eval_batch_size": 96},
            "optimizer": {"name": "adam", "learning_rate": 1e-3},
            "train": {"steps": 2},
            "parallel": {"devices": 8},
        }
    )


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """What the README's example has computed, and the folder that it ran in."""
    folder = tmp_path_factory.mktemp("readme")
    section = README.read_text().split("## In Python")[1]
    (program, *_) = re.findall(r"```python\n(.*?)```", section, re.S)
    assert '"digits/vit"' in program
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((8, 8), 100, np.uint8)).save(folder / name)
    names = {"config": small()}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        program = program.replace('"digits/vit"', "config")
        exec(compile(program, "README.md", "exec"), names)
    return folder, names


def test_the_readme_s_example_runs(example):
    folder, names = example
    assert names["summary"]["steps"] == 2
    assert names["logits"].shape == (2, 10)
    assert names["preprocess"].class_names == tuple("0123456789")
    assert (folder / "runs" / "digits" / "summary.json").is_file()


def test_evaluate_gives_the_numbers_of_the_summary(example):
    folder, names = example
    found = api.evaluate(folder / "runs" / "digits", "test", say=lambda text: None)
    assert found["loss"] == pytest.approx(names["summary"]["test"]["loss"], rel=1e-5)


def test_one_device_predicts_with_a_run_of_eight(example, vitjax):
    folder, _ = example
    run = folder / "runs" / "digits"
    status, output, errors = vitjax("predict", f"--workdir={run}", folder / "a.png")
    assert status == 0, errors
    assert "a.png" in output
    arguments = [folder / "a.png", "--option", "tile=4"]
    status, output, errors = vitjax("predict", f"--workdir={run}", *arguments)
    assert status == 2
    assert "(tile=)" in errors


def test_an_option_that_is_given_twice_is_refused(vitjax, tmp_path):
    arguments = ["predict", f"--workdir={tmp_path}", "a.png", "--tile=4", "--option", "tile=8"]
    status, _, errors = vitjax(*arguments)
    assert status == 2
    assert "--option tile=8: tile is given twice" in errors


def test_a_config_is_not_changed(tmp_path, monkeypatch):
    (tmp_path / "unchanged_config.py").write_text("LOADED = True\n")
    monkeypatch.chdir(tmp_path)
    config = small()
    config.imports = ("unchanged_config.py",)
    before = config.to_dict()
    assert api.build(config).config["imports"] == [str(tmp_path / "unchanged_config.py")]
    assert config.to_dict() == before
