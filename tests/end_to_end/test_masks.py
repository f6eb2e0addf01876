"""A segmentation run from the command line: training, resuming, evaluating, masks of new images."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from whole_runs import ENVIRONMENT, assert_same_bits, final_state, wait_for_checkpoint

import vitjax as api
from vitjax import config as configs
from vitjax.cli import main
from vitjax.core.errors import ConfigError
from vitjax.data.mask_files import read_mask
from vitjax.training import experiment, loop
from vitjax.training.logging import read

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
    assert len(test["iou_per_class"]) == 2
    assert test["iou"] == pytest.approx(sum(test["iou_per_class"]) / 2)
    assert {"v_rand", "pixel_error", "dice", "accuracy", "loss"} <= set(test)
    assert test["examples"] == 3
    for name in ("worst", "best", "iou", "curves"):
        assert Image.open(run / "figures" / f"{name}.png").size[0] > 100
    assert main(["evaluate", f"--workdir={run}", "--split=test"]) == 0
    output = capsys.readouterr().out
    assert f"iou {test['iou']:.2%}" in output
    assert f"iou_per_class: background {test['iou_per_class'][0]:.2%}, cell" in output


@pytest.mark.slow
def test_a_killed_run_ends_as_one_never_killed(vitjax, trained, tmp_path, monkeypatch):
    config, _ = trained
    # What is evaluated and drawn at the end follows from the state.
    monkeypatch.setattr(loop._Loop, "finish", lambda run, at_end: run.checkpoints.wait())
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    arguments = ["train.steps=100000", "checkpoint.every_steps=1"]
    # All runs with eight devices of which they use one, as the bits may depend on that.
    process = vitjax.start(
        "train",
        f"--config={config}",
        f"--workdir={killed}",
        *(f"--config.{argument}" for argument in arguments),
        environment={"XLA_FLAGS": os.environ["XLA_FLAGS"]},
    )
    wait_for_checkpoint(process, killed, 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    reached = max(int(p.name) for p in killed.glob("checkpoints/*") if p.name.isdigit())

    values = configs.load(config)
    values.checkpoint.every_steps = 1
    values.train.steps = reached + 4
    built, said = experiment.build(values), []
    for folder in (killed, whole):
        loop.train(built, folder, said.append)
    assert [line for line in said if line.startswith("Resuming from")] == [
        f"Resuming from the checkpoint of step {reached}"
    ]
    assert_same_bits(*(final_state(folder, reached + 4) for folder in (killed, whole)))
    held_out = [
        [record for record in read(folder / "metrics.jsonl") if record["split"] == "val"]
        for folder in (killed, whole)
    ]
    assert held_out[0] == held_out[1]
    assert held_out[0][-1]["step"] > reached


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


@pytest.fixture
def photos(tmp_path):
    """Images of 16 bits of two sizes, and masks with a palette, of the values 0, 7 and 200."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
    for number, (height, width) in enumerate([(24, 31), (30, 22)] * 2):
        label = rng.integers(0, 3, (height, width))
        mask = Image.fromarray(np.array([0, 7, 200], np.uint8)[label]).convert("P")
        mask.save(tmp_path / "photos" / "masks" / f"{number}.png")
        grey = (label * 20_000 + rng.integers(0, 9_000, label.shape)).astype(np.uint16)
        Image.fromarray(grey).save(tmp_path / "photos" / "images" / f"{number}.tif")
    return tmp_path / "photos"


