"""A segmentation run from the command line: training, resuming, evaluating, masks of new images."""

import json

import numpy as np
import pytest
from PIL import Image

from vitjax.cli import main

CONFIG = """
from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.model = dict(name="unet", filters=4, depth=2, norm="batch")
    config.data = dict(
        source="cells", size=32, train=8, val=3, test=3, batch_size=4, eval_batch_size=2,
        train_transforms="elastic(2) | dihedral", weight_map=dict(w0=5, sigma=3),
    )
    config.objective = dict(name="segmentation", measures=("v_rand", "pixel_error"))
    config.optimizer = dict(name="adam", learning_rate=1e-2)
    config.train = dict(steps=6, evaluate_every_steps=3)
    config.checkpoint = dict(best="val/iou")
    config.parallel = dict(devices=1)
    return config
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmentation")
    config = folder / "config.py"
    config.write_text(CONFIG)
    assert main(["train", f"--config={config}", f"--workdir={folder / 'run'}"]) == 0
    return config, folder / "run"


def test_a_run_leaves_exact_numbers_and_pictures(trained, capsys):
    _, run = trained
    summary = json.loads((run / "summary.json").read_text())
    test = summary["test"]
    assert test["iou"] == pytest.approx((test["iou_0"] + test["iou_1"]) / 2)
    assert {"v_rand", "pixel_error", "dice", "accuracy", "loss"} <= set(test)
    assert test["examples"] == 3
    for name in ("worst", "best", "iou", "curves"):
        assert Image.open(run / "figures" / f"{name}.png").size[0] > 100
    assert main(["evaluate", f"--workdir={run}", "--split=test"]) == 0
    assert f"iou {test['iou']:.4f}" in capsys.readouterr().out


def test_a_run_goes_on_to_the_bits_of_one_never_stopped(trained, tmp_path):
    config, run = trained
    for steps in (3, 6):
        arguments = [f"--config={config}", f"--workdir={tmp_path}", f"--config.train.steps={steps}"]
        assert main(["train", *arguments]) == 0
    stopped, whole = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (tmp_path, run)
    )
    assert stopped[-1]["split"] == whole[-1]["split"] == "val"
    assert {k: v for k, v in stopped[-1].items() if "second" not in k} == {
        k: v for k, v in whole[-1].items() if "second" not in k
    }


def test_masks_of_image_files_of_any_size(trained, tmp_path, capsys):
    _, run = trained
    rng = np.random.default_rng(0)
    paths = []
    for number, size in enumerate([(37, 50), (64, 33)]):
        paths.append(str(tmp_path / f"image {number}.png"))
        Image.fromarray(rng.integers(0, 256, size[::-1], dtype=np.uint8)).save(paths[-1])
    output = tmp_path / "masks"
    arguments = ["predict", f"--workdir={run}", *paths, f"--output={output}", "--probabilities"]
    assert main([*arguments, "--tile=24", "--tta"]) == 0
    assert "%" in capsys.readouterr().out
    for path, size in zip(paths, [(37, 50), (64, 33)], strict=True):
        stem = path.rpartition("/")[2].removesuffix(".png")
        mask = Image.open(output / f"{stem}_mask.png")
        assert mask.size == size
        assert mask.mode == "P"
        with np.load(output / f"{stem}_probabilities.npz") as file:
            probabilities = file["probabilities"]
        np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)
        np.testing.assert_array_equal(np.asarray(mask), probabilities.argmax(axis=-1))
        assert Image.open(output / f"{stem}_overlay.png").size == size


def test_a_bad_file_leaves_nothing(trained, tmp_path, capsys):
    _, run = trained
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(good)
    bad.write_bytes(b"no image")
    output = tmp_path / "masks"
    assert main(["predict", f"--workdir={run}", str(good), str(bad), f"--output={output}"]) == 2
    assert "bad.png" in capsys.readouterr().err
    assert not output.exists()


def test_data_counts_pixels_and_draws_masks(trained, tmp_path, capsys):
    config, _ = trained
    picture = tmp_path / "batch.png"
    assert main(["data", f"--config={config}", f"--output={picture}"]) == 0
    out = capsys.readouterr().out
    assert "pixels of each class" in out
    assert Image.open(picture).size[0] > 50
