"""Maps for image files by a run's model: what is drawn, written and refused."""

import json

import numpy as np
import pytest
import small_workdirs
from PIL import Image

from vitjax import figures, models
from vitjax.analysis import explaining, subjects
from vitjax.analysis.explainer import Explainer, Explanation
from vitjax.analysis.faithfulness import Randomised
from vitjax.cli import main
from vitjax.core.errors import ConfigError
from vitjax.data import DataError

RNG = np.random.default_rng(0)
# A last map of more than a pixel, and a mean that the head reads.
MODEL = {"name": "conv4_omniglot_pooled", "filters": 2, "depth": 1, "pooling": "mean"}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    small_workdirs.make(folder, {**small_workdirs.CLASSIFICATION, "model": MODEL})
    return folder


@pytest.fixture(scope="module")
def name(workdir):
    """Of a class of the run."""
    return json.loads((workdir / "data.json").read_text())["class_names"][1]


@pytest.fixture
def photos(tmp_path, name):
    folder = tmp_path / "photos" / name
    folder.mkdir(parents=True)
    for name in "ab":
        Image.fromarray(RNG.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


def explained(workdir, photos, *methods, **options):
    return explaining.explain(workdir, str(photos), methods, say=lambda text: None, **options)


def test_a_figure_and_the_maps_of_each_image_are_written(workdir, photos, name, tmp_path, capsys):
    output = tmp_path / "explained"
    arguments = [f"--workdir={workdir}", str(photos), f"--output={output}"]
    compare = "--compare=grad_cam,saliency,lime"
    assert main(["explain", *arguments, compare, "--class=true"]) == 0
    printed = capsys.readouterr().out
    assert f"a.png: {name} " in printed
    assert [line.split()[0] for line in printed.splitlines()[3:-1]] == [
        *("grad_cam", "saliency", "lime", "centre", "random")
    ]
    assert {p.name for p in output.iterdir() if not p.name.startswith(".")} >= {
        *("a.png", "a.npz", "b.png", "b.npz", "explanations.json")
    }
    with np.load(output / "a.npz") as maps:
        assert set(maps) == {"grad_cam", "saliency", "lime"}
        assert all(one.shape == (8, 8) for one in maps.values())
    found = json.loads((output / "explanations.json").read_text())
    assert [each["class_name"] for each in found] == [name, name]
    assert all(0 <= area <= 1 for area in found[0]["areas"]["random"].values())
    # The same command again replaces its own files, and no others.
    assert main(["explain", *arguments, compare, "--class=true"]) == 0
    (output / "a.png").write_bytes(b"mine")
    assert main(["explain", *arguments, "--method=cam"]) == 2
    assert (output / "a.png").read_bytes() == b"mine"


def test_what_cannot_be_explained_is_refused_before_anything_is_written(workdir, photos, tmp_path):
    output = tmp_path / "out"

    def refused(words, *methods, error=ConfigError, **options):
        with pytest.raises(error, match=words):
            explained(workdir, photos, *methods, output=output, **options)
        assert not output.exists()

    refused("unknown method 'gradcam'; did you mean 'grad_cam'", "gradcam")
    refused("class '7' is none of the 3 classes", "grad_cam", target="7")
    refused("has no layer 'blok1'; did you mean 'block1'", "grad_cam", layer="blok1")
    refused("saliency does not read a layer", "saliency", layer="block1")
    refused("a Conv4 has no self-attention", "rollout")
    refused("attention takes the number of a layer", "attention", layer="block1")
    refused(r"'sze'.*did you mean 'size'", "occlusion", sze=3)
    refused("options .* of a single method", "occlusion", "cam", size=3)
    refused(r"known: .*; or top or true\)$", "grad_cam", target="none")
    refused("no method is named")
    refused("unknown method ''", "")
    refused("has no layer ''", "grad_cam", layer="")
    refused("stride is 3; it must be at most size", "occlusion", size=2, stride=3)
    (photos / "c.png").write_bytes((photos / "a.png").read_bytes()[:40])
    refused("cannot be read", "grad_cam", error=DataError)
    # Cut short after a head that says what it is.
    (photos / "c.png").unlink()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(photos / "c.bmp")
    (photos / "c.bmp").write_bytes((photos / "c.bmp").read_bytes()[:-9])
    refused("c.bmp", "grad_cam", error=DataError)
    (photos / "c.bmp").unlink()


def test_what_a_comparison_needs(workdir, photos, capsys):
    arguments = ["explain", f"--workdir={workdir}", str(photos)]
    assert main([*arguments, "--method=cam", "--compare=grad_cam,saliency"]) == 2
    assert "add cam to the methods of --compare" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*arguments, "--compare=grad_cam, grad_cam"])
    assert "must be at least two methods" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "explain", "predict", "report", "units"])
