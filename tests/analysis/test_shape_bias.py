"""Shape bias: counts by hand, runs from the command line, and what is refused."""

import json
import math

import numpy as np
import pytest
import small_workdirs
from PIL import Image

from vitjax import figures
from vitjax.analysis import shape_bias
from vitjax.analysis.shape_bias import Decisions
from vitjax.cli import main
from vitjax.core.errors import ConfigError
from vitjax.data import DataError
from vitjax.data.sources.shape_texture import CLASSES
from vitjax.metrics import t_interval, wilson

DATA = {
    **{"source": "shape_texture", "image_size": 16, "train": 9, "val": 9, "test": 9},
    **{"conflict": 9, "batch_size": 3, "eval_batch_size": 9},
}
NAMES = list(CLASSES)


def silent(text):
    """Stands in for `print`."""


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    """Two runs that differ in their seeds."""
    folder = tmp_path_factory.mktemp("runs")
    found = []
    for seed in (1, 2):
        found.append(folder / f"net_{seed}")
        found[-1].mkdir()
        small_workdirs.make(
            found[-1], {**small_workdirs.CLASSIFICATION, "data": DATA, "seed": seed}
        )
    return found


@pytest.fixture
def photos(tmp_path):
    """A folder with an image for each of two classes of the runs, of another size than theirs."""
    generator = np.random.default_rng(0)
    for kind in ("shapes", "textures"):
        for name in NAMES[:2]:
            (tmp_path / kind / name).mkdir(parents=True)
            for number in range(2):
                image = generator.integers(0, 256, (20, 24, 3), np.uint8)
                Image.fromarray(image).save(tmp_path / kind / name / f"{number}.png")
    return tmp_path / "shapes", tmp_path / "textures"


def test_decisions_by_hand():
    shapes, textures = np.array([0, 0, 1, 1, 2, 2]), np.array([1, 2, 0, 2, 0, 1])
    predicted = np.array([0, 2, 1, 0, 2, 1])  # shape, texture, shape, other, shape, texture
    found = Decisions.of(predicted, shapes, textures)
    assert found == Decisions(shape=3, texture=2, other=1)
    assert found.bias == 0.6
    low, high = wilson(3, 5)
    assert found.summary()["shape_bias"] == {"value": 0.6, "low": low, "high": high}
    assert math.isnan(Decisions(0, 0, 4).bias)


def test_two_seeds_from_the_command_line(workdirs, tmp_path, capsys):
    output = tmp_path / "bias"
    arguments = [*(f"--workdir={folder}" for folder in workdirs), f"--output={output}"]
    arguments += ["--examples=30", "--batch-size=8"]
    assert main(["shape-bias", *arguments]) == 0
    printed = capsys.readouterr().out
    found = json.loads((output / "shape_bias.json").read_text())
    assert found["classes"] == NAMES
    assert found["images"]["conflict"] == found["images"]["agreeing"] == 30
    for each in found["networks"]:
        assert each["shape"] + each["texture"] + each["other"] == 30
        parts = each["per_class"].values()
        for key in ("shape", "texture", "other"):
            assert sum(part[key] for part in parts) == each[key]
    (group,) = found["seeds"]
    assert group["name"] == "net, 2 seeds"
    assert "net, 2 seeds" in printed
    values = [each["agreeing_accuracy"]["value"] for each in found["networks"]]
    assert group["agreeing_accuracy"]["mean"] == pytest.approx(t_interval(values)[0])
    table = (output / "shape_bias_classes.csv").read_text().splitlines()
    assert len(table) == 1 + 2 * 10
    assert table[1].startswith("net_1,all classes,")
    for name in ("shape_bias.png", "conflicts.png"):
        with Image.open(output / name) as drawn:
            assert drawn.width > 300
    # The same command again replaces its own files, and no others.
    assert main(["shape-bias", *arguments]) == 0
    (output / "shape_bias.png").write_bytes(b"mine")
    assert main(["shape-bias", *arguments]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (output / "shape_bias.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["vit_1", "vit_2", "vit_3"], "vit, 3 seeds"),
        (["vit_10", "vit_11"], "vit, 2 seeds"),
        (["vit1", "vit2"], "vit, 2 seeds"),
        (["deep_small", "deep_smart"], "deep, 2 seeds"),
        (["one", "two"], "one and others, 2 seeds"),
    ],
)
def test_the_name_of_seeds_ends_with_a_whole_word(names, expected):
    assert shape_bias._common_name(names) == expected


def test_a_network_that_goes_by_shape(workdirs, tmp_path, monkeypatch):
    """Predictions are those of an oracle; images are told apart by their pixels."""
    conflict, agreeing = shape_bias.Cues.drawn(30, 0).splits(16)
    answers = {
        split.read(i).image.tobytes(): split.labels[i]
        for split in (conflict, agreeing)
        for i in range(len(split))
    }

    class Oracle:
        def __init__(self, network, batch_size):
            pass

        def __call__(self, images, count):
            return np.array([answers[image.tobytes()] for image in images])

    monkeypatch.setattr(shape_bias, "Classes", Oracle)
    found = shape_bias.shape_bias(workdirs[:1], tmp_path, examples=30, say=silent)
    (network,) = found["networks"]
    assert network["shape_bias"]["value"] == 1.0
    assert network["agreeing_accuracy"]["value"] == 1.0
    assert network["other"] == 0
    assert found["seeds"] == []


def test_folders_of_a_user(workdirs, photos, tmp_path):
    shapes, textures = photos
    found = shape_bias.shape_bias(
        workdirs[:1], tmp_path / "out", shapes=shapes, textures=textures, say=silent
    )
    assert found["classes"] == sorted(NAMES[:2])
    assert found["images"]["conflict"] == 4
    (network,) = found["networks"]
    assert set(network["per_class"]) == set(NAMES[:2])


def test_what_cannot_be_measured_is_refused(workdirs, photos, tmp_path):
    shapes, textures = photos
    output = tmp_path / "out"

    def refused(words, folders=workdirs, error=ConfigError, **options):
        with pytest.raises(error, match=words):
            shape_bias.shape_bias(folders, output, say=silent, **options)
        assert not output.exists()

    refused("needs the folder of a run", [])
    refused("is given twice", [workdirs[0], workdirs[0]])
    refused("--shapes needs --textures", shapes=shapes)
    refused("--textures needs --shapes", textures=textures)
    refused("--examples is 0", examples=0)
    refused("--seed is -1", seed=-1)
    (textures / NAMES[1]).rename(textures / f"{NAMES[1]}s")
    refused("did you mean", error=DataError, shapes=shapes, textures=textures)
    (shapes / NAMES[1]).rename(shapes / f"{NAMES[1]}s")
    words = rf"'{NAMES[1]}s' of the images .* 9 classes; did you mean '{NAMES[1]}'"
    refused(words, shapes=shapes, textures=textures)
    other = tmp_path / "other"
    other.mkdir()
    small_workdirs.make(other, small_workdirs.CLASSIFICATION)
    refused("'circle_stripes' and 8 more of the images is none of the run's 3 classes", [other])


def test_marks_must_match_the_classes(tmp_path):
    line = figures.BiasLine("a", (0.5, math.nan, math.nan), [0.1, math.nan])
    path = figures.shape_bias([line], ["x", "y"], tmp_path / "a.png")
    assert path.exists()
    with pytest.raises(ValueError, match="2 marks for 1 classes"):
        figures.shape_bias([line], ["x"], tmp_path / "b.png")
