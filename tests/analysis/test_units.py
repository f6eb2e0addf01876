"""What channels respond to."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_workdirs
from model_variables import variables_of
from PIL import Image

from vitjax import models, weights
from vitjax.analysis import looking, subjects, units
from vitjax.cli import main
from vitjax.core.errors import ConfigError
from vitjax.data import DataError
from vitjax.models import Model
from vitjax.training import runs
from vitjax.training.finite import NotFiniteError

IMAGES = np.random.default_rng(0).normal(size=(7, 6, 8, 3)).astype(np.float32)


class Redness(Model):
    """Channel 0 is red less green where blue is positive, channel 1 its opposite."""

    map_name = "maps"
    image_kernels = ("first/kernel",)

    @nn.compact
    def __call__(self, x, train=False):
        nn.Conv(3, (3, 3), name="first")(x)
        difference = x[..., 0] - x[..., 1] + 0.1 * jnp.tanh(x[..., 2])
        maps = jnp.stack([difference, -difference], axis=-1)
        self.sow("intermediates", "maps", maps)
        return maps.mean((1, 2))


@pytest.fixture(scope="module")
def made():
    model = Redness()
    return model, jax.jit(model.init)(jax.random.key(0), IMAGES[:1])


def test_kernels_are_those_of_the_first_layer(made):
    found = units.first_kernels(*made)
    kernel = np.asarray(made[1]["params"]["first"]["kernel"])
    assert set(found) == {"first/kernel"}
    np.testing.assert_array_equal(found["first/kernel"][2], kernel[..., 2])
    with pytest.raises(ConfigError, match="MLP has no kernels that read an image"):
        units.first_kernels(models.create("mlp_sinusoid"), {"params": {}})


def test_the_images_that_excite_most_are_those_of_a_search(made):
    batches = [IMAGES[:4], IMAGES[4:]]
    found = units.most_exciting(*made, batches, (1, 0), count=5)
    difference = IMAGES[..., 0] - IMAGES[..., 1] + 0.1 * np.tanh(IMAGES[..., 2])
    for row, maps in enumerate((-difference, difference)):
        largest = maps.reshape(7, -1).max(1)
        order = np.argsort(-largest)[:5]
        np.testing.assert_array_equal(found.examples[row], order)
        np.testing.assert_allclose(found.values[row], largest[order], rtol=1e-6)
        for number, place in zip(order, found.places[row], strict=True):
            assert maps[number][tuple(place)] == pytest.approx(largest[number])
    assert found.map_shape == (6, 8)
    with pytest.raises(ConfigError, match="2 channels, 0 to 1; there is no channel 2"):
        units.most_exciting(*made, batches, (2,))
    with pytest.raises(ConfigError, match="no images"):
        units.most_exciting(*made, [], (0,))


def test_an_image_is_driven_to_its_bounds(made):
    bounds = np.array([-1.0, -2.0, -3.0]), np.array([2.0, 3.0, 4.0])
    options = {"key": jax.random.key(0), "bounds": bounds, "steps": 600, "learning_rate": 0.02}
    images, means = units.maximise(*made, (6, 8, 3), (0, 1), **options)
    assert images.shape == (2, 6, 8, 3)
    assert np.all((images >= bounds[0]) & (images <= bounds[1]))
    # White of one colour and black of the other; blue adds a tenth at most.
    assert means[0] == pytest.approx(2 + 2, abs=0.2)
    assert means[1] == pytest.approx(3 + 1, abs=0.2)
    again, _ = units.maximise(*made, (6, 8, 3), (0, 1), **options)
    np.testing.assert_array_equal(again, images)
    for wrong in ({"channels": (0, 5)}, {"channels": (0,), "layer": "map"}):
        with pytest.raises(ConfigError, match=r"no channel 5|did you mean 'maps'"):
            units.maximise(*made, (6, 8, 3), **wrong, key=jax.random.key(0))


def test_tokens_have_the_places_of_their_patches():
    fields = {"width": 8, "depth": 1, "num_heads": 2, "patch_size": 2, "num_classes": 3}
    model = models.create("vit_ti16", **fields)
    variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    maps = jax.eval_shape(
        lambda v, x: units.feature_maps(model, v, x, "encoder/block_0/after_mlp"), variables, IMAGES
    )
    assert maps.shape == (7, 3, 4, 8)


def test_figures_of_a_run(tmp_path, capsys):
    model = {"name": "conv4_omniglot_pooled", "filters": 3, "depth": 1, "pooling": "mean"}
    workdir, photos, output = tmp_path / "run", tmp_path / "photos", tmp_path / "units"
    small_workdirs.make(workdir, {**small_workdirs.CLASSIFICATION, "model": model})
    photos.mkdir()
    Image.new("L", (8, 8), 90).save(photos / "a.png")
    arguments = ["units", f"--workdir={workdir}", f"--output={output}", "--steps=2"]
    arguments += [str(photos), "--split=val"]
    for wrong in ("5-3", "0-9999999", "a", ""):
        with pytest.raises(SystemExit):
            main([*arguments, f"--channels={wrong}"])
        assert "must be numbers, such as 0,3,8-11" in capsys.readouterr().err
    assert main([*arguments, "--channels=1,1"]) == 2
    assert "one is given twice" in capsys.readouterr().err
    assert main([*arguments, "--channels=0,4-5"]) == 2
    assert "3 channels, 0 to 2; there is no channel 4" in capsys.readouterr().err
    assert main([*arguments, "--layer=stag1"]) == 2
    assert "no layer 'stag1'" in capsys.readouterr().err
    assert main([*arguments, "--channels=0-1", "--split=vla"]) == 2
    assert "did you mean 'val'" in capsys.readouterr().err
    assert not output.exists()
    assert main([*arguments, "--channels=0-1", "--count=3"]) == 0
    assert {path.name for path in output.iterdir() if not path.name.startswith(".")} == {
        *(looking.KERNELS, looking.EXCITING, looking.MAXIMISED, looking.RESULTS, "a.png")
    }
    found = json.loads((output / looking.RESULTS).read_text())
    assert [each["channel"] for each in found["channels"]] == [0, 1]
    assert all(len(each["examples"]) == 3 and "maximum" in each for each in found["channels"])
    # Of two files the second one is cut short, after a head that says what it is.
    Image.new("RGB", (8, 8), (1, 2, 3)).save(photos / "b.bmp")
    (photos / "b.bmp").write_bytes((photos / "b.bmp").read_bytes()[:-9])
    other = tmp_path / "other"
    assert main([*arguments, f"--output={other}"]) == 2
    assert "b.bmp" in capsys.readouterr().err
    assert not other.exists()
    (photos / "b.bmp").unlink()
    assert main([*arguments, f"--output={other}", "--steps=0"]) == 0
    found = json.loads((other / looking.RESULTS).read_text())
    assert [each["channel"] for each in found["channels"]] == [0, 1, 2]  # all there are


def test_figures_of_a_file_of_weights(tmp_path, capsys):
    model = models.create("lenet5")
    variables = variables_of(model, jnp.zeros((1, *models.input_shape("lenet5"))))
    file, photos = tmp_path / "lenet5.safetensors", tmp_path / "photos"
    weights.save(variables, model, file, say=lambda words: None)
    photos.mkdir()
    for value in range(5):
        Image.new("L", (40, 32), 50 * value).save(photos / f"{value}.png")
    arguments = ["units", "--model=lenet5", f"--checkpoint={file}", "--steps=0", "--channels=0,3"]
    arguments += [f"--output={tmp_path / 'units'}"]
    assert main([*arguments, "--split=test", f"--data={photos}"]) == 2
    assert "--split=test is of the data of a run, not for --data" in capsys.readouterr().err
    assert main([*arguments, "--split=test"]) == 2
    assert "not for --model=lenet5" in capsys.readouterr().err
    assert main([*arguments, f"--workdir={tmp_path}"]) == 2
    assert "are both given" in capsys.readouterr().err
    assert not (tmp_path / "units").exists()
    assert main([*arguments, "--data="]) == 2
    assert main([*arguments, str(photos / "0.png"), "--steps=0", "--channels=99"]) == 2
    assert "there is no channel 99" in capsys.readouterr().err
    assert not (tmp_path / "units").exists()
    # Of five images the one that is damaged is not among the three that are tried.
    (photos / "1.png").write_bytes(b"damaged")
    assert main([*arguments, f"--data={photos}", "--examples=3", "--count=2"]) == 0
    found = json.loads((tmp_path / "units" / looking.RESULTS).read_text())
    assert (found["model"], found["checkpoint"]) == ("lenet5", str(file))
    assert found["split"] is None
    tried = [str(photos / f"{value}.png") for value in (0, 2, 4)]
    subject = subjects.of_file("lenet5", file, say=lambda words: None)
    images = subject.normalize(np.stack([subject.read(each) for each in tried]))
    maps = np.asarray(units.feature_maps(*subject.networks[subjects.ONLY], images))
    for each in found["channels"]:
        largest = maps[..., each["channel"]].max((1, 2))
        order = np.argsort(-largest, kind="stable")[:2]
        assert each["examples"] == [tried[number] for number in order]
        np.testing.assert_allclose(each["values"], largest[order], rtol=1e-5)
    # What an earlier command drew and this one does not is no result of this one.
    assert main([*arguments, str(photos / "0.png")]) == 0
    names = {path.name for path in (tmp_path / "units").iterdir() if path.name[0] != "."}
    assert names == {looking.KERNELS, looking.RESULTS, "0.png"}
    (photos / "0.png").rename(photos / "kernels.png")
    assert main([*arguments, str(photos / "kernels.png")]) == 2
    assert "has the name of a figure that the command writes" in capsys.readouterr().err


def test_a_network_without_a_head_has_channels_and_no_classes(tmp_path, capsys):
    model = models.create("lenet5").headless()
    variables = variables_of(model, jnp.zeros((1, *models.input_shape("lenet5"))))
    file, photo = tmp_path / "headless.safetensors", tmp_path / "a.png"
    weights.save(variables, model, file, say=lambda words: None)
    Image.new("L", (32, 32), 90).save(photo)
    arguments = ["--model=lenet5", f"--checkpoint={file}", str(photo), f"--output={tmp_path / 'o'}"]
    assert main(["explain", *arguments]) == 2
    assert "headless.safetensors has no head" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
    assert main(["units", *arguments, "--steps=0"]) == 0


def nan_maps(*arguments, plain=units.feature_maps):
    return plain(*arguments) * jnp.nan


# Exciting images come first: of the others theirs have to be finite.
FINITE = units.Exciting(np.zeros((1, 1), int), np.ones((1, 1)), np.zeros((1, 1, 2), int), (1, 1))


@pytest.mark.parametrize(
    ("broken", "options", "named"),
    [
        ({"feature_maps": nan_maps}, {"data": "a.png", "steps": 0}, "^layer"),
        (
            {"feature_maps": nan_maps, "most_exciting": lambda *_: FINITE},
            {"data": "a.png", "files": "a.png", "steps": 0},
            r"a\.png: layer",
        ),
        (
            {"maximise": lambda *_, **__: (np.zeros((1, 8, 8, 1)), [np.nan])},
            {"data": "a.png"},
            "^layer",
        ),
    ],
    ids=["exciting", "image", "maximised"],
)
def test_what_is_not_finite_is_told_and_nothing_is_written(
    tmp_path, broken, options, named, monkeypatch
):
    small_workdirs.make(tmp_path / "run", small_workdirs.CLASSIFICATION)
    Image.new("L", (8, 8), 90).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    for name, value in broken.items():
        monkeypatch.setattr(units, name, value)
    with pytest.raises(NotFiniteError, match=f"{named}.* gives values that are NaN"):
        looking.look("run", "units", channels=(0,), say=lambda words: None, **options)
    assert not (tmp_path / "units").exists()


def test_images_of_several_sizes_are_not_tried_together(tmp_path):
    workdir, photos = tmp_path / "run", tmp_path / "photos"
    small_workdirs.make(workdir, small_workdirs.SEGMENTATION)
    photos.mkdir()
    for number, size in enumerate([(32, 32), (48, 32)]):
        Image.new("L", size, 90).save(photos / f"{number}.png")
    with pytest.raises(DataError, match=r"1\.png has 32x48 pixels .* must have one size"):
        looking.look(workdir, tmp_path / "o", data=photos, steps=0, say=lambda words: None)


def test_arguments_of_the_functions_are_checked(made):
    (model, variables), images = made, IMAGES
    for words, options in (
        ("channels is \\[\\]; it must be", {"channels": []}),
        ("channels\\[0\\] is 1.5; it must be an integer", {"channels": [1.5]}),
        ("there is no channel -1", {"channels": [-1]}),
        ("count is -1; it must be at least 1", {"count": -1}),
        ("there are no images", {"batches": [images[:0]]}),
    ):
        given = {"batches": [images], "channels": [0], **options}
        with pytest.raises(ConfigError, match=words):
            units.most_exciting(model, variables, **given)
    for words, options in (
        ("steps is -1; it must be at least 0", {"steps": -1}),
        ("shape is \\(8, 8\\); it must be", {"shape": (8, 8)}),
        ("channels is \\[\\]; it must be", {"channels": []}),
    ):
        given = {"shape": images.shape[1:], "channels": [0], "steps": 1, **options}
        with pytest.raises(ConfigError, match=words):
            units.maximise(model, variables, key=jax.random.key(0), **given)


def test_few_shot_runs_are_looked_at_by_their_exported_weights(tmp_path):
    small_workdirs.make(tmp_path / "run", small_workdirs.FEW_SHOT)
    with pytest.raises(ConfigError, match=r"units: .* few-shot learning.*vitjax export"):
        looking.look(tmp_path / "run", tmp_path / "o", say=lambda words: None)


def test_a_run_is_looked_at_without_its_data(tmp_path, monkeypatch):
    workdir, photos = tmp_path / "run", tmp_path / "photos"
    small_workdirs.make(workdir, small_workdirs.CLASSIFICATION)
    photos.mkdir()
    Image.new("L", (8, 8), 90).save(photos / "a.png")
    called = {}
    load = runs.load
    monkeypatch.setattr(runs, "load", lambda *a, **k: called.update(k) or load(*a, **k))
    found = looking.look(workdir, tmp_path / "units", data=photos, steps=0, say=lambda words: None)
    assert not called["with_data"]
    assert found["channels"][0]["examples"] == [str(photos / "a.png")]