def test_an_empty_path_is_no_folder(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--workdir="])
    assert "argument --workdir: the path is empty" in capsys.readouterr().err


def test_the_folder_of_an_image_is_its_class(workdir, photos, name, tmp_path):
    (found, _) = explained(workdir, photos, "grad_cam", target="true")
    assert found.class_name == name
    other = photos.rename(photos.parent / "none")
    with pytest.raises(ConfigError, match="the folder 'none' for the class"):
        explained(workdir, other, "grad_cam", target="true", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_segmentation_is_explained(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    small_workdirs.make(folder, small_workdirs.SEGMENTATION)
    path = tmp_path / "cell.png"
    Image.fromarray(RNG.integers(0, 256, (32, 32), dtype=np.uint8)).save(path)
    (found,) = explained(folder, path, "grad_cam")
    assert found.maps["grad_cam"].shape == (32, 32)
    (both,) = explained(folder, path, "grad_cam", "saliency")
    assert set(both.maps) == {"grad_cam", "saliency"}
    assert both.areas == {}
    with pytest.raises(ConfigError, match="which a segmentation does not have"):
        explained(folder, path, "grad_cam", faithful=True)


def test_few_shot_runs_are_refused(tmp_path, photos):
    folder = tmp_path / "run"
    folder.mkdir()
    small_workdirs.make(folder, small_workdirs.FEW_SHOT)
    with pytest.raises(ConfigError, match="by a support set: give --support=DIR"):
        explained(folder, photos, "grad_cam")


@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0])
def test_a_map_of_any_numbers_is_drawn(value, tmp_path):
    image = RNG.random((6, 9, 3))
    path = figures.explanation(image, {"a": np.full((6, 9), value)}, tmp_path / "one.png")
    with Image.open(path) as drawn:
        assert drawn.width > 300
    with pytest.raises(ValueError, match="a map of"):
        figures.explanation(image, {"a": np.zeros((9, 6))}, tmp_path / "two.png")


def test_random_layers_change_maps_and_masks_are_pointed_at(workdir, photos, tmp_path, capsys):
    masks, output = tmp_path / "masks", tmp_path / "out"
    masks.mkdir()
    # The object of the second image is in the corner that is opposite to where its map points.
    found = explained(workdir, photos, "grad_cam")[1].maps["grad_cam"]
    corner = tuple(np.where(np.array(np.unravel_index(found.argmax(), (8, 8))) > 3, 0, 7))
    for stem, place in (("a", np.s_[:]), ("b", corner)):
        mask = np.zeros((8, 8), np.uint8)
        mask[place] = 1
        drawn = mask if stem == "b" else np.stack([200 * mask, 0 * mask, mask], axis=-1)
        Image.fromarray(drawn).save(masks / f"{stem}.png")
    arguments = [f"--workdir={workdir}", str(photos), f"--output={output}"]
    assert main(["explain", *arguments, "--randomise", f"--masks={masks}"]) == 0
    table = capsys.readouterr().out.splitlines()[2:-1]
    assert [line.split()[:2] for line in table] == [
        ["map", "pointing"], ["grad_cam", "0.500"], ["centre", "0.500"], ["random", "0.500"],
    ]  # fmt: skip
    found = json.loads((output / "explanations.json").read_text())
    assert found[0]["pointing"] == {"grad_cam": True, "centre": True, "random": True}
    rows = found[0]["randomised"]["grad_cam"]
    assert [(row["random_layers"], row["of"]) for row in rows] == [(0, 2), (1, 2), (2, 2)]
    np.testing.assert_allclose(rows[0]["rank_correlation"], 1)
    assert (output / "a_randomised.png").is_file()
    with Image.open(output / "a_randomised.png") as drawn:
        assert drawn.width > drawn.height
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(masks / "b.png")
    with pytest.raises(DataError, match=r"b.png: the mask of .*b.png has no object"):
        explained(workdir, photos, "grad_cam", masks=masks)
    (masks / "b.png").unlink()
    with pytest.raises(ConfigError, match=r"not for '.*b.png': a mask is"):
        explained(workdir, photos, "grad_cam", masks=masks)
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(masks / "b.png")
    with pytest.raises(DataError, match=r"the mask has 9x8 pixels, and its image .* 8x8"):
        explained(workdir, photos, "grad_cam", masks=masks)
    with pytest.raises(ConfigError, match="no such folder"):
        explained(workdir, photos, "grad_cam", masks=tmp_path / "none")


def test_a_mask_is_needed_for_each_image():
    lenet = models.create("lenet5", num_classes=3)
    explainer = Explainer(subjects.of_model(lenet, {}, np.asarray, "abc"), "saliency")
    images = np.zeros((2, 8, 8, 1))
    for masks, words in (
        (np.ones((1, 8, 8), bool), "masks: 1 for 2 images"),
        ([np.ones((8, 8), bool), np.zeros((8, 8), bool)], "masks: mask 1 has no object"),
    ):
        with pytest.raises(ConfigError, match=words):
            next(explainer.explanations(images, masks=masks))


def test_an_undefined_correlation_is_null_in_json():
    undefined = Randomised(0, 1, np.zeros((1, 4, 4)), np.array([np.nan]))
    found = Explanation("a.png", "a", 0.5, {}, {}, {}, randomised={"grad_cam": [undefined]})
    (row,) = json.loads(json.dumps(found.summary(), allow_nan=False))["randomised"]["grad_cam"]
    assert row == {"random_layers": 0, "of": 1, "rank_correlation": None}


def test_mistakes_on_the_command_line_are_reported_in_words(workdir, photos, capsys):
    def refused(words, *arguments, files=photos):
        assert main(["explain", f"--workdir={workdir}", str(files), *arguments]) == 2
        assert words in capsys.readouterr().err

    refused("did you mean 'grad_cam'", "--method=grad_cm")
    refused("did you mean 'block1'", "--layer=blok1")
    refused("has no self-attention", "--method=attention")
    refused("did you mean 'size'", "--method=occlusion", "--option=sise=3")
    refused("size is 'big'", "--method=occlusion", "--option=size=big")
    refused("layer is no argument of a method", "--option=layer=block1")
    refused("is none of the 3 classes", "--class=3x")
    refused("no file or folder", files=photos / "none.png")


def test_a_cascade_is_drawn(tmp_path):
    image = RNG.random((6, 9, 3))
    maps = {"a": np.zeros((2, 6, 9)), "b": np.full((2, 6, 9), np.nan)}
    likenesses = {"a": [1.0, -0.3], "b": [1.0, np.nan]}
    path = figures.randomisation(image, maps, likenesses, [0, 3], tmp_path / "c.png", groups=3)
    with Image.open(path) as drawn:
        assert drawn.width > 300
    with pytest.raises(ValueError, match=r"maps of \(2, 6, 9\) with 2 similarities for 1 columns"):
        figures.randomisation(image, maps, likenesses, [0], tmp_path / "d.png", groups=3)
