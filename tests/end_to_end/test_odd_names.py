"""Runs end with results and figures, whatever their images' range and the names of files are."""

import csv
import json
import os

import numpy as np
import pytest
from PIL import Image

import vitjax
from vitjax import figures
from vitjax.analysis.probing import probe
from vitjax.training import experiment
from vitjax.training.checkpoint_files import CheckpointError

# Bytes that are not UTF-8 (as in archives from Windows), a line break, a terminal's escape.
LATIN = os.fsdecode(b"caf\xe9")
ODD = (LATIN, "a\nb", "c\x1b[31mred\td$")
SHARED = {
    "model": {"name": "mlp_omniglot", "hidden": (4, 4)},
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
    "train": {"steps": 2},
    "parallel": {"devices": 1},
}


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        Image.fromarray(pixels.astype(np.uint8)).save(file, format="PNG")


RNG = np.random.default_rng(0)


def noise(*shape, high=256):
    return RNG.integers(0, high, shape)


def floats(root, kind):
    images = RNG.normal(0, 3, (80, 4, 4, 3)) if kind == "standardised" else noise(80, 4, 4, 3)
    labels = np.arange(40) % 3
    halves = np.split(images.astype(np.float32), 2)  # no image is in both splits
    arrays = {f"x_{split}": half for split, half in zip(("train", "test"), halves, strict=True)}
    arrays |= {f"y_{split}": labels for split in ("train", "test")}
    np.savez(root / "data.npz", **arrays, class_names=np.array(ODD))
    return {**SHARED, "data": {"source": "npz", "path": str(root / "data.npz"), "batch_size": 8}}


def photos(root):
    for name in ODD:
        for number in range(8):
            save(root / "photos" / name / f"{number}{LATIN}\n.png", noise(4, 4, 3))
    data = {"source": "folder", "path": str(root / "photos"), "batch_size": 8}
    return {**SHARED, "data": {**data, "val_fraction": 0.2, "test_fraction": 0.2}}


def episodes(root):
    for split in ("train", "val", "test"):
        for name in ODD:
            for number in range(3):
                save(root / "classes" / split / f"{split}{name}" / f"{number}.png", noise(4, 4))
    size = {"ways": 3, "queries": 2, "val_episodes": 2, "test_episodes": 2}
    data = {"source": "folder", "classes": "all", "path": str(root / "classes"), "channels": 1}
    data |= {"batch_size": 2, "eval_batch_size": 2, "episodes": size}
    return {**SHARED, "data": data, "objective": {"name": "maml", "inner_steps": 1}}


def masks(root):
    for number in range(8):
        save(root / "pairs" / "images" / f"{number}{LATIN}\n.png", noise(8, 8))
        save(root / "pairs" / "masks" / f"{number}{LATIN}\n.png", noise(8, 8, high=2))
    data = {"source": "masks", "path": str(root / "pairs"), "batch_size": 2}
    data |= {"val_fraction": 0.25, "test_fraction": 0.25}
    return {
        **SHARED,
        "model": {"name": "unet", "filters": 2, "depth": 1},
        "data": {**data, "class_names": ODD[:2]},
        "objective": {"name": "segmentation"},
    }


KINDS = {
    "standardised": (lambda root: floats(root, "standardised"), ("confusion_matrix", "mistakes")),
    "bytes as floats": (lambda root: floats(root, "bytes"), ("confusion_matrix", "mistakes")),
    "photos": (photos, ("confusion_matrix", "mistakes")),
    "episodes": (episodes, ("episode", "adaptation")),
    "masks": (masks, ("worst", "best", "iou")),
}


@pytest.fixture(scope="module")
def run(request, tmp_path_factory):
    """The config of a kind, the folder of its run, the names of its figures, what it said."""
    make, names = KINDS[request.param]
    root = tmp_path_factory.mktemp("odd")
    config, said = make(root), []
    vitjax.train(config, root / "run", say=said.append)
    return config, root / "run", names, said


def warnings(said):
    return [line for line in said if "warning" in line]


@pytest.mark.parametrize("run", KINDS, indirect=True)
def test_a_run_ends_with_results_and_figures(run, tmp_path):
    config, folder, names, said = run
    assert not warnings(said)
    assert "test" in json.loads((folder / "summary.json").read_text())
    for name in ("curves", *names):
        with Image.open(folder / "figures" / f"{name}.png") as image:
            image.load()
    said = []
    experiment.build(config).task.inspect(tmp_path / "batch.png", said.append)
    assert not warnings(said)
    with Image.open(tmp_path / "batch.png") as image:
        image.load()
    vitjax.evaluate(folder, "test", output=tmp_path / "out", say=lambda text: None)
    for path in (tmp_path / "out").iterdir():
        text = path.read_text(encoding="utf-8")
        assert json.loads(text) if path.suffix == ".json" else list(csv.reader(text.splitlines()))


@pytest.mark.parametrize("run", ["photos", "masks"], indirect=True)
def test_files_are_predicted(run, tmp_path):
    config, folder, *_ = run
    files = sorted(str(path) for path in (folder.parent).glob("p*/*/*.png"))[:2]
    assert LATIN in files[0]
    vitjax.predict(folder, files, tmp_path, say=lambda text: None)
    made = list(tmp_path.glob("*.png"))
    assert len(made) == (4 if config["data"]["source"] == "masks" else 1)


@pytest.mark.parametrize("run", ["photos"], indirect=True)
def test_a_folder_whose_name_is_not_utf8_is_refused_before_training(run, tmp_path):
    workdir = tmp_path / LATIN
    with pytest.raises(CheckpointError, match="the path is not UTF-8"):
        vitjax.train(run[0], workdir, say=lambda text: None)
    assert not workdir.exists()


@pytest.mark.parametrize("run", KINDS, indirect=True)
def test_results_do_not_depend_on_figures(run, tmp_path, monkeypatch):
    config, folder, *_ = run

    def broken(*arguments, **keywords):
        raise ValueError("no figure today")

    before = (folder / "summary.json").read_bytes()
    (folder / "summary.json").unlink()
    drawing = [name for name in figures.__all__ if name[0].islower()]
    drawing = set(drawing) - {"optional", "count_confusions", "palette"}
    for name in drawing:
        monkeypatch.setattr(figures, name, broken)
    said = []
    experiment.build(config).task.inspect(tmp_path / "batch.png", said.append)
    assert "no figure today" in warnings(said)[0]
    said.clear()
    vitjax.train(None, folder, say=said.append)
    # Each figure is a warning of its own, and so is the report; curves are drawn for every task.
    assert len(warnings(said)) == 2 + len(run[2])
    assert all("no figure today" in line for line in warnings(said))
    assert json.loads((folder / "summary.json").read_bytes())["test"] == json.loads(before)["test"]
    if config["data"]["source"] == "folder" and "objective" not in config:
        path = next(folder.parent.glob("photos/*/*.png"))
        found = vitjax.predict(folder, [path], tmp_path / "predicted", say=said.append)
        assert (tmp_path / "predicted" / "predictions.jsonl").is_file()
        assert len(found) == 1
        said.clear()
        probe([folder], layers=".*", output=tmp_path / "probes", say=said.append)
        assert "no figure today" in warnings(said)[0]
        assert (tmp_path / "probes" / "linear.json").is_file()