def test_masks_have_the_values_and_the_size_of_the_files(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loop._Loop, "finish", lambda run, at_end: run.checkpoints.wait())
    values = configs.load("configs/segmentation/masks.py")
    values.model = {"name": "unet", "filters": 2, "depth": 1, "norm": "batch"}
    values.data.update(path=str(photos), channels=1, batch_size=2, val_count=1)
    values.data.update(train_transforms="crop(16)", eval_transforms="resize((20, 20))")
    values.train = {"steps": 1}
    values.checkpoint = {"every_steps": 1}
    values.parallel = {"devices": 1}
    run, output = tmp_path / "run", tmp_path / "output"
    loop.train(experiment.build(values), run, lambda text: None)
    paths = [str(photos / "images" / f"{number}.tif") for number in (0, 1)]
    arguments = ["predict", f"--workdir={run}", *paths, f"--output={output}", "--probabilities"]
    assert main([*arguments, "--json"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()[:2]]
    for number, path in enumerate(paths):
        with Image.open(path) as image:
            size = image.size[::-1]
        with np.load(output / f"{number}_probabilities.npz") as file:
            likely = file["probabilities"]
        assert likely.shape == (*size, 3)
        np.testing.assert_allclose(likely.sum(axis=-1), 1, rtol=1e-5)
        mask = read_mask(output / f"{number}_mask.png")
        np.testing.assert_array_equal(mask, np.array([0, 7, 200])[likely.argmax(axis=-1)])
        assert said[number]["fractions"] == {
            str(value): np.mean(mask == value) for value in (0, 7, 200)
        }
        assert np.asarray(Image.open(output / f"{number}_overlay.png")).shape == (*size, 3)


# Measures the peak of the memory before and after a large image. The small one has compiled all.
PEAK = """
import resource, sys
import jax, numpy as np
from PIL import Image
from vitjax import config as configs
from vitjax.training import experiment

values = configs.load(sys.argv[1])
values.model = dict(name="unet_valid", filters=1, depth=1, num_classes=8)
built = experiment.build(values)
variables = built.objective.init(jax.random.key(0), built.data.example_batch())
for side in (300, 4096):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row = np.arange(side).astype(np.uint8)
    Image.fromarray(row[:, None] + row).save(f"{sys.argv[2]}/{side}.png", compress_level=1)
    list(
        built.task.predict(
            variables, [f"{sys.argv[2]}/{side}.png"], f"{sys.argv[2]}/output", tile=256
        )
    )
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_large_image_takes_little_memory(trained, tmp_path):
    config, _ = trained
    found = subprocess.run(
        [sys.executable, "-c", PEAK, config, tmp_path],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    with Image.open(tmp_path / "output" / "4096_mask.png") as mask:
        assert mask.size == (4096, 4096)
    # In KiB. The image, its mask and the overlay are 5 bytes a pixel, with the rows of a tile and
    # with what writing takes 11 to 14; the probabilities of all pixels would be 32 more.
    assert int(found.stdout) * 1024 < 20 * 4096**2


def test_a_bad_file_leaves_nothing(trained, tmp_path, capsys):
    _, run = trained
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(good)
    bad.write_bytes(b"no image")
    output = tmp_path / "masks"
    assert main(["predict", f"--workdir={run}", str(good), str(bad), f"--output={output}"]) == 2
    assert "bad.png" in capsys.readouterr().err
    assert not output.exists()
    again = tmp_path / "again"
    again.mkdir()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(again / "good.tif")
    # Two images of one name have masks in folders of their own; the bad one has none.
    paths = [str(good), str(again), str(bad), "--on-corrupt=skip", "--json"]
    assert main(["predict", f"--workdir={run}", *paths, f"--output={output}"]) == 0
    said = capsys.readouterr()
    assert "bad.png: cannot be decoded" in said.err
    assert ["error" in json.loads(line) for line in said.out.splitlines()] == [False, False, True]
    written = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    assert written == {
        *("predictions.jsonl", "predictions.csv", ".predicted"),
        *("good_mask.png", "good_overlay.png", "again/good_mask.png", "again/good_overlay.png"),
    }


def test_a_truth_mask_is_not_replaced(trained, tmp_path, capsys):
    _, run = trained
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "car.png")
    truth = tmp_path / "car_mask.png"
    truth.write_bytes(b"drawn by hand")
    arguments = ["predict", f"--workdir={run}", str(tmp_path / "car.png"), f"--output={tmp_path}"]
    assert main(arguments) == 2
    assert "has car_mask.png: the file exists already" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"car.png", "car_mask.png"}
    truth.unlink()
    assert main(arguments) == 0
    # The folder again, with its masks: they are results, not images.
    capsys.readouterr()
    assert main([*arguments[:2], str(tmp_path), f"--output={tmp_path}", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["image"] == str(tmp_path / "car.png")
    (header, row) = (tmp_path / "predictions.csv").read_text().splitlines()
    assert header == "image,fraction of background,fraction of cell"
    assert sum(map(float, row.split(",")[1:])) == pytest.approx(1)


def test_a_loaded_run_segments_arrays(trained, tmp_path):
    _, run = trained
    pixels = np.random.default_rng(0).integers(0, 256, (32, 33), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    loaded = api.load(run, say=lambda text: None)
    file, array = loaded.predict([tmp_path / "a.png", pixels])
    assert file["fractions"] == array["fractions"]
    assert file["mask"].shape == (32, 33)
    np.testing.assert_array_equal(file["mask"], array["mask"])
    assert np.mean(file["mask"] == 1) == file["fractions"]["cell"]
    with pytest.raises(ConfigError, match="'probabilities' is not an option of images in memory"):
        loaded.predict(pixels, probabilities=True)


def test_the_pages_of_a_stack_have_masks_of_their_own(trained, tmp_path, capsys):
    _, run = trained
    rng = np.random.default_rng(0)
    pages = [Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)) for _ in range(11)]
    stack, output = tmp_path / "stack.tif", tmp_path / "masks"
    pages[0].save(stack, save_all=True, append_images=pages[1:])
    pages[7].save(tmp_path / "seven.png")
    paths = [str(stack), str(tmp_path / "seven.png")]
    assert main(["predict", f"--workdir={run}", *paths, f"--output={output}", "--json"]) == 0
    said = [json.loads(line)["image"] for line in capsys.readouterr().out.splitlines()]
    assert said == [*(f"{stack}, page {page}" for page in range(11)), paths[1]]
    masks = [read_mask(output / f"stack_{page:02}_mask.png") for page in range(11)]
    np.testing.assert_array_equal(masks[7], read_mask(output / "seven_mask.png"))
    assert len({mask.tobytes() for mask in masks}) == 11


def test_data_counts_pixels_and_draws_masks(trained, tmp_path, capsys):
    config, _ = trained
    picture = tmp_path / "batch.png"
    assert main(["data", f"--config={config}", f"--output={picture}"]) == 0
    out = capsys.readouterr().out
    assert "counts are pixels per class" in out
    assert Image.open(picture).size[0] > 50
